"""The ``none`` network driver: a namespace with ``lo`` and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from plugrun.api import ApiVersion, DriverSpec, NetworkDriver, hookimpl


def _make(_state_dir: Path, _options: Any) -> NetworkDriver:
    from plugrun_net_none.driver import IsolatedDriver

    return IsolatedDriver()


def _probe(_state_dir: Path) -> str | None:
    return None  # every kernel that runs containers has network namespaces


@hookimpl
def plugrun_network_drivers() -> Iterable[DriverSpec[NetworkDriver]]:
    """Declare the driver."""
    return [DriverSpec("none", _make, _probe, api=ApiVersion(1, 0), priority=10)]
