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
from typing import NamedTuple

import btrfsutil
from plugrun_storage_btrfs import ioctl

_INODE_ITEM, _EXTENT_DATA = 1, 108  # key types, linux/btrfs_tree.h
_ROOT_DIRECTORY = 256  # BTRFS_FIRST_FREE_OBJECTID
_INODE = struct.Struct("<8xQ24xIIII")  # struct btrfs_inode_item: transid, …, nlink, uid, gid, mode
_EXTENT = struct.Struct("<QQ4xB")  # struct btrfs_file_extent_item: generation, ram_bytes, …, type
_ON_DISK = struct.Struct("<QQ")  # and after it, unless the data is inline: disk_bytenr, disk_num_bytes
_INLINE = 0


class Inode(NamedTuple):
    """An inode that changed."""

    number: int
    links: int
    mode: int


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


def changed_inodes(path: str, since: int) -> Iterator[Inode]:
    """Yield the inodes written since a transaction."""
    for number, kind, data in _items(path, since):
        if kind == _INODE_ITEM:
            written, links, _, _, mode = _INODE.unpack_from(data)
            if written > since:
                yield Inode(number, links, mode)


def names_of_links(path: str, since: int) -> Iterator[bytes]:
    """Yield every name of the files that have several and were written since a transaction.

    :raises OverflowError: one has more names than the kernel tells.
    """
    with ioctl.opened(path) as descriptor:
        for inode in changed_inodes(path, since):
            if inode.links > 1 and not stat.S_ISDIR(inode.mode):
                yield from ioctl.paths_of_inode(descriptor, inode.number)


def _items(path: str, since: int) -> Iterator[tuple[int, int, memoryview]]:
    """Yield inode number, key type and data of the items of inodes and extents in blocks newer than a transaction."""
    with ioctl.opened(os.fspath(path)) as descriptor:
        for (number, kind, _), data in ioctl.search_tree(descriptor, since + 1):
            if kind in {_INODE_ITEM, _EXTENT_DATA}:
                yield number, kind, data
