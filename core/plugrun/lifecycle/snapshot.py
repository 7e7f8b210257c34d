"""Snapshots of a container: copies of what it has written, of one moment, that nothing changes any more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from plugrun import linux, names
from plugrun.errors import Unavailable
from plugrun.lifecycle import keys
from plugrun.lifecycle.pause import Pause, paused
from plugrun.lifecycle.state import is_running
from plugrun.state.snapshots import Saved

if TYPE_CHECKING:
    from plugrun.api import SupportsClone
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine


def create(engine: Engine, record: ContainerRecord, name: str | None = None) -> tuple[Saved, Pause]:
    """Take a snapshot of a container, whether it runs or not.

    :param name: what to call it; suggested if ``None``.
    :return: the snapshot, and how long the container stood still for it.
    :post: it survives a power cut; on failure nothing of it is left, and the container goes on in any case.
    :raises InvalidArgument: the name cannot be one.
    :raises AlreadyExists: the container has a snapshot of this name.
    :raises Unavailable: its storage driver makes no copies, or has no room.
    """
    chosen = names.check(name, "snapshot") if name is not None else names.suggest()
    with engine.locked(record.id):
        record = keys.current(engine, record)
        driver = keys.copier(engine, record)
        if name is None and any(saved.name == chosen for saved in engine.snapshots.of(record.id)):
            chosen = f"{chosen}_{time.time_ns():x}"
        saved = Saved(names.snapshot_key(record.id), record.id, chosen, record.storage, time.time())
        with keys.noted(engine, record, saved):
            pause = copy_now(engine, record, driver, saved.key)
            engine.snapshots.made(saved.key)
    return saved._replace(ready=True), pause


def remove(engine: Engine, record: ContainerRecord, name: str) -> None:
    """Remove one snapshot. Nothing stands on it: what was cloned from it or rolled back to it is a copy.

    :raises NotFound: the container has no such snapshot; the hint lists those there are.
    """
    with engine.locked(record.id):
        saved = engine.snapshots.find(record, name)
        engine.snapshots.unmade(saved.key)
        keys.discard(engine, record, saved)


def copy_now(engine: Engine, record: ContainerRecord, driver: SupportsClone, key: str) -> Pause:
    """Copy what a container has written to a new key of the same driver, as it is at one moment.

    What it has written so far goes to the disk first, so that little is left to write while it stands still. One that
    does not run has no file system mounted: what it wrote was synced when the last mount went.

    :pre: the caller holds the container's lock.
    :return: how long it stood still.
    """
    rootfs = str(engine.paths.rootfs(record.id))
    try:
        if not is_running(record):
            with keys.kept(record):
                driver.clone(key, record.snapshot)
            return Pause()
        linux.syncfs(rootfs)
        with paused(engine, record) as pause:
            linux.syncfs(rootfs)
            driver.clone(key, record.snapshot)
    except OSError as error:
        raise Unavailable(
            f"cannot copy what container {record.name} has written: {error.strerror}",
            hint="see whether its file system is full (df), read-only, or reporting errors (dmesg)",
        ) from error
    return pause
