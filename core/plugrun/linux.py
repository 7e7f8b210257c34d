"""The few system calls Python's ``os`` does not wrap, through libc and :mod:`ctypes`."""

from __future__ import annotations

import ctypes
import os
from typing import Final

CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_NOATIME: Final = 0x400
MS_REMOUNT: Final = 0x20
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000

MNT_DETACH: Final = 0x2
UMOUNT_NOFOLLOW: Final = 0x8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.unshare.argtypes = [ctypes.c_int]
_libc.syncfs.argtypes = [ctypes.c_int]


def _check(result: int, path: str | None = None) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def mount(source: str, target: str, fstype: str, flags: int, data: str) -> None:
    """Call mount(2).

    :raises OSError: as mount(2), with ``target`` as its file name.
    """
    arguments = (os.fsencode(source), os.fsencode(target), fstype.encode(), flags, os.fsencode(data))
    _check(_libc.mount(*arguments), target)


def umount(target: str, flags: int = 0) -> None:
    """Call umount2(2).

    :raises OSError: as umount2(2), with ``target`` as its file name.
    """
    _check(_libc.umount2(os.fsencode(target), flags), target)


def syncfs(directory: str) -> None:
    """Call syncfs(2): write everything in the file system of a directory to its device.

    :raises OSError: as open(2) and syncfs(2): data written before could not be stored.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check(_libc.syncfs(descriptor), directory)
    finally:
        os.close(descriptor)


def unshare(flags: int) -> None:
    """Call unshare(2) for the calling thread.

    :raises OSError: as unshare(2).
    """
    _check(_libc.unshare(flags))
