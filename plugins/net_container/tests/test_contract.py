from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugrun.testing import NetworkContract
from plugrun_net_container import plugrun_network_drivers

if TYPE_CHECKING:
    from pathlib import Path

    from plugrun.api import NetworkDriver


@pytest.mark.root
class TestContract(NetworkContract):
    """The conformance kit on the container driver, opened through its declaration."""

    target = "web"
    bad_targets = (None, "")

    def open(self, state: Path) -> NetworkDriver:
        (spec,) = plugrun_network_drivers()
        return spec.factory(state, None)
