"""Room on the disk that is held back, so that a full disk can still be looked at and emptied.

SQLite cannot even open its file without room for the index of its log, and removing anything writes down first that it
is gone. So a file keeps some blocks occupied, and gives them up for the moments in which the engine writes its records;
images and containers never get them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from plugrun.tuples import NamedTuple

_SIZE = 512 << 10  # the log's index takes 32 KiB, a change a few pages of 4 KiB, an image index some KiB


class Reserve(NamedTuple):
    """Some room on one file system; whatever goes wrong with it is no error, only less safety.

    :param path: the file that occupies it.
    """

    path: Path

    @contextlib.contextmanager
    def spent(self) -> Iterator[None]:
        """Let the block have the room, if the disk is nearly full; afterwards occupy what is left of it."""
        with contextlib.suppress(OSError):
            disk = os.statvfs(self.path.parent)
            if disk.f_bfree * disk.f_frsize < _SIZE:
                self.path.unlink()
        try:
            yield
        finally:
            self._occupy()

    def _occupy(self) -> None:
        """Take the room, or as much of it as there is."""
        with contextlib.suppress(OSError):
            if self.path.stat().st_size >= _SIZE:
                return
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                _allocate(descriptor)
            finally:
                os.close(descriptor)


def _allocate(descriptor: int) -> None:
    """Have the file occupy all that is free, up to its size; less when the file system is wrong about it."""
    disk = os.fstatvfs(descriptor)
    room = min(_SIZE, os.fstat(descriptor).st_size + disk.f_bfree * disk.f_frsize)
    while room >= disk.f_frsize:
        with contextlib.suppress(OSError):
            return os.posix_fallocate(descriptor, 0, room)
        room //= 2
    return None
