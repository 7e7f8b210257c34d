"""The headers of a tar archive that is written: ustar, with PAX records for what does not fit there.

The bytes follow from what is written alone: no times, owners or names of the machine. Sources: POSIX.1-2017, pax;
star(5) for ``SCHILY.xattr``; GNU tar manual, "PAX Format, Version 1.0" for sparse files.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from plugrun.images.blocks import BLOCK
from plugrun.images.header import FORMAT
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    import os

Segments = Sequence[tuple[int, int]]

END: Final = bytes(2 * BLOCK)
REGULAR, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"

_EXTENSION: Final = b"PaxHeaders/x"
_SPARSE: Final = b"GNUSparseFile.0/x"
_NAME: Final = 100  # bytes
_ID: Final = 0o7777777
_SIZE: Final = 0o77777777777
_TIME: Final = 0o77777777777
_SECOND: Final = 1_000_000_000


class Owned(NamedTuple):
    """Who a member belongs to, and what else every kind of file has.

    :param mode: permissions, ``0`` to ``0o7777``.
    :param mtime: nanoseconds since the epoch.
    """

    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0

    @classmethod
    def of(cls, status: os.stat_result) -> Owned:
        """Return that of a file."""
        return cls(status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns)


def member(
    name: bytes,
    kind: bytes,
    owned: Owned,
    *,
    size: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: Mapping[str, bytes] | None = None,
) -> bytes:
    """Return the header blocks of a member.

    :param name: path, without NUL; that of a directory ends in a slash.
    :param size: bytes of data that follow, to be padded to whole blocks.
    :param link: target of a symbolic link, or name of the member that a hard link repeats.
    :param device: major and minor number.
    """
    records = _records(owned, xattrs)
    if len(name) > _NAME:
        records[b"path"] = name
    if len(link) > _NAME:
        records[b"linkpath"] = link
    return _blocks(name, kind, owned, size, records, link=link, device=device)


def sparse_member(
    name: bytes, owned: Owned, *, size: int, segments: Segments, xattrs: Mapping[str, bytes] | None = None
) -> bytes:
    """Return the header blocks of a file with holes, and the map of its data, which follows segment by segment.

    :param size: of the file.
    :param segments: offset and length of what is no hole, ascending.
    """
    listed = [*segments, (size, 0)]  # as GNU tar does: where a hole at the end ends
    lines = b"%d\n" % len(listed) + b"".join(b"%d\n%d\n" % pair for pair in listed)
    lines += bytes(-len(lines) % BLOCK)
    records = _records(owned, xattrs) | {
        b"GNU.sparse.major": b"1",
        b"GNU.sparse.minor": b"0",
        b"GNU.sparse.name": name,
        b"GNU.sparse.realsize": b"%d" % size,
    }
    stored = len(lines) + sum(length for _, length in segments)
    return _blocks(_SPARSE, REGULAR, owned, stored, records) + lines


def _records(owned: Owned, xattrs: Mapping[str, bytes] | None) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    if owned.mtime % _SECOND or not 0 <= owned.mtime // _SECOND <= _TIME:
        records[b"mtime"] = _seconds(owned.mtime)
    if owned.uid > _ID:
        records[b"uid"] = b"%d" % owned.uid
    if owned.gid > _ID:
        records[b"gid"] = b"%d" % owned.gid
    for text, value in sorted(xattrs.items()) if xattrs else ():
        name = text.encode(errors="surrogateescape")
        if b"=" in name:  # which ends a keyword; libarchive has a form without it
            records[b"LIBARCHIVE.xattr." + _escaped(name)] = binascii.b2a_base64(value, newline=False)
        else:
            records[b"SCHILY.xattr." + name] = value
    return records


def _blocks(
    name: bytes,
    kind: bytes,
    owned: Owned,
    size: int,
    records: dict[bytes, bytes],
    *,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    if size > _SIZE:
        records[b"size"] = b"%d" % size
    block = _block(name, kind, owned, size, link=link, device=device)
    if not records:
        return block
    content = b"".join(_record(keyword, value) for keyword, value in records.items())
    extension = _block(_EXTENSION, b"x", Owned(), len(content))
    return b"".join((extension, content, bytes(-len(content) % BLOCK), block))


def _block(
    name: bytes, kind: bytes, owned: Owned, size: int, *, link: bytes = b"", device: tuple[int, int] = (0, 0)
) -> bytes:
    """Return one block; what is too large for a field is in a record, and the field holds as much as it can."""
    mode, uid, gid, mtime = owned
    fields = [
        name[:_NAME],
        b"%07o" % mode,
        b"%07o" % min(uid, _ID),
        b"%07o" % min(gid, _ID),
        b"%011o" % min(size, _SIZE),
        b"%011o" % min(max(mtime // _SECOND, 0), _TIME),
        b"        ",
        kind,
        link[:_NAME],
        b"ustar\x0000",
        b"%07o" % device[0],
        b"%07o" % device[1],
        b"",
    ]
    block = FORMAT.pack(*fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(keyword: bytes, value: bytes) -> bytes:
    """Return a record, whose length counts its own digits."""
    rest = len(keyword) + len(value) + 3
    length = rest + len(str(rest + len(str(rest))))
    return b"%d %b=%b\n" % (length, keyword, value)


def _seconds(nanoseconds: int) -> bytes:
    whole, fraction = divmod(abs(nanoseconds), _SECOND)
    text = b"%d.%09d" % (whole, fraction)
    return (b"-" if nanoseconds < 0 else b"") + text.rstrip(b"0").rstrip(b".")


def _escaped(name: bytes) -> bytes:
    """Escape as libarchive does what is no plain text."""
    return b"".join(b"%c" % byte if 0x20 < byte < 0x7F and byte not in b"%=" else b"%%%02X" % byte for byte in name)
