"""Move: a stopped container changes its storage driver and keeps what it has written, and its snapshots.

Everything is copied before the record says where it is from now on. That is written at once for the container and all
of its snapshots, and only then does the old driver remove what it had.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from plugrun import names, quota
from plugrun.container import ContainerRecord, Status
from plugrun.errors import FailedPrecondition, Unavailable
from plugrun.lifecycle import keys
from plugrun.lifecycle.carry import carry
from plugrun.lifecycle.create import unpacked
from plugrun.state.snapshots import Saved, passing

if TYPE_CHECKING:
    from collections.abc import Callable

    from plugrun.api import DriverSpec, StorageDriver
    from plugrun.engine import Engine


def move(
    engine: Engine, record: ContainerRecord, storage: str, *, progress: Callable[..., None] | None = None
) -> ContainerRecord:
    """Move a container to the storage driver ``storage``.

    Options that were given to its present driver do not come along: they mean nothing to another one. A size limit
    does.

    :param progress: told of layers of its image that are unpacked there, see :func:`create.create`.
    :post: on failure the container is where it was, as it was, and nothing of it is in the other driver.
    :raises FailedPrecondition: it runs, or is in that driver already.
    :raises NotFound: no such driver is installed, or the image is gone.
    :raises Unavailable: that driver does not work here, makes no copies while the container has snapshots, cannot keep
        its size limit, or has no room.
    """
    import contextlib

    target = engine.plugins.select_storage(storage, engine.paths.root).spec
    with engine.locked(record.id):
        record = keys.current(engine, record)
        _refuse(record, target)
        driver = engine.storage(target.name, {})
        saved = engine.snapshots.of(record.id)
        _check_can_keep(driver, record, target, saved)
        image = engine.images.resolve(record.config.image_id)
        own = passing(record.snapshot, record.id, record.storage)
        replaced: list[tuple[Saved, Saved]] = []
        with contextlib.ExitStack() as noted:
            with unpacked(engine, image, driver, progress=progress) as parent:
                for old in (own, *saved):
                    new = passing(names.snapshot_key(record.id), record.id, target.name)
                    noted.enter_context(keys.noted(engine, record, new))
                    mounts = driver.prepare(new.key, parent)
                    carry(engine, dataclasses.replace(record, snapshot=old.key), mounts)
                    replaced.append((old, new))
            quota.apply(driver, replaced[0][1].key, record.config.storage_size)
            before = record
            record = dataclasses.replace(
                record,
                storage=target.name,
                storage_api=str(target.api),
                storage_options={},
                snapshot=replaced[0][1].key,
            )
            engine.snapshots.switch(record, replaced)
        for old, _ in replaced:
            keys.discard_old(engine, before, passing(old.key, old.container_id, old.storage))
    return record


def _refuse(record: ContainerRecord, target: DriverSpec[StorageDriver]) -> None:
    if record.storage == target.name:
        raise FailedPrecondition(f"container {record.name} is in storage driver {target.name!r} already")
    if record.status is Status.RUNNING:
        raise FailedPrecondition(
            f"container {record.name} is running", hint=f"stop it first: plugrun stop {record.name}"
        )


def _check_can_keep(
    driver: StorageDriver, record: ContainerRecord, target: DriverSpec[StorageDriver], saved: list[Saved]
) -> None:
    from plugrun.api import SupportsClone

    quota.check(driver, record.config.storage_size)
    if saved and not isinstance(driver, SupportsClone):
        found = " ".join(one.name for one in saved)
        raise Unavailable(
            f"container {record.name} has snapshots, with which storage driver {target.name!r} can do nothing: {found}",
            hint=f"remove them first: plugrun snapshot rm {record.name} {found}",
        )
