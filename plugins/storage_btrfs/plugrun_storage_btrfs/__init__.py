"""The ``btrfs`` storage driver: a subvolume for every layer, a snapshot of one for every container."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from plugrun.api import ApiVersion, DriverSpec, PoolSpec, StorageDriver, hookimpl

if TYPE_CHECKING:
    from pathlib import Path

_SMALLEST_POOL = 256 * 2**20  # mkfs.btrfs makes one of 109 MiB, which holds little more than its own metadata


def _make(state_dir: Path, _options: Any) -> StorageDriver:
    from plugrun_storage_btrfs.probe import require

    require(state_dir)
    from plugrun_storage_btrfs.driver import BtrfsDriver

    return BtrfsDriver(state_dir)


def _probe(state_dir: Path) -> str | None:
    from plugrun_storage_btrfs.probe import probe

    return probe(state_dir)


def _make_pool(file: Path) -> None:
    from plugrun_storage_btrfs.pool import make

    make(file)


def _grow_pool(mount_point: Path) -> None:
    from plugrun_storage_btrfs.pool import grow

    grow(mount_point)


@hookimpl
def plugrun_storage_drivers() -> Iterable[DriverSpec[StorageDriver]]:
    """Declare the driver."""
    return [
        DriverSpec(
            "btrfs",
            _make,
            _probe,
            api=ApiVersion(1, 0),
            priority=40,
            supports=frozenset({"clone", "changes", "quota", "gc"}),
            pool=PoolSpec("btrfs", ("noatime",), _make_pool, _grow_pool, _SMALLEST_POOL),
        )
    ]
