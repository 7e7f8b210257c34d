"""The ``overlay`` storage driver: layers as directories, stacked by the kernel's overlay file system."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from plugrun.api import ApiVersion, DriverSpec, PoolSpec, StorageDriver, hookimpl

if TYPE_CHECKING:
    from pathlib import Path

_SMALLEST_POOL = 300 << 20  # mkfs.xfs(8): less is refused since xfsprogs 5.19


def _make(state_dir: Path, _options: Any) -> StorageDriver:
    from plugrun_storage_overlay.driver import OverlayDriver

    return OverlayDriver(state_dir)


def _probe(state_dir: Path) -> str | None:
    from plugrun_storage_overlay.probe import probe

    return probe(state_dir)


def _make_pool(file: Path) -> None:
    from plugrun_storage_overlay.pool import make

    make(file)


def _grow_pool(mount_point: Path) -> None:
    from plugrun_storage_overlay.pool import grow

    grow(mount_point)


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
            supports=frozenset({"changes", "clone", "gc", "layer-dir", "quota"}),
            pool=PoolSpec("xfs", ("discard", "noatime"), _make_pool, _grow_pool, _SMALLEST_POOL, ("prjquota",)),
        )
    ]
