"""Where storage drivers keep their state, and how much room there is; nothing is mounted for that."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from plugrun import mounts
from plugrun.drivers import finding, state_dir
from plugrun.errors import PlugrunError
from plugrun.pools import record
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.engine import Engine
    from plugrun.pools.record import Pool

_BLOCK = 512  # unit of st_blocks, stat(2)


class Place(NamedTuple):
    """Where one storage driver keeps its state.

    :param pool: the file of its pool, if it has one.
    :param mounted: whether what it keeps can be seen: false for a pool that nobody has needed since the boot.
    :param mount_point: of the file system that its state directory is on; ``source`` and ``type`` as in mount(8).
    :param size: bytes of that file system, or of the pool's file; ``None`` where nobody can tell, as for ``used`` and
        ``available``.
    :param containers: how many are recorded as kept there, as ``snapshots`` of containers and ``volumes``.
    :param problem: why the driver does not work here.
    """

    driver: str
    state_dir: Path
    pool: Path | None
    mounted: bool
    mount_point: str
    source: str
    type: str
    size: int | None
    used: int | None
    available: int | None
    containers: int
    snapshots: int
    volumes: int
    supports: tuple[str, ...]
    problem: str | None


def survey(engine: Engine) -> list[Place]:
    """Look at every installed storage driver, and at those that are gone and have left a pool."""
    names = {*engine.plugins.storage, *record.each(engine.paths.root)}
    return [look(engine, name) for name in sorted(names)]


def look(engine: Engine, driver: str) -> Place:
    """Look at one storage driver.

    :raises NotFound: it is not installed, and has no pool.
    """
    root = engine.paths.root
    place = state_dir(root, "storage", driver)
    declared = engine.plugins.storage.get(driver)
    problem = finding("storage", declared, root) if declared else f"no storage driver {driver!r} is installed"
    pool = None
    try:
        pool = record.find(root, driver)
    except PlugrunError as error:
        problem = str(error)
    if declared is None and pool is None:
        engine.plugins.declared_storage(driver, root)  # raises, and says which there are
    mounted = pool is None or os.path.ismount(place)
    point, source, kind = mounts.covering(_nearest(place)) if mounted else (str(place), "", "")
    size, used, available = _room(_nearest(place), pool) if mounted else _file_room(pool.file if pool else place)
    return Place(
        driver=driver,
        state_dir=place,
        pool=pool.file if pool else None,
        mounted=mounted,
        mount_point=point,
        source=source,
        type=kind,
        size=size,
        used=used,
        available=available,
        containers=sum(one.storage == driver for one in engine.containers.all()),
        snapshots=sum(one.storage == driver for one in engine.snapshots.all()),
        volumes=sum(one.storage == driver for one in engine.volumes.all()),
        supports=tuple(sorted(declared.spec.supports)) if declared else (),
        problem=problem,
    )


def _room(place: Path, pool: Pool | None) -> tuple[int, int, int]:
    """Return size, used and available; a pool cannot have more than is free where its file is."""
    disk = os.statvfs(place)
    unit = disk.f_frsize
    available = disk.f_bavail * unit
    if pool is not None:
        with contextlib.suppress(OSError):
            around = os.statvfs(pool.file.parent)
            available = min(available, around.f_bavail * around.f_frsize)
    return disk.f_blocks * unit, (disk.f_blocks - disk.f_bfree) * unit, available


def _file_room(file: Path) -> tuple[int | None, int | None, None]:
    try:
        info = file.stat()
    except OSError:
        return None, None, None
    return info.st_size, info.st_blocks * _BLOCK, None


def _nearest(path: Path) -> Path:
    while not path.is_dir():
        path = path.parent
    return path
