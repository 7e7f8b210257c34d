"""The bytes of a regular file from one descriptor to another, by the kernel where it can, holes kept.

Source: copy_file_range(2), lseek(2) on ``SEEK_DATA`` and ``SEEK_HOLE``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from plugrun.errors import FailedPrecondition
from plugrun.images.entry import printable

if TYPE_CHECKING:
    from plugrun.copying.item import Tick

_CHUNK: Final = 1 << 20
_RANGE: Final = 16 << 20  # bytes the kernel copies between two signs of progress
_SMALL: Final = 128 << 10  # below, reading and writing is quicker than asking the kernel to
_UNSIZED: Final = 64 << 20  # most that a file may have which says that it has none, such as those of /proc
_CANNOT: Final = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.ETXTBSY, errno.EPERM}


class FileContent:
    """The bytes of an open file, as many as it had when it was looked at: a log that grows for ever ends too.

    :param fd: open for reading; stays the caller's, and is of use until the next item is asked for.
    """

    __slots__ = ("_sparse", "fd", "size")

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.fd = fd
        self.size = status.st_size
        self._sparse = status.st_blocks * 512 < status.st_size

    def copy_to(self, target: int, tick: Tick) -> None:
        """Write them to a new, empty file."""
        if self._sparse:
            for start, end in self._segments():
                _copy_range(self.fd, target, start, end - start, tick)
            os.ftruncate(target, self.size)
        elif self.size > _SMALL:
            _copy_range(self.fd, target, 0, self.size, tick)
        else:
            for chunk in self.chunks():
                _write(target, chunk)
                tick(len(chunk))

    def chunks(self) -> Iterator[bytes]:
        """Yield them from where the descriptor is; fewer if the file has been cut short."""
        left = self.size or _UNSIZED
        while left and (chunk := os.read(self.fd, min(left, _CHUNK))):
            yield chunk
            left -= len(chunk)

    def _segments(self) -> Iterator[tuple[int, int]]:
        end = 0
        while end < self.size:
            try:
                start = os.lseek(self.fd, end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    return
                if error.errno != errno.EINVAL:
                    raise
                start, end = end, self.size  # a file system that knows no holes
            else:
                end = min(os.lseek(self.fd, start, os.SEEK_HOLE), self.size)
            if start >= end:
                return
            yield start, end


def _copy_range(source: int, target: int, offset: int, left: int, tick: Tick) -> None:
    """Copy a range to the same place; less if the source ends before."""
    by_kernel = True
    while left:
        if by_kernel:
            try:
                count = os.copy_file_range(source, target, min(left, _RANGE), offset, offset)
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
                by_kernel = False
                continue
        else:
            chunk = os.pread(source, min(left, _CHUNK), offset)
            count = len(chunk)
            write_at(target, chunk, offset)
        if not count:
            return
        offset, left = offset + count, left - count
        tick(count)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of it at an offset."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def write_through(directory: int, name: bytes, content: int) -> None:
    """Overwrite the bytes of a file that something is mounted on, as it cannot be replaced.

    :param directory: descriptor of the directory that ``name`` is in.
    :param content: an open file.
    :raises FailedPrecondition: it is no regular file.
    """
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise FailedPrecondition(f'"{printable(name)}" is mounted there, and not a regular file')
        target = os.open(f"/proc/self/fd/{found}", os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.lseek(content, 0, os.SEEK_SET)
            FileContent(content, os.fstat(content)).copy_to(target, lambda _count: None)
        finally:
            os.close(target)
    finally:
        os.close(found)
