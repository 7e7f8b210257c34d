from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugrun.testing import NetworkContract
from plugrun_net_bridge import plugrun_network_drivers

if TYPE_CHECKING:
    from pathlib import Path

    from plugrun.api import NetworkDriver


@pytest.mark.root
class TestContract(NetworkContract):
    """The conformance kit on the bridge driver, opened through its declaration."""

    bad_targets = ("",)
    features = frozenset({"meet", "isolated", "reach-host", "reach-out"})

    def open(self, state: Path) -> NetworkDriver:
        (spec,) = plugrun_network_drivers()
        return spec.factory(state, None)
