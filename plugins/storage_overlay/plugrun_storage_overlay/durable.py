"""What a power cut must not take: data first, then the names that lead to it."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)


def sync_file_system(path: str) -> None:
    """Write everything in the file system of ``path`` to its device: syncfs(2), far cheaper than one fsync a file.

    :raises OSError: data written before could not be stored.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


def sync_directory(path: str) -> None:
    """Write a directory's names to its device."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
