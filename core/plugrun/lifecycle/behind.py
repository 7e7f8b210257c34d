"""Removal behind the command: what a container has left is removed by a process of its own, for which nobody waits.

It takes the kernel a third of a second to delete a subvolume of 50,000 files that are still in its caches, and longer
to delete as many files of an overlay. None of that is needed for the container to go on with its new data.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from plugrun import locks
from plugrun.lifecycle.keys import discard_old, storage_of

if TYPE_CHECKING:
    from plugrun.api import StorageDriver
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine
    from plugrun.state.snapshots import Saved


def discard(engine: Engine, record: ContainerRecord, saved: Saved, container_lock: int) -> None:
    """Have a process remove a key that its container has left.

    That process only removes: SQLite must not be used across fork(2). The next command finds the key gone and forgets
    it, or removes what is left of it if the process was killed (:mod:`plugrun.lifecycle.reconcile`).

    :param container_lock: the descriptor by which the caller holds the container's lock; the process lets go of it.
    :pre: the key's row says that it is passing.
    """
    path = engine.paths.removal_lock(saved.key)
    lock = locks.try_acquire(path)
    assert lock is not None, "nobody else knows that it is to go"
    driver = storage_of(engine, record, saved.storage)
    try:
        pid = os.fork()
    except OSError:  # no room for another process
        os.close(lock)
        path.unlink(missing_ok=True)
        discard_old(engine, record, saved)
        return
    if pid == 0:
        _remove_and_exit(driver, saved.key, path, container_lock)
    os.close(lock)  # the process has inherited it
    os.waitpid(pid, 0)


def is_at_work(engine: Engine, saved: Saved) -> bool:
    """Tell whether a process is removing a key."""
    path = engine.paths.removal_lock(saved.key)
    lock = locks.try_acquire(path)
    if lock is None:
        return True
    path.unlink(missing_ok=True)  # a killed one left it
    os.close(lock)
    return False


def _remove_and_exit(driver: StorageDriver, key: str, lock: Path, container_lock: int) -> NoReturn:
    """Remove a key in a grandchild, which the caller need not wait for, and end."""
    try:
        if os.fork() == 0:
            os.setsid()  # neither Ctrl-C nor the end of the terminal is meant for it
            os.close(container_lock)
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):  # who reads the command's output sees its end
                os.dup2(null, descriptor)
            try:
                driver.remove(key)
            finally:
                lock.unlink(missing_ok=True)
    finally:
        os._exit(0)  # the next command tells what went wrong, if it still does
