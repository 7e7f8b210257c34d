"""The items of a tar archive on standard input: compressed or not, its names never trusted."""

from __future__ import annotations

import io
import os
from collections.abc import Generator
from typing import TYPE_CHECKING

from plugrun.copying.data import write_at
from plugrun.copying.item import Item
from plugrun.errors import InvalidArgument
from plugrun.images.compression import Compression, decompress, detect_in
from plugrun.images.entry import Entry, EntryType, refuse
from plugrun.images.tar import read_entries

if TYPE_CHECKING:
    from plugrun.copying.item import Tick

_CHUNK = 1 << 20
_WHAT = "the archive"


def read(descriptor: int) -> Generator[Item]:
    """Yield the members of an archive, gzip, zstd or xz compressed or not, and read to its end.

    :raises InvalidArgument: it is empty, malformed, truncated, beyond the limits, or has a name with ``..``.
    """
    with io.BufferedReader(io.FileIO(descriptor, closefd=False), _CHUNK) as raw:
        compression = detect_in(raw, _WHAT)
        stream = raw if compression is Compression.NONE else decompress(raw, compression, _WHAT)
        if not stream.peek(1):
            raise InvalidArgument(
                "standard input is empty, which is no archive", hint="pipe one into it: tar -c FILE | plugrun cp - …"
            )
        for entry in read_entries(stream):
            yield _item(entry)


class _EntryContent:
    """The bytes of a member, read from the archive as they are copied."""

    __slots__ = ("_entry",)

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def copy_to(self, target: int, tick: Tick) -> None:
        """Write them to a new, empty file."""
        for offset, chunk in self._entry.chunks():
            write_at(target, chunk, offset)
            tick(len(chunk))
        if self._entry.sparse is not None:
            os.ftruncate(target, self._entry.size)  # a hole at the end


def _item(entry: Entry) -> Item:
    is_file, is_hardlink = entry.type is EntryType.REGULAR, entry.type is EntryType.HARDLINK
    return Item(
        path=_inside(entry, entry.name),
        type=entry.type,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mtime=entry.mtime,
        size=entry.size if is_file else 0,
        linkname=_inside(entry, entry.linkname) if is_hardlink else entry.linkname,
        device=entry.device,
        xattrs=entry.xattrs,
        content=_EntryContent(entry) if is_file else None,
    )


def _inside(entry: Entry, path: bytes) -> bytes:
    """Return a path of the archive relative to the destination; absolute ones count from there, as in Docker.

    :raises InvalidArgument: it climbs with ``..``, or a file would replace the destination itself.
    """
    parts = [part for part in path.split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise refuse(entry.name, 'a path with ".."')
    if not parts and entry.type is not EntryType.DIRECTORY:
        raise refuse(entry.name, f"a {entry.type.value} in place of the destination")
    return b"/".join(parts)
