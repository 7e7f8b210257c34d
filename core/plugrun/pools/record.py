"""What is recorded of a pool, and the locks of pools: in ``ROOT/pools``, by the driver's name.

``DRIVER.json`` is written before the file is made, and removed after it is gone. ``DRIVER.lock`` is held by who makes,
mounts, enlarges or removes the pool; ``DRIVER.users`` is shared by those who have the driver open.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
from contextlib import AbstractContextManager
from pathlib import Path

from plugrun import locks
from plugrun.errors import FailedPrecondition, NotFound, Unavailable
from plugrun.paths import ensure_private, sync_directory
from plugrun.tuples import NamedTuple


class State(enum.StrEnum):
    """How far a pool has come; one whose maker died on the way never was."""

    PLANNED = "planned"  # a file of that name is ours only if it is empty
    MAKING = "making"
    READY = "ready"


class Pool(NamedTuple):
    """One driver's pool.

    :param file: absolute path of the file with the file system.
    """

    driver: str
    file: Path
    state: State


def find(root: Path, driver: str) -> Pool | None:
    """Return a driver's pool, ``None`` if it has none.

    :raises Unavailable: its record cannot be read.
    """
    path = _path(root, driver)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(descriptor, encoding="utf-8") as stream:
        try:
            raw = json.load(stream)
            return Pool(driver, Path(raw["file"]), State(raw["state"]))
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(
                f"the record {path} of the pool of storage driver {driver} is damaged",
                hint='write {"file": "/the/pool/file", "state": "ready"} into it',
            ) from error


def need(root: Path, driver: str) -> Pool:
    """Return a driver's pool.

    :raises NotFound: it has none.
    """
    if (pool := find(root, driver)) is None:
        raise NotFound(f"storage driver {driver!r} has no pool", hint="see them with: plugrun storage ls")
    return pool


def each(root: Path) -> list[str]:
    """Return the names of all drivers with a pool."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(name.removesuffix(".json") for name in os.listdir(root / "pools") if name.endswith(".json"))
    return []


def write(root: Path, pool: Pool) -> None:
    """Record a pool durably; the caller holds its lock.

    :raises Unavailable: the record cannot be written.
    """
    from plugrun.images.layout import replace_file

    path = _path(root, pool.driver)
    try:
        replace_file(path.parent, path.name, json.dumps({"file": str(pool.file), "state": pool.state}).encode())
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}") from error


def forget(root: Path, pool: Pool) -> None:
    """Remove a pool's record; absent is fine. The caller holds its lock."""
    path = _path(root, pool.driver)
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def locked(root: Path, driver: str) -> AbstractContextManager[int]:
    """Hold a driver's pool for changing it."""
    ensure_private(root / "pools")
    return locks.held(root / "pools" / f"{driver}.lock", what=f"the pool of storage driver {driver}")


def use(root: Path, driver: str) -> int | None:
    """Keep a driver's pool from being removed.

    :return: a descriptor whose closing lets it go; ``None`` when there is no pool.
    :raises FailedPrecondition: it is being removed right now.
    """
    if find(root, driver) is None:
        return None
    if (descriptor := locks.try_acquire(_users(root, driver), shared=True)) is None:
        raise FailedPrecondition(f"the pool of storage driver {driver} is being removed", hint="try again")
    return descriptor


def only_user(root: Path, driver: str) -> int:
    """Be the only one to use a driver's pool, until the descriptor that this returns is closed.

    :raises FailedPrecondition: others have the driver open.
    """
    if (descriptor := locks.try_acquire(_users(root, driver))) is None:
        raise FailedPrecondition(
            f"the pool of storage driver {driver} is in use by another plugrun", hint="try again when that has ended"
        )
    return descriptor


def _path(root: Path, driver: str) -> Path:
    return root / "pools" / f"{driver}.json"


def _users(root: Path, driver: str) -> Path:
    return root / "pools" / f"{driver}.users"
