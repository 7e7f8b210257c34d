"""A new pool: recorded, made, mounted, tried out, and only then used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugrun import locks
from plugrun.drivers import describe, state_dir
from plugrun.errors import (
    AlreadyExists,
    DriverError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PlugrunError,
    Unavailable,
)
from plugrun.paths import ensure_private, sync_directory
from plugrun.pools import mounting, record
from plugrun.pools.record import Pool, State
from plugrun.sizes import shown
from plugrun.snapshots import AT_WORK
from plugrun.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable

    from plugrun.api import PoolSpec
    from plugrun.engine import Engine
    from plugrun.manager import Declared


def create(engine: Engine, driver: str, size: int, file: Path | None = None) -> Pool:
    """Make a pool for a storage driver that keeps nothing yet, and mount it.

    :param size: bytes; the file is sparse, and occupies what is written into it.
    :param file: where; ``ROOT/pools/DRIVER.img`` if not given.
    :post: on failure nothing of it is left.
    :raises NotFound: no such driver, or no directory for the file.
    :raises AlreadyExists: it has a pool, or the file exists.
    :raises FailedPrecondition: it keeps containers or layers already, or has no pools.
    :raises InvalidArgument: the size or the place makes no sense.
    :raises Unavailable: there is no room, or a program or kernel feature is missing.
    """
    root = engine.paths.root
    declared = engine.plugins.declared_storage(driver, root)
    pool_spec = _pool_of(declared)
    place = state_dir(root, "storage", driver)
    path = Path(os.path.abspath(file)) if file is not None else root / "pools" / f"{driver}.img"
    ensure_private(root / "pools")
    with record.locked(root, driver), locks.held(root / "locks" / AT_WORK, what="a layer"):
        _refuse_second(root, driver, place)
        _check_size(driver, size, pool_spec.smallest, path)
        _check_place(path, place)
        _refuse_tenants(engine, declared, place)
        planned = Pool(driver, path, State.PLANNED)
        with Undo(f"making a pool for storage driver {driver}") as undo:
            undo.push("its record", lambda: record.forget(root, planned))
            record.write(root, planned)
            _make_file(path)
            undo.push("its file", lambda: path.unlink(missing_ok=True))
            record.write(root, planned._replace(state=State.MAKING))
            _fill_file(path, size, declared, pool_spec.make)
            undo.push("its mount", lambda: _unmount(place))
            mounting.mount(planned, declared.spec, place)
            os.chmod(place, 0o700)
            sync_directory(place)
            if reason := declared.reason(place):
                raise Unavailable(f"storage driver {driver!r} cannot use a {pool_spec.type} pool here: {reason}")
            ready = planned._replace(state=State.READY)
            record.write(root, ready)
    return ready


def check_room(path: Path, more: int, size: int, hint: str = "") -> None:
    """Refuse a pool that its file system could not hold when full.

    :param path: the pool's file, or where it shall be; its directory exists.
    :param more: bytes that it may come to occupy beyond what it does now.
    :param size: bytes, for the message.
    :param hint: what to do if they are not free, where that is not to make it smaller or elsewhere.
    :raises Unavailable: they are not free.
    """
    disk = os.statvfs(path.parent)
    free = disk.f_bavail * disk.f_frsize
    if more > free:
        raise Unavailable(
            f"a pool of {shown(size)} does not fit: the file system of {path.parent} has {shown(free)} free",
            hint=hint or f"give a smaller --size, such as {max(free // 2 >> 20, 1)}m, or another disk with --file",
        )


def _pool_of(declared: Declared[Any]) -> PoolSpec:
    if declared.spec.pool is None:
        raise FailedPrecondition(
            f"storage driver {declared.spec.name!r} has no pools", hint="it keeps its state below --root"
        )
    found: PoolSpec = declared.spec.pool
    return found


def _refuse_second(root: Path, driver: str, place: Path) -> None:
    pool = record.find(root, driver)
    if pool is not None and pool.state is State.READY:
        raise AlreadyExists(
            f"storage driver {driver!r} has a pool: {pool.file}",
            hint=f"enlarge it: plugrun storage resize {driver} SIZE",
        )
    if pool is not None:  # its maker died: we hold the lock
        mounting.discard(root, pool, place)
    if os.path.ismount(place):
        raise FailedPrecondition(
            f"{place} is a file system of its own already", hint=f"use that, or unmount it: umount {place}"
        )


def _check_size(driver: str, size: int, smallest: int, path: Path) -> None:
    if size < smallest:
        raise InvalidArgument(
            f"a pool of {shown(size)} is too small for storage driver {driver!r}",
            hint=f"it needs at least {-(-smallest // (1 << 20))}m",
        )
    if not path.parent.is_dir():
        raise NotFound(f"there is no directory {path.parent} for the pool file", hint="make it first")
    check_room(path, size, size)


def _check_place(path: Path, place: Path) -> None:
    if os.path.lexists(path):
        raise AlreadyExists(f"{path} exists", hint="choose another place with --file; a pool is always made anew")
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(place)):
        raise InvalidArgument(f"the pool file cannot be in {place}, where the pool is mounted")


def _refuse_tenants(engine: Engine, declared: Declared[Any], place: Path) -> None:
    """Refuse to cover what a driver keeps; its empty directories may be covered."""
    driver = declared.spec.name
    names: list[str] = []
    if place.is_dir() and os.listdir(place):
        if declared.reason(place) is not None:
            names = [place.name]
        else:
            opened = engine.plugins.open_storage(declared, engine.paths.root, {})
            try:
                names = [info.name for info in opened.walk()]
            finally:
                opened.close()
    if names:
        raise FailedPrecondition(
            f"storage driver {driver!r} keeps containers or layers in {place} already, which a pool would cover",
            hint="remove its containers and images first: plugrun rm, plugrun rmi",
        )


def _make_file(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise AlreadyExists(f"{path} exists", hint="choose another place with --file") from None
    except OSError as error:
        raise Unavailable(f"cannot make the pool file {path}: {error.strerror}") from error


def _fill_file(path: Path, size: int, declared: Declared[Any], make: Callable[[Path], None]) -> None:
    """Give the file its size and its file system, and have both survive a power cut."""
    try:
        os.truncate(path, size)
    except OSError as error:
        raise Unavailable(f"the pool file {path} cannot be of {shown(size)}: {error.strerror}") from error
    try:
        make(path)
    except PlugrunError:
        raise
    except Exception as error:
        raise DriverError(f"storage driver {declared.spec.name!r} cannot make its pool: {describe(error)}") from error
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def _unmount(place: Path) -> None:
    from plugrun import mounts

    mounts.unmount(str(place))
