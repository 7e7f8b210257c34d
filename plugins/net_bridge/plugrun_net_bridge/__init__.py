"""The ``bridge`` network driver: containers on bridges of the host, behind rules of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from plugrun.api import ApiVersion, DriverSpec, NetworkDriver, hookimpl

if TYPE_CHECKING:
    from pathlib import Path


def _make(state_dir: Path, _options: Any) -> NetworkDriver:
    from plugrun_net_bridge.driver import BridgeDriver

    return BridgeDriver(state_dir)


def _probe(_state_dir: Path) -> str | None:
    from plugrun_net_bridge.probe import probe

    return probe()


@hookimpl
def plugrun_network_drivers() -> Iterable[DriverSpec[NetworkDriver]]:
    """Declare the driver."""
    supports = frozenset({"networks", "ports", "reload", "explain"})
    return [DriverSpec("bridge", _make, _probe, api=ApiVersion(1, 0), priority=100, supports=supports)]
