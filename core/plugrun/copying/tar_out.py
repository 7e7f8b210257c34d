"""A tree as a tar archive on standard output: POSIX ustar, with PAX headers where a field is too small.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from plugrun.copying.data import FileContent
from plugrun.images.blocks import BLOCK
from plugrun.images.entry import EntryType

if TYPE_CHECKING:
    from plugrun.copying.item import Identity, Item, Tick

Write = Callable[[bytes | memoryview], None]

_FORMAT: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_FLAGS: Final = {
    EntryType.REGULAR: b"0",
    EntryType.HARDLINK: b"1",
    EntryType.SYMLINK: b"2",
    EntryType.CHARACTER: b"3",
    EntryType.BLOCK: b"4",
    EntryType.DIRECTORY: b"5",
    EntryType.FIFO: b"6",
}
_LARGEST_ID, _LARGEST = 8**7 - 1, 8**11 - 1
_ZEROS: Final = bytes(1 << 16)


class TarWriter:
    """Writes items one after the other.

    :param name: what the source is called in the archive; ``b""`` for its contents.
    :param write: where the archive goes.
    :ivar cut: paths of files that became shorter while they were read; zeros stand for what was missing.
    """

    def __init__(self, name: bytes, write: Write, tick: Tick) -> None:
        self._name = name
        self._write = write
        self._tick = tick
        self._names: dict[Identity, bytes] = {}
        self.cut: list[bytes] = []

    def put(self, item: Item) -> None:
        """Write one item."""
        path = b"/".join(filter(None, (self._name, item.path))) or b"."
        if item.type is EntryType.DIRECTORY:
            path += b"/"
        first = self._names.setdefault(item.identity, path) if item.identity is not None else path
        if first != path:
            self._write(_headers(item, path, EntryType.HARDLINK, first, 0))
            return
        self._write(_headers(item, path, item.type, item.linkname, item.size))
        if isinstance(item.content, FileContent):
            self._data(path, item.content)

    def close(self) -> None:
        """Write the end mark."""
        self._write(bytes(2 * BLOCK))

    def _data(self, path: bytes, content: FileContent) -> None:
        left = content.size
        for chunk in content.chunks() if left else ():
            self._write(chunk)
            self._tick(len(chunk))
            left -= len(chunk)
        if left:
            self.cut.append(path)
        left += -content.size % BLOCK
        while left:
            filler = _ZEROS[: min(left, len(_ZEROS))]
            self._write(filler)
            left -= len(filler)


def _headers(item: Item, path: bytes, kind: EntryType, linkname: bytes, size: int) -> bytes:
    """Return the header of an item, after the extended one that it may need."""
    records = {f"SCHILY.xattr.{name}".encode(errors="surrogateescape"): value for name, value in item.xattrs.items()}
    seconds = item.mtime // 1_000_000_000
    for key, value, most in (("uid", item.uid, _LARGEST_ID), ("gid", item.gid, _LARGEST_ID), ("size", size, _LARGEST)):
        if value > most:
            records[key.encode()] = b"%d" % value
    if not 0 <= seconds <= _LARGEST:
        records[b"mtime"] = b"%d" % seconds
    for key, text in (("path", path), ("linkpath", linkname)):
        if len(text) > 100:
            records[key.encode()] = text
    extended = b""
    if records:
        content = b"".join(_record(key, value) for key, value in records.items())
        extended = _block(b"PaxHeaders/" + path[-80:].rpartition(b"/")[2], b"x", size=len(content))
        extended += content + bytes(-len(content) % BLOCK)
    return extended + _block(
        path,
        _FLAGS[kind],
        mode=item.mode,
        uid=item.uid,
        gid=item.gid,
        size=size,
        mtime=seconds,
        linkname=linkname,
        device=item.device,
    )


def _block(
    path: bytes,
    flag: bytes,
    *,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    linkname: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    """Return one header block; a number that does not fit is 0 here, and right in the extended header."""
    fields = [
        path[:100],
        _octal(mode, 7),
        _octal(uid, 7),
        _octal(gid, 7),
        _octal(size, 11),
        _octal(mtime, 11),
        b" " * 8,
        flag,
        linkname[:100],
        b"ustar\x0000",
        b"",
        b"",
        _octal(device[0], 7),
        _octal(device[1], 7),
        b"",
    ]
    fields[6] = b"%06o\0 " % sum(_FORMAT.pack(*fields))
    return _FORMAT.pack(*fields)


def _octal(number: int, digits: int) -> bytes:
    return b"%0*o" % (digits, number if 0 <= number < 8**digits else 0)


def _record(key: bytes, value: bytes) -> bytes:
    """Return ``<length> <keyword>=<value><newline>``; the length counts its own digits too."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)
