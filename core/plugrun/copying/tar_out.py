"""A tree as a tar archive on standard output."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from plugrun.copying.data import FileContent
from plugrun.images import tar_out
from plugrun.images.blocks import BLOCK
from plugrun.images.entry import EntryType

if TYPE_CHECKING:
    from plugrun.copying.item import Identity, Item, Tick

Write = Callable[[bytes | memoryview], None]

_KINDS: Final = {
    EntryType.REGULAR: tar_out.REGULAR,
    EntryType.HARDLINK: tar_out.HARDLINK,
    EntryType.SYMLINK: tar_out.SYMLINK,
    EntryType.CHARACTER: tar_out.CHARACTER,
    EntryType.BLOCK: tar_out.BLOCK_DEVICE,
    EntryType.DIRECTORY: tar_out.DIRECTORY,
    EntryType.FIFO: tar_out.FIFO,
}
_SECOND: Final = 1_000_000_000  # in nanoseconds
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
            self._write(_header(item, path, tar_out.HARDLINK, first, 0))
            return
        self._write(_header(item, path, _KINDS[item.type], item.linkname, item.size))
        if isinstance(item.content, FileContent):
            self._data(path, item.content)

    def close(self) -> None:
        """Write the end mark."""
        self._write(tar_out.END)

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


def _header(item: Item, path: bytes, kind: bytes, linkname: bytes, size: int) -> bytes:
    """Return the header of an item. Times are whole seconds, as those that docker writes."""
    seconds = item.mtime // _SECOND * _SECOND
    owned = tar_out.Owned(item.mode, item.uid, item.gid, seconds)
    return tar_out.member(path, kind, owned, size=size, link=linkname, device=item.device, xattrs=item.xattrs)
