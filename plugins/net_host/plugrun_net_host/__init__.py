"""The ``host`` network driver: no namespace of its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from plugrun.api import ApiVersion, DriverSpec, NetworkDriver, hookimpl


def _make(_state_dir: Path, _options: Any) -> NetworkDriver:
    from plugrun_net_host.driver import HostDriver

    return HostDriver()


def _probe(_state_dir: Path) -> str | None:
    return None  # staying where one is always works


@hookimpl
def plugrun_network_drivers() -> Iterable[DriverSpec[NetworkDriver]]:
    """Declare the driver."""
    return [DriverSpec("host", _make, _probe, api=ApiVersion(1, 0), priority=0)]
