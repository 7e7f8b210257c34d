"""Pools that exist: made larger, and removed."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any

from plugrun import linux, loop
from plugrun.drivers import describe, state_dir
from plugrun.errors import DriverError, FailedPrecondition, InvalidArgument, PlugrunError, Unavailable
from plugrun.paths import sync_directory
from plugrun.pools import mounting, record
from plugrun.pools.making import check_room
from plugrun.pools.record import Pool, State
from plugrun.sizes import shown

if TYPE_CHECKING:
    from pathlib import Path

    from plugrun.engine import Engine
    from plugrun.manager import Declared

_SHOWN = 5  # names of each kind
_BLOCK = 512  # unit of st_blocks, stat(2)


def resize(engine: Engine, driver: str, size: int) -> Pool:
    """Make a pool larger while it is in use. The size it has already finishes what a killed process began.

    :param size: bytes of the whole pool.
    :raises NotFound: no such driver, or it has no pool.
    :raises InvalidArgument: it is larger already.
    :raises Unavailable: there is no room, or the pool cannot be mounted.
    """
    root = engine.paths.root
    declared = engine.plugins.declared_storage(driver, root)
    place = state_dir(root, "storage", driver)
    record.need(root, driver)
    mounting.ensure(root, declared.spec, place)
    with record.locked(root, driver):
        pool = record.need(root, driver)
        info = pool.file.stat()
        if size < info.st_size:
            raise InvalidArgument(
                f"the pool of storage driver {driver!r} is of {shown(info.st_size)}, "
                f"and a pool cannot shrink to {shown(size)}",
                hint="make a new one: remove its containers, then plugrun storage rm, plugrun storage create",
            )
        hint = "give a smaller SIZE, or make room there first"
        check_room(pool.file, size - info.st_blocks * _BLOCK, size, hint)
        _grow(pool, size, declared, place)
    return pool


def remove(engine: Engine, driver: str, *, force: bool = False) -> None:
    """Remove a pool with the layers in it, which are unpacked again when needed; never with a container in it.

    :param force: also one whose file is gone, though containers or volumes were in it. Those can be removed as soon
        as the driver has another place.
    :raises NotFound: no such driver, or it has no pool.
    :raises FailedPrecondition: containers or volumes are in it, or something has it open.
    """
    root = engine.paths.root
    place = state_dir(root, "storage", driver)
    if record.find(root, driver) is None:
        engine.plugins.declared_storage(driver, root)  # says what there is, if that is wrong already
    record.need(root, driver)
    engine.close_storage(driver)
    with record.locked(root, driver):
        pool = record.need(root, driver)
        alone = record.only_user(root, driver)
        try:
            if pool.state is State.READY:
                _refuse_tenants(engine, pool, force=force)
                _unmount(pool, place)
                pool.file.unlink(missing_ok=True)
                record.forget(root, pool)
            else:
                mounting.discard(root, pool, place)
            with contextlib.suppress(OSError):  # what lay below the pool stays
                place.rmdir()
        except OSError as error:
            raise Unavailable(f"cannot remove the pool file {pool.file}: {error.strerror}") from error
        finally:
            os.close(alone)


def _grow(pool: Pool, size: int, declared: Declared[Any], place: Path) -> None:
    try:
        os.truncate(pool.file, size)
        sync_directory(pool.file.parent)
    except OSError as error:
        raise Unavailable(f"the pool file {pool.file} cannot be of {shown(size)}: {error.strerror}") from error
    loop.enlarge(str(pool.file))
    assert declared.spec.pool is not None  # it is mounted
    try:
        declared.spec.pool.grow(place)
    except PlugrunError:
        raise
    except Exception as error:
        raise DriverError(f"storage driver {pool.driver!r} cannot enlarge its pool: {describe(error)}") from error


def _refuse_tenants(engine: Engine, pool: Pool, *, force: bool) -> None:
    tenants = engine.tenants(pool.driver)
    gone = not pool.file.exists()
    if not tenants or (gone and force):
        return
    who = ", ".join(_counted(kind, names) for kind, names in tenants.items())
    if gone:
        raise FailedPrecondition(
            f"the pool file {pool.file} is gone, and with it {who}",
            hint=f"put it back, or give them up: plugrun storage rm --force {pool.driver}",
        )
    raise FailedPrecondition(
        f"the pool of storage driver {pool.driver} holds {who}",
        hint="remove them first, or move them to another --storage",
    )


def _counted(kind: str, names: list[str]) -> str:
    """Say how many there are of a kind, and the first of them: ``2 containers (db, web)``."""
    more = [f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return f"{len(names)} {kind}{'' if len(names) == 1 else 's'} ({', '.join(names[:_SHOWN] + more)})"


def _unmount(pool: Pool, place: Path) -> None:
    """Unmount a pool; not lazily, because its file goes next."""
    try:
        while os.path.ismount(place):
            linux.umount(str(place), linux.UMOUNT_NOFOLLOW)
    except OSError as error:
        why = "something has it open" if error.errno == errno.EBUSY else error.strerror
        raise FailedPrecondition(
            f"the pool of storage driver {pool.driver} at {place} cannot be unmounted: {why}",
            hint=f"see who uses it: fuser -vm {place}",
        ) from error
