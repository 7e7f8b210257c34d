"""Where a load reads from: the members of a tar archive, or the files of an OCI layout directory.

Nothing is ever opened by a name that the archive chose: an image asks for members by the names it needs, and gets
verified blobs of the store's working directory.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import stat
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from plugrun.errors import InvalidArgument
from plugrun.images import digest as digests
from plugrun.images import tar
from plugrun.images.entry import Entry, EntryType, Limits
from plugrun.images.ingest import Blob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plugrun.images.ingest import Ingest
    from plugrun.rootfd import RootDir

_BLOB_NAME = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]{64}|[0-9a-f]{128})")
_MAX_LINKS = 8
_LIMITS = Limits(members=100_000)


class Source(Protocol):
    """What both kinds of source can do.

    :ivar what: the source, for messages.
    """

    what: str

    def has(self, name: str) -> bool:
        """Whether there is a member of this name."""
        ...

    def blob(self, name: str, *, digest: str | None = None, size: int | None = None) -> Blob:
        """Return a member as a verified blob.

        :param digest: what its digest must be, as is ``size`` in bytes; ``None`` when unknown.
        :raises InvalidArgument: it is missing, no file, or something else.
        """
        ...


class LayoutDirectory:
    """The files of an OCI image layout directory, copied when they are asked for."""

    def __init__(self, root: RootDir, work: Ingest, what: str) -> None:
        self.what = what
        self._root = root
        self._work = work

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        try:
            os.close(self._root.open(name, os.O_PATH))
        except FileNotFoundError:
            return False
        return True

    def blob(self, name: str, *, digest: str | None = None, size: int | None = None) -> Blob:
        """Copy a file, or do without when the store has it."""
        if digest is not None and size is not None and self._work.pin(digest, size):
            return Blob(digest, size)
        what = f"{name} of {self.what}"
        try:
            # Never waits for the other end of a FIFO, and never becomes this process's terminal.
            descriptor = self._root.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            raise InvalidArgument(f"{what} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InvalidArgument(f"{what} is not a regular file")
        with io.FileIO(descriptor) as raw:
            return self._work.add(raw, what, digest=digest, size=size)


class TarMembers:
    """The members of a tar archive, read once, as they come; each is hashed and kept, or skipped when known."""

    def __init__(self, stream: BinaryIO, work: Ingest, what: str) -> None:
        """Read the whole archive.

        :raises InvalidArgument: it is no tar archive, is damaged, or has members no image archive has.
        """
        self.what = what
        self._files: dict[str, Blob] = {}
        self._links: dict[str, str] = {}
        self._others: dict[str, str] = {}
        entries = tar.read_entries(stream, _LIMITS)
        while (entry := self._next(entries)) is not None:
            self._add(entry, work)

    def has(self, name: str) -> bool:
        """Whether there is a regular file of this name."""
        return name in self._files

    def blob(self, name: str, *, digest: str | None = None, size: int | None = None) -> Blob:
        """Return a regular file; a symbolic link stands for the file of the archive that it points at."""
        target = self._follow(name)
        what = f"{name!a:.200} of {self.what}"
        if target not in self._files:
            kind = self._others.get(target)
            raise InvalidArgument(f"{what} is a {kind}, not a file" if kind else f"{what} is missing")
        found = self._files[target]
        if size is not None and found.size != size:
            raise InvalidArgument(f"{what} has {found.size} bytes, not {size}")
        if digest is not None and found.digest != digest:
            raise InvalidArgument(f"{what} is corrupt: its digest is {found.digest}, not {digest}")
        return found

    def _next(self, entries: Iterator[Entry]) -> Entry | None:
        try:
            return next(entries, None)
        except InvalidArgument as error:
            raise InvalidArgument(f"{self.what} is no tar archive, or damaged: {error}") from error

    def _add(self, entry: Entry, work: Ingest) -> None:
        name = _plain_name(entry.name, self.what)
        if name in self._files or name in self._links:
            raise InvalidArgument(f"{self.what} has two members named {name!a:.200}")
        if entry.type is EntryType.REGULAR and entry.sparse is None:
            self._files[name] = self._keep(name, entry, work)
        elif entry.type is EntryType.SYMLINK:
            self._links[name] = os.fsdecode(entry.linkname)
        else:
            self._others[name] = entry.type.value if entry.sparse is None else "sparse file"

    def _keep(self, name: str, entry: Entry, work: Ingest) -> Blob:
        match = _BLOB_NAME.fullmatch(name)
        digest = digests.check(f"{match[1]}:{match[2]}", f"the name of a blob of {self.what}") if match else None
        if digest is not None and work.pin(digest, entry.size):
            return Blob(digest, entry.size)
        what = f"{name!a:.200} of {self.what}"
        return work.add(_EntryData(entry, what), what, digest=digest, size=entry.size)

    def _follow(self, name: str) -> str:
        """Resolve symbolic links within the archive: docker save wrote them for layers that images share."""
        found = posixpath.normpath(name)
        for _ in range(_MAX_LINKS):
            if found not in self._links:
                return found
            target = posixpath.join(posixpath.dirname(found), self._links[found])
            found = posixpath.normpath(target)
            if found.startswith(("/", "..")):
                raise InvalidArgument(f"{name!a:.200} of {self.what} is a symbolic link that leaves the archive")
        raise InvalidArgument(f"{name!a:.200} of {self.what} is a symbolic link in a loop")


class _EntryData(io.RawIOBase):
    """The bytes of one member that is not sparse."""

    def __init__(self, entry: Entry, what: str) -> None:
        self._what = what
        self._data = entry.data
        self._left = entry.size

    def readable(self) -> bool:
        """Return ``True``."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer as far as there are bytes; return how many, 0 at the end."""
        if not self._left:
            return 0
        try:
            chunk = self._data.take(min(len(buffer), self._left))
        except InvalidArgument as error:
            raise InvalidArgument(f"{self._what} cannot be read: {error}") from error
        buffer[: len(chunk)] = chunk
        self._left -= len(chunk)
        return len(chunk)


def _plain_name(name: bytes, what: str) -> str:
    """Return a member's name without ``./`` and a final slash.

    :raises InvalidArgument: it is absolute or has ``..`` in it.
    """
    text = os.fsdecode(name)
    if text.startswith("/") or ".." in text.split("/"):
        raise InvalidArgument(f"{what} has a member named {text!a:.200}, which lies outside it")
    return posixpath.normpath(text)
