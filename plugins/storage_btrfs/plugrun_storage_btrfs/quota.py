"""Bounding what a snapshot holds for itself, by the accounts that btrfs keeps of subvolumes (*qgroups*).

Simple accounting (Linux 6.7) charges each extent to the subvolume that wrote it, as long as anybody uses it: a snapshot
starts at nothing, whatever its parent holds, and clones of it change nothing. Subvolumes that a container makes inside
of its own join the groups of that; so the limit is that of a group with the subvolume in it. Nothing has to be counted
when it is turned on. But what was written before is charged to nobody, and older kernels then do not mount the file
system any more.

Full accounting, where it is on already or the kernel is older, counts what only one subvolume refers to: what a
container shares with a clone or a nested snapshot of itself is not in its limit, nor are subvolumes inside of it.
"""

from __future__ import annotations

import contextlib
import errno
import os

import btrfsutil
from plugrun.api import Unavailable
from plugrun_storage_btrfs import ioctl, subvolumes

_LEVEL_1 = 1 << 48  # a group's id is its level and a number; level 0 is that of the subvolumes themselves


def limit(path: str, size: int) -> None:
    """Let a subvolume, with those nested in it, hold ``size`` bytes for itself; accounting is turned on if it is off.

    :raises Unavailable: the kernel cannot do it.
    """
    number = btrfsutil.subvolume_id(path)
    with _beside(path) as descriptor:
        if not _is_simple(descriptor):
            ioctl.limit_qgroup(descriptor, number, size)
            return
        group = _LEVEL_1 | number
        with contextlib.suppress(FileExistsError):
            ioctl.create_qgroup(descriptor, group)
        for member in _members(path):
            with contextlib.suppress(FileExistsError):
                ioctl.assign_qgroup(descriptor, member, group)
        ioctl.limit_qgroup(descriptor, group, size)


def forget(path: str) -> None:
    """Take a subvolume's limit away, and what was made for it; before it is deleted, or no limit is fine.

    What fails leaves an empty group behind, which does nothing: removing a snapshot must not end here.
    """
    with contextlib.suppress(OSError), _beside(path) as descriptor:
        number = btrfsutil.subvolume_id(path)
        ioctl.limit_qgroup(descriptor, number, None)
        group = _LEVEL_1 | number
        ioctl.limit_qgroup(descriptor, group, None)  # raises when there is none
        for member in _members(path):
            with contextlib.suppress(OSError):
                ioctl.assign_qgroup(descriptor, member, group, assign=False)
        ioctl.remove_qgroup(descriptor, group)


def _beside(path: str) -> contextlib.AbstractContextManager[int]:
    """Open the directory around a subvolume: changes to groups are charged to where they are asked for."""
    return ioctl.opened(os.path.dirname(path))


def _members(path: str) -> list[int]:
    return [btrfsutil.subvolume_id(f"{path}/{name}") for name in ("", *subvolumes.nested(path))]


def _is_simple(descriptor: int) -> bool:
    """Return how the file system accounts space, having turned it on if need be."""
    groups = f"/sys/fs/btrfs/{ioctl.uuid(descriptor)}/qgroups"
    if not os.path.isdir(groups):
        return _turn_on(descriptor)
    try:
        with open(f"{groups}/mode", encoding="ascii") as stream:
            return stream.read().strip() == "squota"
    except FileNotFoundError:  # a kernel that knows one way only
        return False


def _turn_on(descriptor: int) -> bool:
    try:
        ioctl.enable_quota(descriptor, ioctl.QUOTA_SIMPLE)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
            raise Unavailable(
                f"the kernel does not account the space of subvolumes: {error.strerror}",
                hint="leave size= out, or see what the kernel log (dmesg) says",
            ) from error
        ioctl.enable_quota(descriptor, ioctl.QUOTA_FULL)
        ioctl.wait_for_rescan(descriptor)
        return False
    return True
