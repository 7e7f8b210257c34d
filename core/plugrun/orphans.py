"""Snapshots in storage drivers that no record names: what is left when a crash and a power cut come together.

Usually a record says what a killed process was making, and ``reconcile`` removes it. These are found by the looks of
their keys alone: of a container that there is no more, or of an image that it had mounted, of a container that has
another one by now, of no volume.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from plugrun import locks, names
from plugrun.api import NotFound, SnapshotKind, StorageDriver

if TYPE_CHECKING:
    from plugrun.engine import Engine


def orphans(engine: Engine, driver: StorageDriver) -> list[str]:
    """Return the keys of a driver that are made as the engine makes them and that no record names.

    The driver is asked first: a record comes before its snapshot, so whatever is seen has its record by then.
    """
    keys = [info.name for info in driver.walk() if info.kind is SnapshotKind.ACTIVE and _is_ours(info.name)]
    known = engine.snapshots.known()
    return [key for key in keys if key not in known and not _in_use(engine, key)]


def remove_orphans(engine: Engine, driver: StorageDriver) -> list[str]:
    """Remove them; return their keys. Those of a container that somebody is at work on stay for the next time."""
    return [key for key in orphans(engine, driver) if _remove(engine, driver, key)]


def _is_ours(key: str) -> bool:
    return any(re.match(form, key) for form in (names.SNAPSHOT_KEY, names.IMAGE_KEY, names.VOLUME_KEY))


def _in_use(engine: Engine, key: str) -> bool:
    """Whether a key is of an image in a container that there is: those go when it ends, and no record names them."""
    match = re.match(names.IMAGE_KEY, key)
    return match is not None and engine.containers.get(match["container"]) is not None


def _remove(engine: Engine, driver: StorageDriver, key: str) -> bool:
    with _alone(engine, key) as alone:
        if not alone or key in engine.snapshots.known() or _in_use(engine, key):
            return False
        with contextlib.suppress(NotFound):
            driver.remove(key)
        return True


@contextlib.contextmanager
def _alone(engine: Engine, key: str) -> Iterator[bool]:
    """Hold the lock of the container that a key is of, if that is free; a volume's needs none."""
    match = re.match(names.SNAPSHOT_KEY, key) or re.match(names.IMAGE_KEY, key)
    if match is None:
        yield True
        return
    path = engine.paths.lock(match["container"])
    lock = locks.try_acquire(path)
    if lock is None:
        yield False
        return
    try:
        yield True
    finally:
        if engine.containers.get(match["container"]) is None:
            path.unlink(missing_ok=True)
        os.close(lock)
