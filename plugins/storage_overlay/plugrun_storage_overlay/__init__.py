"""The ``overlay`` storage driver: layers as directories, stacked by the kernel's overlay file system."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from plugrun.api import ApiVersion, DriverSpec, StorageDriver, hookimpl

if TYPE_CHECKING:
    from pathlib import Path


def _make(state_dir: Path, _options: Any) -> StorageDriver:
    from plugrun_storage_overlay.driver import OverlayDriver

    return OverlayDriver(state_dir)


def _probe(state_dir: Path) -> str | None:
    from plugrun_storage_overlay.probe import probe

    return probe(state_dir)


@hookimpl
def plugrun_storage_drivers() -> Iterable[DriverSpec[StorageDriver]]:
    """Declare the driver."""
    return [
        DriverSpec(
            "overlay",
            _make,
            _probe,
            api=ApiVersion(1, 0),
            priority=50,
            supports=frozenset({"changes", "clone", "gc", "layer-dir"}),
        )
    ]
