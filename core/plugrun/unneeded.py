"""Layers that nothing needs any more, and what killed processes left: removed while others unpack and create."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from plugrun import locks
from plugrun.api import FailedPrecondition, NotFound, SnapshotKind, StorageDriver, SupportsGC
from plugrun.snapshots import AT_WORK, STAGING_PREFIX, at_work, chain_ids, lock_of

if TYPE_CHECKING:
    from pathlib import Path

    from plugrun.images.image import Image

_LAYER = re.compile(r"[0-9a-f]{64}")


def remove_unused(
    driver: StorageDriver,
    images: Callable[[], Iterable[Image]],
    *,
    lock_dir: Path,
    measure: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Remove the layers that no image and no other snapshot needs.

    :param images: returns every image there is; asked again for each layer, because a removal takes long.
    :param lock_dir: as for :func:`plugrun.snapshots.unpacked`; a layer that somebody makes or needs stays.
    :param measure: told the name of each snapshot just before an attempt to remove it.
    :return: names of the snapshots removed.
    """

    def needed() -> set[str]:
        return {name for image in images() for name in chain_ids(image.config.diff_ids)}

    removed: list[str] = []
    with at_work(lock_dir):
        kept = needed()
        layers = (info.name for info in driver.walk() if info.kind is SnapshotKind.COMMITTED)
        candidates = [name for name in layers if _LAYER.fullmatch(name) and name not in kept]
        # tops first, then what they stood on
        while freed := [name for name in candidates if _remove(driver, name, lock_dir, needed, measure)]:
            removed += freed
            candidates = [name for name in candidates if name not in freed]
    return removed


def remove_leftovers(driver: StorageDriver, *, lock_dir: Path, staging: Path, unmount: Callable[[Path], None]) -> None:
    """Remove what processes left that were killed while they made or removed layers.

    Nothing is done while another process is at such work: it may be its own, and the next call finds the rest.

    :param lock_dir: as ``staging`` and ``unmount`` for :func:`plugrun.snapshots.unpacked`.
    """
    alone = locks.try_acquire(lock_dir / AT_WORK)
    if alone is None:
        return
    try:
        for point in staging.iterdir():
            unmount(point)
            point.rmdir()
        names = {info.name for info in driver.walk()}
        left = {name for name in names if name.startswith(STAGING_PREFIX)}
        for key in left:
            driver.remove(key)
        if isinstance(driver, SupportsGC):
            driver.gc(frozenset(names - left))
    finally:
        os.close(alone)


def _remove(
    driver: StorageDriver, name: str, lock_dir: Path, needed: Callable[[], set[str]], measure: Callable[[str], None]
) -> bool:
    path = lock_of(lock_dir, name)
    lock = locks.try_acquire(path)
    if lock is None:
        return False
    try:
        # An image that is loaded from now on finds the lock taken, and then the layer gone.
        if name in needed():
            return False
        measure(name)
        driver.remove(name)
    except FailedPrecondition:  # something stands on it
        return False
    except NotFound:
        return True
    else:
        return True
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)
