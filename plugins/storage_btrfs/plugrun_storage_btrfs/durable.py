"""What a power cut must not take. Btrfs writes in transactions: one is on the device as a whole, or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import time

import btrfsutil

_SHORT = 10  # a file system with less than this part of it available
_PATIENCE, _FIRST_PAUSE, _LAST_PAUSE = 10.0, 0.01, 0.5  # seconds

_libc = ctypes.CDLL(None, use_errno=True)


def sync_data(path: str) -> None:
    """Write the data of every file in the file system of ``path`` to its device: syncfs(2).

    :raises OSError: data written before could not be stored.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


def commit_transaction(path: str) -> None:
    """Have everything done so far to names and subvolumes survive a power cut; file data is left to its own time.

    One process at a time: Linux (seen in 6.18) forgets who asks while it writes what another has asked for, and both
    would wait for its next turn, up to 30 seconds later.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        btrfsutil.wait_sync(descriptor, btrfsutil.start_sync(descriptor))
    finally:
        os.close(descriptor)


def finish_deletion(path: str) -> None:
    """Have the deletion of subvolumes survive a power cut, and their space be there again where it is needed.

    The kernel frees it in the background, and with the transaction after that, up to 30 seconds later. On a file system
    that is short of space this waits for it: who removes something there is about to use the space.
    """
    commit_transaction(path)
    if not _is_short_of_space(path):
        return
    end, pause = time.monotonic() + _PATIENCE, _FIRST_PAUSE
    while btrfsutil.deleted_subvolumes(path) and time.monotonic() < end:
        _wake_cleaner(path)
        time.sleep(pause)  # the kernel only tells what is left (since 6.13 it lets one wait)
        pause = min(2 * pause, _LAST_PAUSE)
    commit_transaction(path)


def _wake_cleaner(path: str) -> None:
    """Have the kernel free deleted subvolumes now: BTRFS_IOC_SYNC ends by waking the thread that does.

    The commit of a transaction wakes it only when this process asked for it. Where another one was quicker, as any
    sync(2) may be, the thread would sleep until its next turn, 30 seconds later.
    """
    with contextlib.suppress(OSError):  # what others wrote may find no room
        btrfsutil.sync(path)


def _is_short_of_space(path: str) -> bool:
    space = os.statvfs(path)
    return space.f_bavail * _SHORT < space.f_blocks
