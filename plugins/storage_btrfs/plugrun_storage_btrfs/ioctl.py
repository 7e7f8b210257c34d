"""The ioctls of btrfs that its library has no function for, each as one function (linux/btrfs.h).

All raise :class:`OSError` with what the kernel says.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator

_RESIZE = 0x50009403  # BTRFS_IOC_RESIZE: _IOW(0x94, 3, struct btrfs_ioctl_vol_args)
_TREE_SEARCH_V2 = 0xC0709411  # BTRFS_IOC_TREE_SEARCH_V2: _IOWR(0x94, 17, struct btrfs_ioctl_search_args_v2)
_INO_PATHS = 0xC0389423  # BTRFS_IOC_INO_PATHS: _IOWR(0x94, 35, struct btrfs_ioctl_ino_path_args)
_SEND = 0x40489426  # BTRFS_IOC_SEND: _IOW(0x94, 38, struct btrfs_ioctl_send_args)
_FS_INFO = 0x8400941F  # BTRFS_IOC_FS_INFO: _IOR(0x94, 31, struct btrfs_ioctl_fs_info_args)
_QUOTA_CTL = 0xC0109428  # BTRFS_IOC_QUOTA_CTL: _IOWR(0x94, 40, struct btrfs_ioctl_quota_ctl_args)
_QGROUP_ASSIGN = 0x40189429  # BTRFS_IOC_QGROUP_ASSIGN: _IOW(0x94, 41, struct btrfs_ioctl_qgroup_assign_args)
_QGROUP_CREATE = 0x4010942A  # BTRFS_IOC_QGROUP_CREATE: _IOW(0x94, 42, struct btrfs_ioctl_qgroup_create_args)
_QGROUP_LIMIT = 0x8030942B  # BTRFS_IOC_QGROUP_LIMIT: _IOR(0x94, 43, struct btrfs_ioctl_qgroup_limit_args)
_QUOTA_RESCAN_WAIT = 0x942E  # BTRFS_IOC_QUOTA_RESCAN_WAIT: _IO(0x94, 46)

QUOTA_FULL, QUOTA_SIMPLE = 1, 4  # BTRFS_QUOTA_CTL_ENABLE, BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA
_MAX_EXCL = 2  # BTRFS_QGROUP_LIMIT_MAX_EXCL
_TWO = struct.Struct("<QQ")
_FS_INFO_SIZE, _FSID = 1024, 16

_VOL_ARGS = struct.Struct("<q4088s")  # fd, name

# tree_id; least and greatest object id, offset and transaction id; least and greatest type; number of items
_SEARCH_KEY = struct.Struct("<QQQQQQQIIII32xQ")  # and, behind the key, the size of the buffer that follows
_SEARCH_HEADER = struct.Struct("<QQQII")  # transid, objectid, offset, type, len
_FOUND = 64  # offset of the number of items in the answer
_BUFFER = 65536
_MAX_U64, _MAX_U32 = 2**64 - 1, 2**32 - 1

_INO_PATH_ARGS = struct.Struct("<QQ32xQ")  # inum, size, fspath
_NAMES = 4096
_CONTAINER = struct.Struct("<IIII")  # struct btrfs_data_container: bytes left and missing, elements there and missed

_SEND_ARGS = struct.Struct("<qQQQQI28x")  # send_fd, clone_sources_count, clone_sources, parent_root, flags, version
_SEND_NO_FILE_DATA = 1

Key = tuple[int, int, int]  # object id, type, offset


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[int]:
    """Open a directory for the duration of a block."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def resize_to_device(path: str | os.PathLike[str]) -> None:
    """Make the btrfs at ``path`` as large as its only device."""
    with opened(path) as descriptor:
        fcntl.ioctl(descriptor, _RESIZE, bytearray(_VOL_ARGS.pack(0, b"max")))


def search_tree(descriptor: int, since: int) -> Iterator[tuple[Key, memoryview]]:
    """Yield the items of a subvolume in those blocks of its tree that were written in transaction ``since`` or later.

    :param descriptor: a directory in the subvolume.
    :return: each item's key, and its data, which is valid until the next one is asked for.
    """
    at: Key | None = (0, 0, 0)
    while at is not None:
        least = at
        buffer = bytearray(_SEARCH_KEY.size + _BUFFER)
        fields = (0, least[0], _MAX_U64, least[2], _MAX_U64, since, _MAX_U64, least[1], _MAX_U32, _MAX_U32, 0)
        _SEARCH_KEY.pack_into(buffer, 0, *fields, _BUFFER)
        fcntl.ioctl(descriptor, _TREE_SEARCH_V2, buffer)
        at = None
        place = _SEARCH_KEY.size
        for _ in range(int.from_bytes(buffer[_FOUND : _FOUND + 4], "little")):
            _, number, offset, kind, length = _SEARCH_HEADER.unpack_from(buffer, place)
            place += _SEARCH_HEADER.size
            yield (number, kind, offset), memoryview(buffer)[place : place + length]
            place += length
            at = _after((number, kind, offset))


def paths_of_inode(descriptor: int, number: int) -> list[bytes]:
    """Return all names of an inode, relative to its subvolume's root directory.

    :param descriptor: a directory in the subvolume.
    :raises OverflowError: they do not fit into 4 KiB, which is as much as the kernel tells.
    """
    container = ctypes.create_string_buffer(_NAMES)
    fcntl.ioctl(descriptor, _INO_PATHS, _INO_PATH_ARGS.pack(number, _NAMES, ctypes.addressof(container)))
    _, _, count, missed = _CONTAINER.unpack_from(container)
    if missed:
        raise OverflowError(f"inode {number} has more names than fit")
    starts = struct.unpack_from(f"<{count}Q", container, _CONTAINER.size)  # each relative to where they begin
    return [ctypes.string_at(ctypes.addressof(container) + _CONTAINER.size + start) for start in starts]


def send(descriptor: int, parent: int, pipe: int) -> None:
    """Write to ``pipe`` what makes a subvolume of its parent, without file data; returns when all is written.

    :param descriptor: the root directory of a read-only subvolume.
    :param parent: id of another read-only subvolume.
    """
    fcntl.ioctl(descriptor, _SEND, _SEND_ARGS.pack(pipe, 0, 0, parent, _SEND_NO_FILE_DATA, 0))


def _after(key: Key) -> Key | None:
    """Return the least key that is greater."""
    number, kind, offset = key
    if offset < _MAX_U64:
        return number, kind, offset + 1
    if kind < _MAX_U32:
        return number, kind + 1, 0
    return (number + 1, 0, 0) if number < _MAX_U64 else None


def uuid(descriptor: int) -> str:
    """Return the id of the file system, in the form of its name in sysfs."""
    answer = bytearray(_FS_INFO_SIZE)
    fcntl.ioctl(descriptor, _FS_INFO, answer)
    digits = answer[_FSID : _FSID + 16].hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def enable_quota(descriptor: int, how: int) -> None:
    """Begin to account space, in one of two ways: ``QUOTA_FULL`` or ``QUOTA_SIMPLE``. On already is fine, either way.

    :raises OSError: ``EINVAL``, the kernel does not know that way.
    """
    fcntl.ioctl(descriptor, _QUOTA_CTL, bytearray(_TWO.pack(how, 0)))


def wait_for_rescan(descriptor: int) -> None:
    """Wait until full accounting has counted what was there before."""
    fcntl.ioctl(descriptor, _QUOTA_RESCAN_WAIT)


def create_qgroup(descriptor: int, group: int) -> None:
    """Make a group of accounts; ``EEXIST`` if it is there."""
    fcntl.ioctl(descriptor, _QGROUP_CREATE, _TWO.pack(1, group))


def remove_qgroup(descriptor: int, group: int) -> None:
    """Remove a group of accounts; ``EBUSY`` while it has members."""
    fcntl.ioctl(descriptor, _QGROUP_CREATE, _TWO.pack(0, group))


def assign_qgroup(descriptor: int, member: int, group: int, *, assign: bool = True) -> None:
    """Count a subvolume's account in a group, or no longer."""
    fcntl.ioctl(descriptor, _QGROUP_ASSIGN, struct.pack("<QQQ", assign, member, group))


def limit_qgroup(descriptor: int, group: int, exclusive: int | None) -> None:
    """Bound what the accounts of a group hold for themselves.

    :raises OSError: ``ENOENT``, there is no such group; ``ENOTCONN`` or ``EINVAL``, nothing is accounted.
    """
    bound = _MAX_U64 if exclusive is None else exclusive  # the greatest number takes the limit away
    fcntl.ioctl(descriptor, _QGROUP_LIMIT, bytearray(struct.pack("<QQQQQQ", group, _MAX_EXCL, 0, bound, 0, 0)))
