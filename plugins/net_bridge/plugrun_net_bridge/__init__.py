"""The ``bridge`` network driver: announced, not written yet. Its probe says so, and what to use meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from plugrun.api import ApiVersion, DriverSpec, NetworkDriver, Unavailable, hookimpl

_REASON = "plugrun 0.1.0 only announces the bridge driver; it comes with a later release"
_HINT = "use --net host or --net none"


def _make(_state_dir: Path, _options: Any) -> NoReturn:
    raise Unavailable(_REASON, hint=_HINT)


def _probe(_state_dir: Path) -> str | None:
    return f"{_REASON}; {_HINT}"


@hookimpl
def plugrun_network_drivers() -> Iterable[DriverSpec[NetworkDriver]]:
    """Declare the driver."""
    return [DriverSpec("bridge", _make, _probe, api=ApiVersion(1, 0), priority=50)]
