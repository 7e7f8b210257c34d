"""Clone: a new container that begins with what another one has written, now or when a snapshot was taken."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from plugrun import names, quota
from plugrun.container import ContainerRecord, Status
from plugrun.lifecycle import keys
from plugrun.lifecycle.pause import Pause
from plugrun.lifecycle.remove import remove_locked
from plugrun.lifecycle.snapshot import copy_now
from plugrun.paths import ensure_private
from plugrun.undo import Undo

if TYPE_CHECKING:
    from plugrun.engine import Engine


def clone(
    engine: Engine, source: ContainerRecord, name: str, *, snapshot: str | None = None
) -> tuple[ContainerRecord, Pause]:
    """Make a container like ``source``, with the same configuration and drivers; it is not started.

    :param name: of the new container.
    :param snapshot: name of a snapshot of ``source`` to begin with, instead of what it has written by now.
    :return: the new container, and how long ``source`` stood still for it.
    :post: the two are independent, but share what ``source`` has from outside: volumes, and its network if that is
        another container's. On failure nothing of the new one is left.
    :raises AlreadyExists: the name is taken.
    :raises NotFound: ``source`` has no such snapshot; the hint lists those there are.
    :raises Unavailable: the storage driver makes no copies, or has no room.
    """
    from plugrun.api import Event, StorageDriver

    names.check(name)
    with engine.locked(source.id):
        source = keys.current(engine, source)
        driver = keys.copier(engine, source)
        assert isinstance(driver, StorageDriver)
        saved = engine.snapshots.find(source, snapshot) if snapshot is not None else None
        record = _branch(source, name)
        with engine.locked(record.id), Undo(f"cloning container {source.name}") as undo:
            undo.push("its lock", lambda: engine.paths.lock(record.id).unlink(missing_ok=True))
            engine.containers.add(record)
            undo.push("the container's record and layer", lambda: remove_locked(engine, record))
            ensure_private(engine.paths.container(record.id))
            pause = Pause()
            if saved is not None:
                with keys.kept(source):
                    driver.clone(record.snapshot, saved.key)
            else:
                pause = copy_now(engine, source, driver, record.snapshot)
            quota.apply(driver, record.snapshot, record.config.storage_size)
            record.status = Status.CREATED
            engine.containers.update(record)
    engine.notify(Event.CREATED, record)
    _warn_of_shared(engine, source, record)
    return record, pause


def _warn_of_shared(engine: Engine, source: ContainerRecord, record: ContainerRecord) -> None:
    """Name the volumes that two containers now write to and that nobody meant to be shared: they have no name."""
    shared = []
    for mount in record.config.volumes:
        volume = engine.volumes.get(mount.name)
        if volume is not None and volume.anonymous:
            shared.append(f"{mount.destination} (volume {mount.name})")
    if shared:
        engine.warn(
            f"container {record.name} shares {', '.join(shared)} with {source.name}, whose volumes are not copied; "
            "'plugrun volume clone' copies one"
        )


def _branch(source: ContainerRecord, name: str) -> ContainerRecord:
    """Return the record of a container that is like another one and has not lived yet."""
    container_id = os.urandom(32).hex()
    config = source.config
    if config.hostname == source.short_id:  # nobody chose it
        config = config._replace(hostname=container_id[:12])
    kept = ("storage", "storage_api", "runtime", "ports")
    endpoints = tuple(one._replace(ip=None, ip6=None, mac=None, result=None) for one in source.endpoints)
    return ContainerRecord(
        id=container_id,
        name=name,
        config=config,
        **{field: getattr(source, field) for field in kept},
        storage_options=dict(source.storage_options),
        endpoints=endpoints,
        created=time.time(),
    )
