"""Unpack an image layer: hostile names, links and metadata stay inside the directory that is given.

Every parent is resolved by openat2 inside the root; every entry is created anew by a descriptor of its parent; what was
there is unlinked, never written through; metadata is set by descriptor. The Python process never enters the tree.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, Final

from plugrun.errors import DriverError, PlugrunError, Unavailable
from plugrun.images import metadata
from plugrun.images.entry import DEFAULT_LIMITS, Entry, EntryType, Limits, printable, refuse
from plugrun.images.parents import OpenDir, Parents
from plugrun.images.removal import remove_tree
from plugrun.images.tar import read_entries
from plugrun.images.whiteout import OPAQUE, PREFIX, Whiteouts, hider, is_mark
from plugrun.openat2 import open_in_root

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DEFAULT_LIMITS", "Limits", "Whiteouts", "unpack_layer"]

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ROOT_MODE: Final = 0o755  # most that an image may allow on its root directory
_MAX_MAJOR, _MAX_MINOR = 0xFFF, 0xFFFFF  # of the kernel's dev_t

_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_BAD_CONTENT: Final = {
    errno.E2BIG,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.EMLINK,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ERANGE,
    errno.EXDEV,
}


def unpack_layer(
    stream: BinaryIO, root_fd: int, *, whiteouts: Whiteouts, limits: Limits = DEFAULT_LIMITS
) -> list[bytes]:
    """Write the entries of an uncompressed layer below a directory.

    :param stream: read to its very end, so that the caller can hash it.
    :param root_fd: the directory that is ``/`` to the layer; any descriptor of it, ``O_PATH`` is enough.
    :param whiteouts: see :class:`Whiteouts`.
    :return: paths of the directories that the layer has entries in and none for, ``b""`` for the root. Their owner,
        permissions, attributes and time are those of no layer, unless the directory held the layers below.
    :post: on an error the directory holds a part of the layer, and is to be thrown away.
    :raises InvalidArgument: the archive is malformed, beyond the limits, or has an entry that no honest layer has.
    :raises Unavailable: the file system is full, or cannot hold what the layer needs.
    :raises DriverError: the kernel refused for another reason.
    """
    unpacker = _Unpacker(root_fd, whiteouts)
    try:
        for entry in read_entries(stream, limits):
            try:
                unpacker.add(entry)
            except OSError as error:
                raise _explained(error, entry, root_fd) from error
        return unpacker.implied()
    finally:
        unpacker.close()


def _explained(error: OSError, entry: Entry, root_fd: int) -> PlugrunError:
    if error.errno in _FULL:
        where = os.readlink(f"/proc/self/fd/{root_fd}")
        return Unavailable(
            f"no space left on the file system of {where}: {error.strerror}",
            hint="free some space there, or use another --root",
        )
    if error.errno in _BAD_CONTENT:
        return refuse(entry.name, f"{error.strerror}")
    return DriverError(f'cannot unpack layer entry "{printable(entry.name)}": {error.strerror}')


class _Unpacker:
    """Puts one entry after the other below the root."""

    def __init__(self, root: int, whiteouts: Whiteouts) -> None:
        self._root = root
        self._has_root = False
        self._hider = hider(whiteouts)
        self._parents = Parents(root, self._hider)
        self._create: dict[EntryType, Callable[[OpenDir, bytes, Entry], None]] = {
            EntryType.REGULAR: self._file,
            EntryType.DIRECTORY: self._directory,
            EntryType.SYMLINK: self._symlink,
            EntryType.HARDLINK: self._hardlink,
            EntryType.CHARACTER: self._node,
            EntryType.BLOCK: self._node,
            EntryType.FIFO: self._node,
        }

    def close(self) -> None:
        self._parents.leave()

    def implied(self) -> list[bytes]:
        return [*([] if self._has_root else [b""]), *self._parents.implied.values()]

    def add(self, entry: Entry) -> None:
        parent, name = split(entry, entry.name)
        if not name:
            self._root_entry(entry)
            return
        directory = self._parents.get(parent)
        if name.startswith(PREFIX):
            self._whiteout(directory, name, entry)
            return
        create = self._create[entry.type]
        try:
            create(directory, name, entry)
        except FileExistsError:  # always the first thing that happens, before any data is read
            self._clear(directory, name)
            create(directory, name, entry)
        self._hider.added(directory, name)

    def _clear(self, directory: OpenDir, name: bytes) -> None:
        remove_tree(directory.fd, name)
        self._parents.forget()

    def _root_entry(self, entry: Entry) -> None:
        if entry.type is not EntryType.DIRECTORY:
            raise refuse(entry.name, f"the root is a {entry.type.value}, not a directory")
        self._has_root = True
        self._parents.leave()  # it may be the root, whose time is about to change
        fd = os.open(".", _DIRECTORY, dir_fd=self._root)
        try:
            metadata.drop_xattrs(fd)
            metadata.apply(fd, entry)
            os.fchmod(fd, entry.mode & _ROOT_MODE)
        finally:
            os.close(fd)

    def _whiteout(self, directory: OpenDir, name: bytes, entry: Entry) -> None:
        if entry.type not in {EntryType.REGULAR, EntryType.HARDLINK} or entry.size:
            raise refuse(entry.name, "a whiteout that is not an empty file")
        self._parents.forget()
        hidden = name.removeprefix(PREFIX)
        if name == OPAQUE:
            self._hider.hide_all(directory)
        elif hidden in {b"", b".", b".."} or hidden.startswith(PREFIX):
            raise refuse(entry.name, "a whiteout of nothing that can exist")
        else:
            self._hider.hide(directory, hidden)

    def _file(self, directory: OpenDir, name: bytes, entry: Entry) -> None:
        mode = entry.mode & 0o777
        fd = os.open(name, _NEW_FILE, mode, dir_fd=directory.fd)
        try:
            has = directory.status_of_new(fd, mode)
            for offset, chunk in entry.chunks():
                _write(fd, chunk, offset)
            if entry.sparse is not None:
                os.ftruncate(fd, entry.size)  # a hole at the end
            metadata.apply(fd, entry, has)
        finally:
            os.close(fd)

    def _directory(self, directory: OpenDir, name: bytes, entry: Entry) -> None:
        existed = replaced = False
        try:
            os.mkdir(name, 0o700, dir_fd=directory.fd)
        except FileExistsError:
            existed = stat.S_ISDIR(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode)
            replaced = not existed
            if replaced:
                self._clear(directory, name)
                os.mkdir(name, 0o700, dir_fd=directory.fd)
        fd = os.open(name, _DIRECTORY, dir_fd=directory.fd)
        try:
            self._parents.explicit(fd)
            if replaced:
                self._hider.replaced(fd)
            if existed:
                metadata.drop_xattrs(fd)
            metadata.apply(fd, entry)
        finally:
            os.close(fd)

    def _symlink(self, directory: OpenDir, name: bytes, entry: Entry) -> None:
        os.symlink(entry.linkname, name, dir_fd=directory.fd)
        metadata.apply_nofollow(directory.fd, name, entry)

    def _hardlink(self, directory: OpenDir, name: bytes, entry: Entry) -> None:
        parent, target = split(entry, entry.linkname)
        above = open_in_root(self._root, parent or b".", os.O_PATH | os.O_DIRECTORY)
        try:
            status = os.stat(target or b".", dir_fd=above, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode) or is_mark(status):
                raise refuse(entry.name, f'a hard link to "{printable(entry.linkname)}", which is no file')
            os.link(target, name, src_dir_fd=above, dst_dir_fd=directory.fd, follow_symlinks=False)
        finally:
            os.close(above)

    def _node(self, directory: OpenDir, name: bytes, entry: Entry) -> None:
        major, minor = entry.device
        if entry.type is EntryType.CHARACTER and major == minor == 0:
            raise refuse(entry.name, "character device 0:0, which is overlayfs's own mark for a removed file")
        if not (0 <= major <= _MAX_MAJOR and 0 <= minor <= _MAX_MINOR):
            raise refuse(entry.name, f"device number {major}:{minor}")
        os.mknod(name, _FORMATS[entry.type] | 0o600, os.makedev(major, minor), dir_fd=directory.fd)
        metadata.apply_nofollow(directory.fd, name, entry)
        metadata.chmod_node(directory.fd, name, entry.mode)


_FORMATS: Final = {
    EntryType.CHARACTER: stat.S_IFCHR,
    EntryType.BLOCK: stat.S_IFBLK,
    EntryType.FIFO: stat.S_IFIFO,
}


def split(entry: Entry, path: bytes) -> tuple[bytes, bytes]:
    """Return the directory and the name that a path of an entry means below the root; both empty for the root.

    :raises InvalidArgument: the path climbs with ``..``, or goes through the name of a whiteout.
    """
    parts = [part for part in path.split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise refuse(entry.name, 'a path with ".."')
    name = parts.pop() if parts else b""
    if PREFIX in path and any(part.startswith(PREFIX) for part in parts):
        raise refuse(entry.name, "a path through a whiteout")
    return b"/".join(parts), name


def _write(fd: int, chunk: memoryview, offset: int) -> None:
    while chunk:
        written = os.pwrite(fd, chunk, offset)
        chunk = chunk[written:]
        offset += written
