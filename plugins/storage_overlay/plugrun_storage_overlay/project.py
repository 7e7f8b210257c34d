"""Projects of xfs: the number that every inode bears, and that directories hand on to what is made in them.

Sources: xfs_quota(8), "DIRECTORY TREE QUOTA"; ``struct fsxattr`` of ``linux/fs.h``; ``fs/file_attr.c``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import struct

_GET, _SET = 0x801C581F, 0x401C5820  # FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR
_ATTRIBUTES = struct.Struct("=5I8s")  # struct fsxattr: flags, extent size, extents, project id, extent size of copies
_EXTENDED = struct.Struct("=Q4I")  # struct file_attr: flags, extent size, extents, project id, extent size of copies
_FILE_GETATTR, _FILE_SETATTR = 468, 469  # the same on every architecture but alpha
_AT_SYMLINK_NOFOLLOW = 0x100
_INHERIT = 0x200  # FS_XFLAG_PROJINHERIT
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)


def magic(descriptor: int) -> int:
    """Return what kind of file system an open file is on, the ``f_type`` of fstatfs(2)."""
    buffer = (ctypes.c_ulong * 64)()
    if _libc.fstatfs(descriptor, buffer) != 0:
        raise OSError(ctypes.get_errno(), "fstatfs")
    return int(buffer[0])


def of(path: str) -> int:
    """Return the project of a directory, 0 for none."""
    descriptor = os.open(path, _OPEN | os.O_DIRECTORY)
    try:
        return _get(descriptor)[3]
    finally:
        os.close(descriptor)


def assign(path: str, project_id: int) -> None:
    """Give a directory and all in it to a project. Does nothing if the directory is in it already.

    Whatever depth it has, one descriptor is open at a time. The directory itself comes last, so that one which is in
    the project is there with all in it.

    :pre: nothing writes into it.
    """
    current = os.open(path, _OPEN | os.O_DIRECTORY)
    try:
        if _get(current)[3] == project_id:
            return
        pending = [_assign_files(current, project_id)]
        while pending:
            if pending[-1]:
                current = _enter(current, pending[-1].pop())
                pending.append(_assign_files(current, project_id))
                continue
            _set(current, project_id)
            pending.pop()
            if pending:
                current = _enter(current, "..")
    finally:
        os.close(current)


def _enter(directory: int, name: str) -> int:
    descriptor = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=directory)
    os.close(directory)
    return descriptor


def _assign_files(directory: int, project_id: int) -> list[str]:
    """Give what is in one directory to a project, but for directories, and return the names of those."""
    directories = []
    with os.scandir(directory) as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                directories.append(entry.name)
            elif stat.S_ISREG(mode):
                descriptor = os.open(entry.name, _OPEN, dir_fd=directory)
                try:
                    _set(descriptor, project_id)
                finally:
                    os.close(descriptor)
            else:
                _assign_special(directory, entry.name, project_id)
    return directories


def _assign_special(directory: int, name: str, project_id: int) -> None:
    """Give a link or a device to a project, which opening would follow or start; before Linux 6.17 it stays outside.

    There it counts for nothing, and may not be moved into a directory of the project (``EXDEV``).
    """
    buffer = ctypes.create_string_buffer(_EXTENDED.size)
    arguments = (directory, os.fsencode(name), buffer, ctypes.c_size_t(_EXTENDED.size), _AT_SYMLINK_NOFOLLOW)
    if _libc.syscall(_FILE_GETATTR, *arguments) == 0:
        flags, *rest = _EXTENDED.unpack(buffer.raw)
        rest[2] = project_id
        buffer.raw = _EXTENDED.pack(flags, *rest)
        _libc.syscall(_FILE_SETATTR, *arguments)


def _get(descriptor: int) -> tuple[int, int, int, int, int, bytes]:
    """Return an inode's attributes; none where the file system has no such thing."""
    with contextlib.suppress(OSError):
        found: tuple[int, int, int, int, int, bytes] = _ATTRIBUTES.unpack(
            fcntl.ioctl(descriptor, _GET, bytes(_ATTRIBUTES.size))
        )
        return found
    return 0, 0, 0, 0, 0, b""


def _set(descriptor: int, project_id: int) -> None:
    flags, extent, extents, _, copies, rest = _get(descriptor)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        flags |= _INHERIT
    try:
        fcntl.ioctl(descriptor, _SET, _ATTRIBUTES.pack(flags, extent, extents, project_id, copies, rest))
    except OSError as error:
        if error.errno != errno.EPERM:  # an immutable file, which cannot grow either
            raise
