"""What changed in a subvolume since a transaction, from its tree of items: only the blocks written since are read.

Every block of the tree tells the transaction that wrote it, so the kernel skips all that is older, however much that
is (BTRFS_IOC_TREE_SEARCH_V2). In a block that is newer, the items themselves tell it. A snapshot differs from its
parent by what is newer than the parent's last change.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator

import btrfsutil
from plugrun_storage_btrfs import ioctl

_INODE_ITEM, _EXTENT_DATA = 1, 108  # key types, linux/btrfs_tree.h
_ROOT_DIRECTORY = 256  # BTRFS_FIRST_FREE_OBJECTID
_INODE = struct.Struct("<8xQ24xIIII")  # struct btrfs_inode_item: transid, …, nlink, uid, gid, mode
_ACCESSED = 112  # where the time of the last access is, 12 bytes; before it at 8 the transaction, 8 bytes
_EXTENT = struct.Struct("<QQ4xB")  # struct btrfs_file_extent_item: generation, ram_bytes, …, type
_ON_DISK = struct.Struct("<QQ")  # and after it, unless the data is inline: disk_bytenr, disk_num_bytes
_INLINE = 0


def last_change(path: str) -> int:
    """Return the transaction in which something in a subvolume changed last."""
    return int(btrfsutil.subvolume_info(path).ctransid)


def usage(path: str, since: int) -> tuple[int, int]:
    """Return the bytes allocated and the number of inodes written since a transaction, but for the root directory."""
    extents: dict[int, int] = {}  # by address: several files, or parts of one, may share an extent
    inline = inodes = 0
    for number, kind, data in _items(path, since):
        if kind == _EXTENT_DATA:
            generation, _, form = _EXTENT.unpack_from(data)
            if generation <= since:
                continue
            if form == _INLINE:
                inline += len(data) - _EXTENT.size
            else:
                address, size = _ON_DISK.unpack_from(data, _EXTENT.size)
                extents[address] = size if address else 0  # address 0: a hole
        elif number != _ROOT_DIRECTORY and _INODE.unpack_from(data)[0] > since:
            inodes += 1
    return sum(extents.values()) + inline, inodes


def names_of_links(path: str, parent: str) -> Iterator[bytes]:
    """Yield every name of the files that have several and are not as in the parent.

    :raises OverflowError: one has more names than the kernel tells.
    """
    since = last_change(parent)
    with ioctl.opened(path) as descriptor, ioctl.opened(parent) as lower:
        for number, kind, item in _items(path, since):
            if kind != _INODE_ITEM:
                continue
            written, links, _, _, mode = _INODE.unpack_from(item)
            several = links > 1 and not stat.S_ISDIR(mode)
            if several and written > since and not _only_read(item, _inode(lower, number)):
                yield from ioctl.paths_of_inode(descriptor, number)


def _only_read(item: memoryview, before: bytes | None) -> bool:
    """Whether an inode differs in the time of its last access alone: running a program of many names changes that."""
    return before is not None and _without_access(bytes(item)) == _without_access(before)


def _without_access(item: bytes) -> bytes:
    return item[:8] + item[16:_ACCESSED] + item[_ACCESSED + 12 :]


def _inode(descriptor: int, number: int) -> bytes | None:
    found = ioctl.search_tree(descriptor, 0, first=number, last=number)
    return next((bytes(data) for (_, kind, _), data in found if kind == _INODE_ITEM), None)


def _items(path: str, since: int) -> Iterator[tuple[int, int, memoryview]]:
    """Yield inode number, key type and data of the items of inodes and extents in blocks newer than a transaction."""
    with ioctl.opened(os.fspath(path)) as descriptor:
        for (number, kind, _), data in ioctl.search_tree(descriptor, since + 1):
            if kind in {_INODE_ITEM, _EXTENT_DATA}:
                yield number, kind, data
