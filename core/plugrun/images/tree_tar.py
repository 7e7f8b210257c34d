"""A directory tree into a tar archive: whatever its files are called, and whoever changes them meanwhile.

Everything is reached by descriptors of directories, without following links, and no name is interpreted. What a file's
header says is what follows, also when the file shrinks or grows while it is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Self

from plugrun import descent
from plugrun.descent import Cursor, Identity, identity
from plugrun.errors import DriverError
from plugrun.images import tar_out
from plugrun.images.blocks import BLOCK
from plugrun.images.entry import DEFAULT_LIMITS, printable
from plugrun.images.metadata import read_xattrs
from plugrun.images.tar_out import Owned, Segments

if TYPE_CHECKING:
    from types import TracebackType

Write = Callable[[bytes | memoryview], object]

_CHUNK: Final = 1 << 20
_SMALL: Final = 64 << 10  # bytes of a file that is read in one go
_KINDS: Final = {
    stat.S_IFCHR: tar_out.CHARACTER,
    stat.S_IFBLK: tar_out.BLOCK_DEVICE,
    stat.S_IFIFO: tar_out.FIFO,
}


def write(root: int, out: Write) -> None:
    """Write a whole tree, itself included.

    :param root: descriptor of its root directory, ``O_PATH`` is enough.
    :param out: takes all it is given before it returns.
    :raises FailedPrecondition: a path is too long for any program, or the tree is being rearranged.
    :raises DriverError: something in it cannot be read.
    """
    with TreeTar(root, out) as archive:
        for path in descent.walk(root):
            archive.add(path)
        archive.end()


class TreeTar:
    """An archive of parts of one tree; quick when they come ordered by directory.

    Parameters are those of :func:`write`.

    :param check: raises if it does not want an entry, of this path and status.
    """

    def __init__(
        self, root: int, out: Write, *, check: Callable[[bytes, os.stat_result], None] = lambda _path, _status: None
    ) -> None:
        self._cursor = Cursor(root)
        self._out = out
        self._check = check
        self._pending = bytearray()
        self._links: dict[Identity, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cursor.__exit__(kind, error, trace)

    def add(self, path: bytes) -> None:
        """Add one entry, without what is in it; one that is gone meanwhile, and a socket, are left out.

        :param path: relative to the root; ``b""`` is the root itself.
        :raises DriverError: it cannot be read.
        """
        for piece in self._pieces(path):
            self.write(piece)

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes as they are."""
        self._pending += data
        if len(self._pending) >= _CHUNK:
            self._flush()

    def end(self) -> None:
        """Finish the archive."""
        self.write(tar_out.END)
        self._flush()

    def _flush(self) -> None:
        full, self._pending = self._pending, bytearray()
        self._out(memoryview(full))

    def _pieces(self, path: bytes) -> Iterator[bytes | memoryview]:
        """Yield the bytes of an entry; only reading the tree happens here, so that its errors can be told apart."""
        try:
            above, name = descent.split(path)
            self._cursor.go(above)
            found = descent.status(self._cursor.fd, name)
            if found is None or stat.S_ISSOCK(found.st_mode):
                return
            self._check(path, found)
            if stat.S_ISDIR(found.st_mode):
                yield tar_out.member(
                    path + b"/" if path else b"./", tar_out.DIRECTORY, Owned.of(found), xattrs=self._xattrs(name)
                )
            elif found.st_nlink > 1 and (first := self._links.get(identity(found))) is not None:
                yield tar_out.member(path, tar_out.HARDLINK, Owned.of(found), link=first)
            elif stat.S_ISREG(found.st_mode):
                yield from self._file(path, name)
            else:
                yield self._special(path, name, found)
        except OSError as error:
            if error.errno not in descent.GONE:
                raise DriverError(f'cannot read "{printable(path)}" of the container: {error.strerror}') from error

    def _special(self, path: bytes, name: bytes, found: os.stat_result) -> bytes:
        kind, owned, xattrs = stat.S_IFMT(found.st_mode), Owned.of(found), self._xattrs(name)
        self._remember(path, found)
        if kind == stat.S_IFLNK:
            target = os.readlink(descent.beside(self._cursor.fd, name))
            return tar_out.member(path, tar_out.SYMLINK, owned, link=target, xattrs=xattrs)
        number = (0, 0) if kind == stat.S_IFIFO else (os.major(found.st_rdev), os.minor(found.st_rdev))
        return tar_out.member(path, _KINDS[kind], owned, device=number, xattrs=xattrs)

    def _file(self, path: bytes, name: bytes) -> Iterator[bytes | memoryview]:
        fd = descent.open_regular(self._cursor.fd, name)
        try:
            found = os.fstat(fd)
            size, owned, xattrs = found.st_size, Owned.of(found), read_xattrs(fd)
            segments = _segments(fd, found)
            self._remember(path, found)
            if segments is not None:
                yield tar_out.sparse_member(path, owned, size=size, segments=segments, xattrs=xattrs)
            else:
                yield tar_out.member(path, tar_out.REGULAR, owned, size=size, xattrs=xattrs)
                segments = ((0, size),)
            yield from _data(fd, segments)
            yield bytes(-sum(length for _, length in segments) % BLOCK)
        finally:
            os.close(fd)

    def _remember(self, path: bytes, found: os.stat_result) -> None:
        if found.st_nlink > 1:
            self._links[identity(found)] = path

    def _xattrs(self, name: bytes) -> dict[str, bytes]:
        return read_xattrs(descent.beside(self._cursor.fd, name))


def _segments(fd: int, found: os.stat_result) -> Segments | None:
    """Return where a file has data; ``None`` if everywhere, or in more places than our own reader accepts."""
    size = found.st_size
    if found.st_blocks * BLOCK >= size:
        return None
    segments: list[tuple[int, int]] = []
    end = 0
    while end < size and len(segments) < DEFAULT_LIMITS.segments - 1:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            return segments
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if start >= end:  # it was cut meanwhile
            return segments
        segments.append((start, end - start))
    return None if end < size or segments == [(0, size)] else segments


def _data(fd: int, segments: Iterable[tuple[int, int]]) -> Iterator[bytes | memoryview]:
    """Yield exactly the bytes of each segment: zeros for what is not there any more."""
    buffer = None
    for offset, length in segments:
        if length <= _SMALL:
            yield os.pread(fd, length, offset).ljust(length, b"\0")
            continue
        buffer = buffer or memoryview(bytearray(_CHUNK))
        end = offset + length
        while offset < end:
            count = os.preadv(fd, [buffer[: end - offset]], offset)
            if not count:
                buffer[:] = bytes(_CHUNK)
                count = min(_CHUNK, end - offset)
            yield buffer[:count]
            offset += count  # noqa: PLW2901 - the place in the segment
