"""Owner, permissions, extended attributes and time of what a layer brings, by descriptor or without following."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from plugrun.errors import Unavailable

if TYPE_CHECKING:
    from plugrun.images.entry import Entry


Status = tuple[int, int, int]  # user, group, permissions


def apply(fd: int, entry: Entry, has: Status | None = None) -> None:
    """Give a new regular file or directory what its entry says; to be called after the data is written.

    :param has: what it has already, if known: two system calls less for most files.
    :raises Unavailable: the file system has no room for a file capability.
    :raises OSError: the kernel refused.
    """
    if has != (entry.uid, entry.gid, entry.mode):
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)  # after chown, which clears set-id bits
    for name, value in entry.xattrs.items():  # after chown, which clears file capabilities
        if is_allowed(name):
            _set_xattr(fd, name, value)
    os.utime(fd, ns=(entry.mtime, entry.mtime))


def apply_nofollow(directory: int, name: bytes, entry: Entry) -> None:
    """Give a new symbolic link, device or FIFO what its entry says, as far as it can have that.

    :raises OSError: the kernel refused.
    """
    os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
    os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=directory, follow_symlinks=False)


def chmod_node(directory: int, name: bytes, mode: int) -> None:
    """Set the permissions of a device or FIFO without opening it for use.

    :raises OSError: the kernel refused.
    """
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.chmod(f"/proc/self/fd/{fd}", mode)  # fchmod(2) does not take such a descriptor
    finally:
        os.close(fd)


def copy(source: int, target: int) -> None:
    """Give a new directory what another one has.

    :raises Unavailable: as :func:`apply`.
    :raises OSError: the kernel refused.
    """
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in _allowed_of(source):
        _set_xattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))


def drop_xattrs(fd: int) -> None:
    """Remove what a lower layer gave a directory that this layer has an entry for.

    :raises OSError: the kernel refused.
    """
    for name in _allowed_of(fd):
        os.removexattr(fd, name)


def read_xattrs(file: int | bytes) -> dict[str, bytes]:
    """Return the extended attributes of a file that a layer may carry, see :func:`is_allowed`.

    :param file: a descriptor, or a path whose last component is not followed.
    :raises OSError: the kernel refused; that one is gone meanwhile is fine.
    """
    found = {}
    for name in _allowed_of(file):
        try:
            found[name] = os.getxattr(file, name, follow_symlinks=isinstance(file, int))
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
    return found


def _allowed_of(file: int | bytes) -> list[str]:
    """Return the names of the attributes that layers have set."""
    try:
        return list(filter(is_allowed, os.listxattr(file, follow_symlinks=isinstance(file, int))))
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def is_allowed(name: str) -> bool:
    """Whether a layer may set this extended attribute.

    Not ``trusted.*`` and ``user.overlay.*``, which would redirect overlayfs to other directories, and not the labels of
    the host's security modules.
    """
    if name.startswith("user."):
        return not name.startswith("user.overlay.")
    return name == "security.capability"


def _set_xattr(fd: int, name: str, value: bytes) -> None:
    try:
        os.setxattr(fd, name.encode(errors="surrogateescape"), value)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        if name == "security.capability":  # without it the program is there but does not work
            raise Unavailable(
                "the file system does not store file capabilities (extended attribute security.capability)",
                hint="keep images on ext4, xfs or btrfs",
            ) from error
