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

AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000
OPEN_TREE_CLONE: Final = 0x1
MOVE_MOUNT_F_EMPTY_PATH: Final = 0x4
MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
MOUNT_ATTR_RDONLY: Final = 0x1

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same numbers on every architecture

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.unshare.argtypes = [ctypes.c_int]
_libc.syncfs.argtypes = [ctypes.c_int]
_libc.syscall.restype = ctypes.c_long
_libc.fstatfs.argtypes = [ctypes.c_int, ctypes.c_void_p]


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


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns_fd")]


class _Statfs(ctypes.Structure):
    _fields_ = [("type", ctypes.c_long), ("rest", ctypes.c_byte * 248)]


def clone_tree(descriptor: int, *, below: bool = True) -> int:
    """Return a copy of the mounts at and below an open file, attached to nowhere: open_tree(2).

    :param descriptor: ``O_PATH`` is enough.
    :param below: also of those below.
    :return: a descriptor; once it is closed the copy is gone, unless it has been attached.
    :raises OSError: as open_tree(2).
    """
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH | (AT_RECURSIVE if below else 0)
    return _syscall(_OPEN_TREE, descriptor, b"", flags)


def set_mount_attributes(tree: int, *, attributes: int = 0, propagation: int = 0, below: bool = True) -> None:
    """Set flags (``MOUNT_ATTR_*``) and propagation (``MS_*``) of a tree of mounts: mount_setattr(2), Linux 5.12.

    :param below: of the whole tree, not only of the mount on top.
    :raises OSError: as mount_setattr(2).
    """
    how = _MountAttr(set=attributes, propagation=propagation)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if below else 0)
    _syscall(_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(how), ctypes.sizeof(how))


def attach_tree(tree: int, target: int) -> None:
    """Attach mounts of :func:`clone_tree` at an open file, whatever its name is by now: move_mount(2).

    :raises OSError: as move_mount(2).
    """
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    _syscall(_MOVE_MOUNT, tree, b"", target, b"", flags)


def file_system_type(descriptor: int) -> int:
    """Return the magic number of the file system that a file is on: statfs(2).

    :raises OSError: as statfs(2).
    """
    answer = _Statfs()
    _check(_libc.fstatfs(descriptor, ctypes.byref(answer)))
    return int(answer.type) & 0xFFFFFFFF


def mount_id(descriptor: int) -> int:
    """Return the id of the mount that an open file was reached by: proc_pid_fdinfo(5), ``mnt_id``."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as stream:
        return int(next(line for line in stream if line.startswith("mnt_id:")).split()[1])


def _syscall(number: int, *arguments: object) -> int:
    """Call what libc may not have yet; its variadic ``syscall`` takes every number as a long."""
    longs = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *longs))
    _check(min(result, 0))
    return result
