"""openat2(2): opening what lies in a directory, without a way out of it."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

from plugrun.errors import InvalidArgument, Unavailable

RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

_OPENAT2: Final = 437  # the same number on every architecture
_RACES: Final = 64  # openat2 answers EAGAIN when a rename anywhere on the system may have confused a ".."


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [
    ctypes.c_long,
    ctypes.c_long,
    ctypes.c_char_p,
    ctypes.POINTER(_OpenHow),
    ctypes.c_size_t,
]


def open_in_root(root_fd: int, path: bytes, flags: int, mode: int = 0) -> int:
    """Open ``path`` as if ``root_fd`` were ``/``: links, absolute ones too, and ``..`` stay inside.

    :param flags: as open(2); ``O_CLOEXEC`` is added.
    :param mode: permissions of a file that ``O_CREAT`` makes, before the umask; else 0.
    :return: a file descriptor the caller closes.
    :raises InvalidArgument: ``path`` has a NUL byte.
    :raises Unavailable: this kernel has no openat2 (Linux 5.6).
    :raises OSError: as openat2(2), with ``path`` as its file name.
    """
    return _open(root_fd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_beneath(base_fd: int, path: bytes, flags: int) -> int:
    """Open ``path`` below a directory with no link on the way, nor at its end.

    :param path: relative; ``b""`` is the directory itself.
    :param flags: as for :func:`open_in_root`, whose answer and errors this has.
    :raises OSError: ``ELOOP`` when a component is a link.
    """
    return _open(base_fd, path or b".", flags | os.O_NOFOLLOW, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)


def _open(root_fd: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    if b"\0" in path:  # C would see only the part before it
        raise InvalidArgument(f"path has a NUL byte: {os.fsdecode(path)!r}")
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_RACES):
        fd: int = _syscall(_OPENAT2, root_fd, path, how, ctypes.sizeof(how))
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number not in {errno.EAGAIN, errno.EINTR}:
            break
    if number == errno.ENOSYS:
        raise Unavailable("this kernel has no openat2 system call", hint="plugrun needs Linux 5.6 or newer")
    raise OSError(number, os.strerror(number), os.fsdecode(path))
