"""What a power cut must not take. Btrfs writes in transactions: one is on the device as a whole, or not at all."""

from __future__ import annotations

import ctypes
import os

import btrfsutil

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

    Afterwards the kernel begins to give back the space of deleted subvolumes, in the background.
    """
    btrfsutil.wait_sync(path, btrfsutil.start_sync(path))
