"""Keys of a container's snapshots in its storage driver: noted before they are made, forgotten when they are gone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from plugrun.errors import FailedPrecondition, NotFound, PlugrunError, Unavailable

if TYPE_CHECKING:
    from plugrun.api import StorageDriver, SupportsClone
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine
    from plugrun.state.snapshots import Saved


def current(engine: Engine, record: ContainerRecord) -> ContainerRecord:
    """Return a container's record as it is now. The caller holds its lock.

    :raises NotFound: it has been removed.
    :raises FailedPrecondition: it is being made or removed, or was when a process died.
    """
    from plugrun.container import Status

    found = engine.containers.get(record.id)
    if found is None:
        raise NotFound(f"container {record.name} has just been removed")
    if found.status not in {Status.CREATED, Status.RUNNING, Status.EXITED}:
        raise FailedPrecondition(f"container {found.name} is {found.status}: it is not all there")
    return found


@contextlib.contextmanager
def kept(record: ContainerRecord) -> Iterator[None]:
    """Have a block use a container's snapshots, and say in the user's words if they are not there.

    :raises NotFound: the driver knows no such snapshot, as after its pool was given up.
    """
    try:
        yield
    except NotFound as error:
        raise lost(record) from error


def lost(record: ContainerRecord) -> NotFound:
    """Return the error of a container whose driver knows nothing of it."""
    return NotFound(
        f"what container {record.name} has written is not in storage driver {record.storage!r} any more",
        hint=f"remove what is left of it: plugrun rm -f {record.name}",
    )


def storage_of(engine: Engine, record: ContainerRecord, name: str) -> StorageDriver:
    """Return a storage driver that has, or may have, something of a container."""
    return engine.storage(name, record.storage_options if name == record.storage else {})


def copier(engine: Engine, record: ContainerRecord) -> SupportsClone:
    """Return a container's storage driver as one that copies active snapshots.

    :raises Unavailable: it does not; says which ones do, and how to get there.
    """
    from plugrun.api import SupportsClone

    driver = storage_of(engine, record, record.storage)
    if isinstance(driver, SupportsClone):
        return cast("SupportsClone", driver)
    others = sorted(name for name, declared in engine.plugins.storage.items() if "clone" in declared.spec.supports)
    raise Unavailable(
        f"container {record.name} is in storage driver {record.storage!r}, which has no snapshots and no clones",
        hint=f"these have: {', '.join(others)}; stop it and move it: plugrun move {record.name} --storage {others[0]}"
        if others
        else "install a storage driver that has; 'plugrun plugin ls' shows it with clone",
    )


@contextlib.contextmanager
def noted(engine: Engine, record: ContainerRecord, saved: Saved) -> Iterator[Saved]:
    """Note a key for the block that makes a snapshot of it; if the block fails, nothing of it is left.

    :pre: the caller holds the container's lock.
    :raises AlreadyExists: the container has a snapshot of this name.
    """
    engine.snapshots.add(saved, record.name)
    try:
        yield saved
    except BaseException:
        discard(engine, record, saved)
        raise


def discard(engine: Engine, record: ContainerRecord, saved: Saved) -> None:
    """Remove a snapshot that is there, in part or not at all, and forget its key. The caller holds the lock.

    Not one that is the container's own by now: an interrupt may come right after the record was written.
    """
    now = engine.containers.get(record.id)
    if now is not None and saved.key == now.snapshot:
        return
    driver = storage_of(engine, record, saved.storage)
    with contextlib.suppress(NotFound):
        driver.remove(saved.key)
    engine.snapshots.forget(saved.key)


def discard_old(engine: Engine, record: ContainerRecord, saved: Saved) -> None:
    """Remove what a container has left behind; that it cannot be removed now does not undo what was achieved."""
    try:
        discard(engine, record, saved)
    except PlugrunError as error:
        engine.warn(f"the former data of container {record.name} is still there, for the next command: {error}")
