"""Reconcile: finish or undo what a killed plugrun, a killed monitor or a reboot left behind.

Runs at the start of every command that changes something. When nothing is wrong it costs three indexed queries and a
look at one process per running container.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from plugrun import locks
from plugrun.container import ContainerRecord, Status
from plugrun.lifecycle.end import end_locked
from plugrun.lifecycle.pause import let_go, mark_of
from plugrun.lifecycle.remove import remove_ended, remove_locked
from plugrun.lifecycle.state import is_running

if TYPE_CHECKING:
    from plugrun.engine import Engine
    from plugrun.state.snapshots import Saved

_UNSETTLED = (Status.CREATING, Status.STARTING, Status.RUNNING, Status.REMOVING)


def reconcile(engine: Engine) -> None:
    """Bring every container and volume whose owner died to a settled state.

    One that cannot be settled is warned about and left for the next time; others are not affected.
    """
    running = []
    for record in engine.containers.all(*_UNSETTLED):
        if is_running(record) and not mark_of(engine, record).exists():
            running.append(record)
            continue
        lock = locks.try_acquire(engine.paths.lock(record.id))
        if lock is None:
            continue  # somebody is at work on it
        try:
            current = engine.containers.get(record.id)
            if current is not None and is_running(current):
                let_go(engine, current)
            elif current is not None:
                _settle(engine, current)
        except Exception as error:  # noqa: BLE001 - one broken container must not stop the others
            engine.warn(f"container {record.name} is left {record.status}: {error}")
        finally:
            os.close(lock)
    for saved in engine.snapshots.unready():
        _remove_key(engine, saved)
    for name in engine.unready_volumes():
        _settle_volume(engine, name)
    if running:
        from plugrun.lifecycle.host_network import reload

        reload(engine, running)


def _remove_key(engine: Engine, saved: Saved) -> None:
    """Remove a snapshot that a killed process was making or removing, unless somebody is at work on it."""
    path = engine.paths.lock(saved.container_id)
    lock = locks.try_acquire(path)
    if lock is None:
        return
    try:
        record = engine.containers.get(saved.container_id)
        if record is None:
            path.unlink(missing_ok=True)
        elif any(one.key == saved.key and not one.ready for one in engine.snapshots.keys(record.id)):
            from plugrun.lifecycle import behind, keys
            from plugrun.used_storage import keeps_nothing

            if keeps_nothing(engine, saved.storage):  # its pool was given up
                engine.snapshots.forget(saved.key)
            elif not behind.is_at_work(engine, saved):
                keys.discard(engine, record, saved)
    except Exception as error:  # noqa: BLE001 - as above
        engine.warn(f"something of container {saved.container_id[:12]} is left that nothing needs: {error}")
    finally:
        os.close(lock)


def _settle_volume(engine: Engine, name: str) -> None:
    from plugrun import volumes

    try:
        volumes.settle(engine, name)
    except Exception as error:  # noqa: BLE001 - as above
        engine.warn(f"volume {name} is left half made or half removed: {error}")


def _settle(engine: Engine, record: ContainerRecord) -> None:
    if record.status in {Status.CREATING, Status.REMOVING}:
        remove_locked(engine, record, forget=True)  # nobody wants it
    elif record.status in {Status.STARTING, Status.RUNNING}:
        end_locked(engine, record)
        if record.config.auto_remove:
            remove_ended(engine, record)
