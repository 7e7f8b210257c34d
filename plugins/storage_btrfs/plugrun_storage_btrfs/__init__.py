"""The ``btrfs`` storage driver: announced, not written yet. Its probe says so, and what to use meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from plugrun.api import ApiVersion, DriverSpec, StorageDriver, Unavailable, hookimpl

_REASON = "plugrun 0.1.0 only announces the btrfs driver; it comes with a later release"
_HINT = "use --storage overlay"


def _make(_state_dir: Path, _options: Any) -> NoReturn:
    raise Unavailable(_REASON, hint=_HINT)


def _probe(_state_dir: Path) -> str | None:
    return f"{_REASON}; {_HINT}"


@hookimpl
def plugrun_storage_drivers() -> Iterable[DriverSpec[StorageDriver]]:
    """Declare the driver."""
    return [DriverSpec("btrfs", _make, _probe, api=ApiVersion(1, 0), priority=40)]
