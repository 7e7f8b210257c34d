"""Rollback: a container gets back what it had written when a snapshot was taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugrun import names, quota
from plugrun.errors import FailedPrecondition
from plugrun.lifecycle import behind, keys
from plugrun.lifecycle.end import stop as end
from plugrun.lifecycle.state import is_running
from plugrun.state.snapshots import passing
from plugrun.validate import signal_number

if TYPE_CHECKING:
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine


def rollback(engine: Engine, record: ContainerRecord, name: str, *, stop: bool = False) -> ContainerRecord:
    """Replace what a container has written by a copy of its snapshot ``name``, which stays.

    Writing the container's record is what switches over: before it all is as it was, after it all is as it shall be.
    What the container had written until then is removed behind the command.

    :param stop: stop the container first if it runs.
    :raises NotFound: it has no such snapshot; the hint lists those there are.
    :raises FailedPrecondition: it runs.
    :raises Unavailable: there is no room for the copy; the container is as it was.
    """
    from plugrun.api import StorageDriver

    engine.snapshots.find(record, name)  # rather now than after it has been stopped
    if stop and is_running(record):
        _stop(engine, record)
    with engine.locked(record.id) as lock:
        record = keys.current(engine, record)
        _refuse_running(record, name)
        saved = engine.snapshots.find(record, name)
        driver = keys.copier(engine, record)
        assert isinstance(driver, StorageDriver)
        old = passing(record.snapshot, record.id, record.storage)
        new = passing(names.snapshot_key(record.id), record.id, record.storage)
        with keys.noted(engine, record, new):
            with keys.kept(record):
                driver.clone(new.key, saved.key)
            quota.apply(driver, new.key, record.config.storage_size)
            record.snapshot = new.key
            engine.snapshots.switch(record, [(old, new)])
        behind.discard(engine, record, old, lock)
    return record


def _stop(engine: Engine, record: ContainerRecord) -> None:
    if record.config.auto_remove:
        raise FailedPrecondition(
            f"container {record.name} is removed when it ends (--rm), and its snapshots with it",
            hint=f"branch one off instead: plugrun clone {record.name} NEW --snapshot NAME",
        )
    end(engine, record, record.config.stop_timeout, signal_number(record.config.stop_signal))


def _refuse_running(record: ContainerRecord, name: str) -> None:
    from plugrun.container import Status

    if record.status is Status.RUNNING:
        raise FailedPrecondition(
            f"container {record.name} is running",
            hint=f"have it stopped first: plugrun rollback --stop {record.name} {name}",
        )
