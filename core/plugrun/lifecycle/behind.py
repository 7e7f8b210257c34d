"""Removal behind the command: what a container has left is removed by a process of its own, for which nobody waits.

It takes the kernel a third of a second to delete a subvolume of 50,000 files that are still in its caches, and longer
to delete as many files of an overlay. None of that is needed for the container to go on with its new data.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
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
    pid = _fork()
    if pid is None:
        os.close(lock)
        path.unlink(missing_ok=True)
        discard_old(engine, record, saved)
        return
    if pid == 0:
        _remove_and_exit(driver, saved.key, path, container_lock)
    os.close(lock)  # the process has inherited it
    with contextlib.suppress(ChildProcessError):  # it has ended, and whoever started us ignores SIGCHLD
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


def _fork() -> int | None:
    """Fork, unless there is no room for a process, or other threads may hold locks which it would wait for in vain."""
    if threading.active_count() > 1:
        return None
    try:
        return os.fork()
    except OSError:
        return None


def _remove_and_exit(driver: StorageDriver, key: str, lock: Path, container_lock: int) -> NoReturn:
    """Remove a key in a grandchild, which the caller need not wait for, and end."""
    try:
        os.close(container_lock)
        if os.fork() == 0:
            os.setsid()  # neither Ctrl-C nor the end of the terminal is meant for it
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            for descriptor in list(_inherited()):
                os.dup2(null, descriptor)  # who reads the command's output sees its end, and flock(1) lets go
            try:
                driver.remove(key)
            finally:
                lock.unlink(missing_ok=True)
    finally:
        os._exit(0)  # the next command tells what went wrong, if it still does


def _inherited() -> Iterator[int]:
    """Yield the descriptors that the command was started with; what Python opens, programs do not inherit."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # the one of this list
            if os.get_inheritable(descriptor):
                yield descriptor
