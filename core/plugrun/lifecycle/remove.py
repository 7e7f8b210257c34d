"""Remove: the writable layer, the container's directory, its record; then nothing is left."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Collection
from typing import TYPE_CHECKING

from plugrun.container import ContainerRecord, Status
from plugrun.errors import FailedPrecondition, NotFound, PlugrunError, Unavailable
from plugrun.lifecycle import network
from plugrun.lifecycle.end import end_locked, stop
from plugrun.lifecycle.state import is_running

if TYPE_CHECKING:
    from plugrun.engine import Engine


def remove(engine: Engine, record: ContainerRecord, *, force: bool = False, volumes: bool = False) -> None:
    """Remove a container.

    :param force: kill it first if it runs, remove its snapshots with it, and do not mind that its storage is lost.
    :param volumes: remove the volumes too that nobody named and only it uses.
    :raises FailedPrecondition: it runs, has snapshots or a network that others share, and ``force`` was not given.
    :raises Unavailable: its storage driver cannot be used; the container stays as it was.
    """
    if force and is_running(record):
        stop(engine, record, 0, signal.SIGKILL)
    with engine.locked(record.id):
        current = engine.containers.get(record.id)
        if current is not None and is_running(current) and not force:  # perhaps since a moment ago
            raise FailedPrecondition(
                f"container {record.name} is running",
                hint=f"stop it first: plugrun stop {record.name}; or kill and remove it: plugrun rm -f {record.name}",
            )
        if current is not None and not force:
            _refuse_joined(engine, current)
            _refuse_snapshots(engine, current)
        if current is not None:
            current.volumes_too |= volumes
            remove_locked(engine, current, forget=force)


def _refuse_joined(engine: Engine, record: ContainerRecord) -> None:
    if users := " ".join(network.joined(engine, record)):
        raise FailedPrecondition(
            f"container {record.name} has a network that running containers share: {users}",
            hint=f"stop them first: plugrun stop {users}; or remove it all the same: plugrun rm -f {record.name}",
        )


def _refuse_snapshots(engine: Engine, record: ContainerRecord) -> None:
    found = " ".join(saved.name for saved in engine.snapshots.of(record.id))
    if found:
        raise FailedPrecondition(
            f"container {record.name} has snapshots: {found}",
            hint=f"remove them first: plugrun snapshot rm {record.name} {found}; or all with it: "
            f"plugrun rm -f {record.name}",
        )


def remove_ended(engine: Engine, record: ContainerRecord) -> None:
    """Remove a container that was made to be removed when it ends. The caller holds its lock.

    :post: if its storage cannot be used now, its status has a later command remove it.
    """
    record.volumes_too = True
    _mark(engine, record)
    _remove(engine, record, _lost(engine, record, forget=False), forget=False)


def remove_locked(engine: Engine, record: ContainerRecord, *, forget: bool = False) -> None:
    """Remove a container that does not run, and its snapshots. The caller holds its lock. What is missing is fine.

    :param forget: leave alone what was in a storage driver that keeps nothing any more, as after its pool was given up.
    :raises Unavailable: a storage driver cannot be used; nothing has been removed.
    """
    if record.status in {Status.RUNNING, Status.STARTING}:
        end_locked(engine, record)
    if record.config.auto_remove or record.status is Status.CREATING:  # nobody has seen what is half made
        record.volumes_too = True
    lost = _lost(engine, record, forget=forget)
    _mark(engine, record)
    _remove(engine, record, lost, forget=forget)


def _mark(engine: Engine, record: ContainerRecord) -> None:
    """Have a later command finish the removal if this one does not."""
    record.status = Status.REMOVING
    engine.containers.update(record)


def _remove(engine: Engine, record: ContainerRecord, lost: Collection[str], *, forget: bool) -> None:
    """Remove a container that is marked.

    :param lost: the storage drivers in which nothing is left to remove.
    """
    from plugrun.api import Event

    for one in engine.snapshots.keys(record.id):
        if one.storage in lost:
            engine.snapshots.forget(one.key)
        else:
            from plugrun.lifecycle.keys import discard  # most containers have none

            discard(engine, record, one)
    if record.storage not in lost:
        with contextlib.suppress(NotFound):
            engine.storage(record.storage, record.storage_options).remove(record.snapshot)
    if record.volumes_too and record.config.volumes:
        from plugrun.volumes import remove_anonymous

        remove_anonymous(engine, record, force=forget)
    import shutil

    shutil.rmtree(engine.paths.container(record.id), ignore_errors=True)
    engine.containers.delete(record.id)
    for path in (engine.paths.watch(record.id), engine.paths.lock(record.id)):
        path.unlink(missing_ok=True)
    engine.notify(Event.REMOVED, record)


def _lost(engine: Engine, record: ContainerRecord, *, forget: bool) -> set[str]:
    """Return the storage drivers in which nothing is left of a container; raises as :func:`_is_lost`."""
    places = {record.storage, *(saved.storage for saved in engine.snapshots.keys(record.id))}
    return {name for name in places if _is_lost(engine, record, name, forget=forget)}


def _is_lost(engine: Engine, record: ContainerRecord, storage: str, *, forget: bool) -> bool:
    """Whether nothing is left to remove in a storage driver that a container is in, because nothing is left there.

    :raises PlugrunError: the driver cannot be used, and may keep something, or ``forget`` was not given.
    """
    try:
        engine.storage(storage, record.storage_options if storage == record.storage else {})
    except PlugrunError as error:
        from plugrun.used_storage import keeps_nothing  # not where all is well

        if not keeps_nothing(engine, storage):
            raise
        if forget:
            return True
        raise Unavailable(str(error), hint=f"if what it kept is lost for good: plugrun rm -f {record.name}") from error
    return False
