"""Reading a tree that somebody else may be changing: no link followed, no device opened, one directory open at a time.

Each directory is opened by its path below the source, by a single openat2(2) that takes no link and no way out. What
is replaced by a link meanwhile is therefore missed, never followed.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from plugrun.copying.data import FileContent
from plugrun.copying.item import Identity, Item, failure, identity
from plugrun.errors import InvalidArgument
from plugrun.images.entry import EntryType
from plugrun.images.metadata import is_allowed
from plugrun.openat2 import open_beneath

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from plugrun.copying.ends import End

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_GONE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
_TYPES: Final = {
    stat.S_IFREG: EntryType.REGULAR,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHARACTER,
    stat.S_IFBLK: EntryType.BLOCK,
    stat.S_IFIFO: EntryType.FIFO,
}


class Walk:
    """Everything at and below one source.

    :param source: ``O_PATH`` descriptor; stays the caller's.
    :param end: whose tree it is in.
    :ivar vanished: what was there when its directory was listed and then was not, or was something else.
    :ivar sockets: how many were passed over: a copy of one would connect to nothing.
    :ivar never: a directory that must not be met: the destination, when it is inside the source.
    """

    def __init__(self, source: int, end: End) -> None:
        self._source = source
        self._end = end
        self._path = b""
        self.vanished: list[bytes] = []
        self.sockets = 0
        self.never: Identity | None = None

    def items(self) -> Generator[Item]:
        """Yield each thing after the directory it is in; its descriptors are closed once the next one is asked for.

        :raises InvalidArgument: the destination is inside.
        :raises PlugrunError: something cannot be read.
        """
        try:
            status = os.fstat(self._source)
            if stat.S_ISDIR(status.st_mode):
                yield from self._tree(status.st_dev)
            else:
                yield from self._open(b"", self._source, status)
        except OSError as error:
            raise failure(self._path, error) from error

    def _tree(self, device: int) -> Iterator[Item]:
        pending = [b""]  # of the directories on the way down, what is still to be seen
        while pending:
            path = self._path = pending.pop()
            below: list[bytes] = []
            yield from self._directory(path, below, device)
            pending += reversed(below)

    def _directory(self, path: bytes, below: list[bytes], device: int) -> Iterator[Item]:
        """Yield a directory and what is in it but directories, whose paths are added to ``below``."""
        try:
            fd = open_beneath(self._source, path, _DIRECTORY)
        except OSError as error:
            if error.errno not in _GONE or not path:
                raise
            self.vanished.append(path)
            return
        try:
            status = os.fstat(fd)
            if identity(status) == self.never:
                raise InvalidArgument("a directory cannot be copied into itself", hint="choose another destination")
            yield _item(path, EntryType.DIRECTORY, status, xattrs=_xattrs(fd))
            if status.st_dev != device and self._end.is_kernels(fd, status.st_dev):
                return  # Docker shows the image's empty directory there
            prefix = path + b"/" if path else b""
            for name in sorted(map(os.fsencode, os.listdir(fd))):
                yield from self._named(prefix + name, name, fd, below)
        finally:
            os.close(fd)

    def _named(self, path: bytes, name: bytes, directory: int, below: list[bytes]) -> Iterator[Item]:
        self._path = path
        try:
            found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except FileNotFoundError:
            self.vanished.append(path)
            return
        try:
            status = os.fstat(found)
            if stat.S_ISDIR(status.st_mode):
                below.append(path)
            else:
                yield from self._open(path, found, status)
        finally:
            os.close(found)

    def _open(self, path: bytes, found: int, status: os.stat_result) -> Iterator[Item]:
        """Yield something that is no directory, by a descriptor that did not open it for use."""
        kind = _TYPES.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            self.sockets += 1
        elif kind is EntryType.REGULAR:
            fd = os.open(
                f"/proc/self/fd/{found}", _READ
            )  # the very inode that was looked at, not what has its name now
            try:
                yield _item(path, kind, status, xattrs=_xattrs(fd), content=FileContent(fd, status))
            finally:
                os.close(fd)
        elif kind is EntryType.SYMLINK:
            yield _item(path, kind, status, linkname=os.readlink(b"", dir_fd=found))
        else:
            device = (os.major(status.st_rdev), os.minor(status.st_rdev))
            yield _item(path, kind, status, device=device)


def _item(
    path: bytes,
    kind: EntryType,
    status: os.stat_result,
    *,
    linkname: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: dict[str, bytes] | None = None,
    content: FileContent | None = None,
) -> Item:
    has_names = status.st_nlink > 1 and kind is not EntryType.DIRECTORY
    return Item(
        path=path,
        type=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime=status.st_mtime_ns,
        size=content.size if content is not None else 0,
        linkname=linkname,
        device=device,
        xattrs=xattrs or {},
        identity=identity(status) if has_names else None,
        content=content,
    )


def _xattrs(fd: int) -> dict[str, bytes]:
    """Return the extended attributes that mean the same anywhere: the user's, and file capabilities."""
    try:
        names = os.listxattr(fd)
        return {name: os.getxattr(fd, name) for name in names if is_allowed(name)} if names else {}
    except OSError as error:
        if error.errno in {errno.ENOTSUP, errno.ENODATA}:  # none here, or gone since a moment ago
            return {}
        raise
