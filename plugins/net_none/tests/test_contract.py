from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugrun.testing import NetworkContract
from plugrun_net_none import plugrun_network_drivers

if TYPE_CHECKING:
    from pathlib import Path

    from plugrun.api import NetworkDriver


@pytest.mark.root
class TestContract(NetworkContract):
    """The conformance kit on the none driver, opened through its declaration."""

    bad_targets = ("web", "")

    def open(self, state: Path) -> NetworkDriver:
        (spec,) = plugrun_network_drivers()
        return spec.factory(state, None)
