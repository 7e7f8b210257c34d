"""One member of a tar archive, and the limits a hostile archive is held to."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from plugrun.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plugrun.images.blocks import Data


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an archive may ask for; far above honest images, far below harm.

    :param total: bytes of the whole uncompressed stream, what follows its end marker included.
    :param members: number of entries, extension headers included.
    :param name: bytes of a path or link target.
    :param component: bytes between two slashes of a path.
    :param extension: bytes of one PAX header; the headers of an entry are held in memory.
    :param segments: data segments of one sparse file.
    :param file_size: bytes of one file, holes included.
    """

    total: int = 256 << 30
    members: int = 2_000_000
    name: int = 4096
    component: int = 255
    extension: int = 1 << 20
    segments: int = 100_000
    file_size: int = 512 << 30


DEFAULT_LIMITS: Final = Limits()


class EntryType(enum.Enum):
    """What an entry becomes."""

    REGULAR = "regular file"
    HARDLINK = "hard link"
    SYMLINK = "symbolic link"
    CHARACTER = "character device"
    BLOCK = "block device"
    DIRECTORY = "directory"
    FIFO = "FIFO"

    __hash__ = object.__hash__  # Enum's own is Python, and is called five times an entry


@dataclass(slots=True, kw_only=True)  # not frozen: that would take a fifth of reading a header
class Entry:
    """One member of an archive, extension headers applied. Its data is gone once the next one is read.

    :param name: the path as the archive spells it: not empty, without NUL, within the limits, else unchecked.
    :param mode: permissions, ``0`` to ``0o7777``.
    :param size: bytes of the file it becomes, holes included.
    :param mtime: nanoseconds since the epoch, possibly negative.
    :param linkname: target of a symbolic link, or the path of the entry a hard link repeats.
    :param device: major and minor number.
    :param sparse: offset and length of each data segment, ascending; ``None`` for an ordinary file.
    """

    name: bytes
    type: EntryType
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    data: Data
    linkname: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, bytes] = field(default_factory=dict)
    sparse: tuple[tuple[int, int], ...] | None = None

    def chunks(self) -> Iterator[tuple[int, memoryview]]:
        """Yield the file's data with its offset, once; what no chunk covers is a hole.

        :raises InvalidArgument: the archive ends too early.
        """
        for start, length in ((0, self.size),) if self.sparse is None else self.sparse:
            offset, end = start, start + length
            while offset < end:
                chunk = self.data.take(end - offset)
                yield offset, chunk
                offset += len(chunk)


def printable(name: bytes) -> str:
    """Return a name as a message can show it: control and other unprintable characters escaped, cut if long."""
    text = name[:256].decode(errors="backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(name) <= 256 else shown + "…"


def refuse(name: bytes, why: str) -> InvalidArgument:
    """Make the error for an entry that no honest archive has."""
    return InvalidArgument(f'archive entry "{printable(name)}": {why}')
