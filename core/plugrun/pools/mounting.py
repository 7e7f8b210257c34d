"""Pools on demand: mounted by whoever needs the driver first, after each boot anew."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugrun.errors import DriverError, FailedPrecondition, PlugrunError, Unavailable
from plugrun.pools import record
from plugrun.pools.record import Pool, State

if TYPE_CHECKING:
    from plugrun.api import DriverSpec, PoolSpec


def ensure(root: Path, spec: DriverSpec[Any], state_dir: Path) -> None:
    """Have a driver's pool mounted, if it has one; what a killed process has begun to make is removed.

    :raises Unavailable: the file is gone, or has no such file system in it.
    :raises FailedPrecondition: it is mounted somewhere else.
    """
    pool = record.find(root, spec.name)
    if pool is None or (pool.state is State.READY and os.path.ismount(state_dir)):
        return
    with record.locked(root, spec.name):
        pool = record.find(root, spec.name)
        if pool is None:
            return
        if pool.state is not State.READY:
            discard(root, pool, state_dir)
        elif not os.path.ismount(state_dir):
            mount(pool, spec, state_dir)


def problem(root: Path, driver: str, state_dir: Path) -> tuple[bool, str | None]:
    """Say of a driver whether it has a pool that waits to be mounted, and what keeps it from that; mounts nothing.

    So of one, too, that is mounted and will never be again, because its file is not in its place any more.
    """
    try:
        pool = record.find(root, driver)
        if pool is None or pool.state is not State.READY:
            return False, None
        if os.path.ismount(state_dir):
            _check_mounted(pool, state_dir)
            return False, None
        _check_file(pool)
    except PlugrunError as error:
        return True, f"{error}; {error.hint}" if error.hint else str(error)
    return True, None


def mount(pool: Pool, spec: DriverSpec[Any], state_dir: Path) -> None:
    """Mount a pool; the caller holds its lock.

    :raises Unavailable: as :func:`ensure`.
    :raises FailedPrecondition: as :func:`ensure`.
    """
    from plugrun.paths import ensure_private

    if spec.pool is None:
        raise Unavailable(f"storage driver {spec.name!r} as installed has no pools, and {pool.file} is recorded as one")
    _check_file(pool)
    _refuse_elsewhere(pool)
    ensure_private(state_dir.parent)
    ensure_private(state_dir)
    try:
        _mount(pool, spec.pool, state_dir)
    except DriverError as error:
        reason = getattr(error.__cause__, "strerror", None) or error
        raise Unavailable(
            f"the pool file {pool.file} of storage driver {pool.driver} does not mount as {spec.pool.type}: {reason}",
            hint="dmesg tells more; if it cannot be repaired, move it away and give it up: "
            f"plugrun storage rm --force {pool.driver}",
        ) from error


def discard(root: Path, pool: Pool, state_dir: Path) -> None:
    """Remove what there is of a pool that was never finished; the caller holds its lock."""
    from plugrun import mounts

    if pool.state is State.MAKING:
        mounts.unmount(str(state_dir))
        pool.file.unlink(missing_ok=True)
    else:  # the file may be somebody else's, and ours is empty
        with contextlib.suppress(FileNotFoundError):
            if pool.file.stat().st_size == 0:
                pool.file.unlink()
    record.forget(root, pool)


def _mount(pool: Pool, spec: PoolSpec, place: Path) -> None:
    from plugrun import mounts
    from plugrun.api import Mount

    mount = Mount(spec.type, str(pool.file), ("loop", *spec.options))
    if spec.wishes:
        try:
            return mounts.mount_all([mount._replace(options=(*mount.options, *spec.wishes))], str(place))
        except DriverError as error:
            if getattr(error.__cause__, "errno", None) != errno.EINVAL:
                raise
    return mounts.mount_all([mount], str(place))


def _check_file(pool: Pool) -> None:
    if not pool.file.is_file():
        raise Unavailable(
            f"the pool file {pool.file} of storage driver {pool.driver} is gone",
            hint=f"put it back, or give it up with all that was in it: plugrun storage rm --force {pool.driver}",
        )


def _check_mounted(pool: Pool, place: Path) -> None:
    """Look whether a pool can be mounted again after it has been unmounted, as at the next boot."""
    from plugrun import loop, mounts

    backing = loop.backing_file(mounts.covering(place)[1])
    what = f"the pool file {pool.file} of storage driver {pool.driver}"
    if backing is not None and backing.endswith(" (deleted)"):
        raise Unavailable(
            f"{what} was deleted, and all in it is lost as soon as it is unmounted, such as by a reboot",
            hint=f"save what you need (plugrun move, cp, commit), then: plugrun storage rm --force {pool.driver}",
        )
    if backing is not None and not pool.file.exists():
        raise Unavailable(f"{what} was moved to {backing}", hint="move it back before it is unmounted")


def _refuse_elsewhere(pool: Pool) -> None:
    """Refuse a file that is mounted at another place, where others may change what the driver believes its own."""
    from plugrun import loop, mounts

    for device in loop.devices(str(pool.file)):
        for point in mounts.points_of(device):
            raise FailedPrecondition(
                f"the pool file {pool.file} of storage driver {pool.driver} is mounted at {point} already",
                hint=f"unmount it there: umount {point}",
            )
