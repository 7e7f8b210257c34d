"""What two files hold, compared."""

from __future__ import annotations

import os
from typing import Final

_CHUNK: Final = 1 << 20


def equal(one: int, other: int, size: int) -> bool:
    """Whether two open files have the same content; what is a hole in both is not read.

    :param size: bytes of each.
    :raises OSError: one cannot be read.
    """
    offset = 0
    while offset < size:
        data = min(_next_data(one, offset, size), _next_data(other, offset, size))
        if data >= size:
            return True
        first, second = os.pread(one, _CHUNK, data), os.pread(other, _CHUNK, data)
        if first != second:
            return False
        if not first:
            return True  # both were cut meanwhile
        offset = data + len(first)
    return True


def _next_data(fd: int, offset: int, size: int) -> int:
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError:  # ENXIO: nothing but a hole is left
        return size
