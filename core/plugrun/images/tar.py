"""A strict reader of tar streams: ustar, PAX and GNU, sparse files included.

Python's :mod:`tarfile` is not used on what a registry or a stranger supplies: it reads extension headers of any size
into memory, has looped and escaped on crafted ones (CVE-2019-20907, CVE-2025-8194, CVE-2025-4517), and forgives
headers that other readers understand differently. Here every length is checked before it is read, and whatever two
common readers would take for different things is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

from plugrun.errors import InvalidArgument
from plugrun.images import pax, sparse
from plugrun.images.blocks import BLOCK, Data, Source
from plugrun.images.entry import DEFAULT_LIMITS, Entry, EntryType, Limits, refuse
from plugrun.images.header import Header, octal, parse, repeated_octal, string
from plugrun.images.whiteout import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

_ZERO: Final = bytes(BLOCK)
_TYPES: Final = {
    b"0": EntryType.REGULAR,
    b"7": EntryType.REGULAR,  # contiguous, on systems that knew such files
    b"S": EntryType.REGULAR,
    b"1": EntryType.HARDLINK,
    b"2": EntryType.SYMLINK,
    b"3": EntryType.CHARACTER,
    b"4": EntryType.BLOCK,
    b"5": EntryType.DIRECTORY,
    b"6": EntryType.FIFO,
}
_DEVICES: Final = {EntryType.CHARACTER, EntryType.BLOCK}
_EXTENSIONS: Final = {b"x", b"g", b"L", b"K"}
_GLOBAL: Final = {b"uid", b"gid", b"mtime"}
_IGNORED_GLOBALLY: Final = {b"comment", b"hdrcharset", b"charset", b"atime", b"ctime", b"uname", b"gname"}
_MAX_ID: Final = 0xFFFFFFFE  # the id after it means "do not change" to chown(2)


def read_entries(stream: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> Iterator[Entry]:
    """Yield the members of an uncompressed tar archive, and read the stream to its very end.

    An entry's data can be read until the next entry is asked for; what is left is passed over. Two zero blocks end the
    archive, and so does the end of the stream after the data of a member; what follows the zero blocks is ignored.

    :param stream: ``read(n)`` may return less than asked for, and nothing at the end only.
    :raises InvalidArgument: the archive is malformed, truncated, ambiguous, or beyond the limits.
    """
    source = Source(stream, limits.total)
    reader = _Reader(source, limits)
    while (entry := reader.next()) is not None:
        yield entry
        entry.data.close()
    source.drain()


class _Reader:
    """Collects extension headers until the member they describe."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._members = 0
        self._globals: dict[bytes, bytes] = {}
        self._records: dict[bytes, bytes] | None = None
        self._long: dict[bytes, bytes] = {}  # type → GNU long name

    def next(self) -> Entry | None:
        while (block := self._block()) is not None:
            header = parse(block)
            self._members += 1
            if self._members > self._limits.members:
                raise InvalidArgument(f"archive has more than {self._limits.members} members")
            size = octal(header.size)
            if size < 0:
                raise refuse(header.path(), "its size is negative")
            if header.type in _EXTENSIONS:
                self._extend(header.type, size)
            else:
                return self._entry(header, size, block)
        if self._records is not None or self._long:
            raise InvalidArgument("archive is truncated: it ends after an extension header")
        return None

    def _block(self) -> bytes | None:
        block = self._source.block()
        if block == _ZERO:
            if self._source.block() not in {_ZERO, None}:  # GNU tar stops here, others read on
                raise InvalidArgument("archive has a single zero block between its members")
            return None
        return block

    def _extend(self, kind: bytes, size: int) -> None:
        if kind in {b"L", b"K"}:
            if kind in self._long:
                raise InvalidArgument("archive has two long names for one member")
            self._long[kind] = self._content(size, self._limits.name + 1).rstrip(b"\0")
            return
        records = pax.parse_records(self._content(size, self._limits.extension))
        if kind == b"g":
            self._add_globals(records)
        elif self._records is not None:
            raise InvalidArgument("archive has two PAX headers for one member")
        else:
            self._records = records

    def _content(self, size: int, most: int) -> bytes:
        if size > most:
            raise InvalidArgument(f"archive has an extension header of {size} bytes, {most} are allowed")
        return self._source.exactly(size + -size % BLOCK)[:size]

    def _add_globals(self, records: dict[bytes, bytes]) -> None:
        for keyword, value in records.items():
            if keyword in _GLOBAL:
                self._globals[keyword] = value
            elif keyword not in _IGNORED_GLOBALLY and not keyword.startswith((b"VENDOR.", b"GNU.volume.")):
                raise InvalidArgument(f"archive has a global PAX header with {keyword[:40]!r}")

    def _entry(self, header: Header, stored: int, block: bytes) -> Entry:
        records, long = self._records or {}, self._long
        self._records, self._long = None, {}
        name, link = self._names(header, records, long)
        kind = _type(header, name)
        if kind is not EntryType.REGULAR and any(key.startswith(b"GNU.sparse.") for key in records):
            raise refuse(name, f"a {kind.value} cannot be sparse")
        if kind in {EntryType.HARDLINK, EntryType.SYMLINK} and not link:
            raise refuse(name, "the link has no target")
        records = {**self._globals, **records} if self._globals else records
        if text := records.get(b"size"):
            stored = pax.number(text)
        if kind is EntryType.HARDLINK:
            stored = 0  # some writers give the file's size; all readers agree that no data follows
        elif kind is not EntryType.REGULAR and stored:
            raise refuse(name, f"a {kind.value} with data")
        segments, size, stored = self._sparse(header, block, records, stored)
        if size > self._limits.file_size:
            raise refuse(name, f"{size} bytes, {self._limits.file_size} are allowed")
        return Entry(
            name=name,
            type=kind,
            mode=repeated_octal(header.mode) & 0o7777,
            uid=_id(name, records.get(b"uid"), header.uid),
            gid=_id(name, records.get(b"gid"), header.gid),
            size=size,
            mtime=pax.nanoseconds(text) if (text := records.get(b"mtime")) else header.seconds() * 1_000_000_000,
            data=Data(self._source, stored),
            linkname=link,
            device=header.device() if kind in _DEVICES else (0, 0),
            xattrs=pax.xattrs(records) if records else {},
            sparse=segments,
        )

    def _names(self, header: Header, records: dict[bytes, bytes], long: dict[bytes, bytes]) -> tuple[bytes, bytes]:
        if (b"L" in long and b"path" in records) or (b"K" in long and b"linkpath" in records):
            raise refuse(header.path(), "both a PAX and a GNU long name")
        sparse_name = records.get(b"GNU.sparse.name")
        name = sparse_name or records.get(b"path") or long.get(b"L") or header.path()
        link = records.get(b"linkpath") or long.get(b"K") or string(header.linkname)
        if not name:
            raise InvalidArgument("archive has an entry without a name")
        for text in (name, link):
            if b"\0" in text:
                raise refuse(name, "a NUL byte in its name or link target")
            if len(text) > self._limits.name:
                raise refuse(name, f"a name or link target of more than {self._limits.name} bytes")
        longest = self._limits.component
        # The name of a whiteout may be longer than that of what it hides.
        if len(name) > longest and max(len(part.removeprefix(PREFIX)) for part in name.split(b"/")) > longest:
            raise refuse(name, f"a path component of more than {longest} bytes")
        return name, link

    def _sparse(
        self, header: Header, block: bytes, records: dict[bytes, bytes], stored: int
    ) -> tuple[sparse.Segments | None, int, int]:
        """Return the segments, the size with holes, and the bytes of data still to come."""
        most = self._limits.segments
        if header.type == b"S":
            segments, size = sparse.old_gnu_map(block, self._source, most)
        elif b"GNU.sparse.major" in records:
            if (records[b"GNU.sparse.major"], records.get(b"GNU.sparse.minor")) != (b"1", b"0"):
                raise InvalidArgument("archive has a sparse file in an unknown format")
            segments, used = sparse.leading_map(self._source, most)
            stored -= used
            size = pax.number(records.get(b"GNU.sparse.realsize", b""))
        elif (listed := records.get(pax.SPARSE_MAP)) is not None:
            segments = sparse.listed_map(listed, most)
            size = pax.number(records.get(b"GNU.sparse.size", b""))
        else:
            return None, stored, stored
        sparse.check(segments, size, stored)
        return segments, size, stored


def _type(header: Header, name: bytes) -> EntryType:
    slash = name.endswith(b"/")
    if header.type == b"\0":  # V7 had no type for directories
        return EntryType.DIRECTORY if slash else EntryType.REGULAR
    kind = _TYPES.get(header.type)
    if kind is None or (header.type == b"S" and not header.is_gnu()):
        raise refuse(name, f"unknown type {header.type!r}")
    if slash and kind is EntryType.REGULAR:  # a directory to GNU tar, a file to others
        raise refuse(name, "a regular file whose name ends in a slash")
    return kind


def _id(name: bytes, text: bytes | None, plain: bytes) -> int:
    value = pax.number(text) if text else repeated_octal(plain)
    if not 0 <= value <= _MAX_ID:
        raise refuse(name, f"user or group id {value}")
    return value
