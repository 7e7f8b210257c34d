"""Waiting for a file to change: inotify(7) through libc, which Python does not wrap."""

from __future__ import annotations

import ctypes
import os
from typing import Final

IN_MODIFY: Final = 0x2
IN_ATTRIB: Final = 0x4  # also when the last name of the file goes
IN_MOVE_SELF: Final = 0x800

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]


def watch(path: str, events: int) -> int:
    """Return a non-blocking descriptor that is readable once the file has changed; read(2) empties it.

    :param events: which changes, ``IN_*``.
    :raises OSError: as inotify_init1(2) and inotify_add_watch(2), e.g. when the user has too many instances.
    """
    descriptor = _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), path)
    try:
        _check(_libc.inotify_add_watch(descriptor, os.fsencode(path), events), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(result: int, path: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result
