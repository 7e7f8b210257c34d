"""One thing on its way from one tree to another, whatever it is read from."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from plugrun.errors import DriverError, FailedPrecondition, InvalidArgument, PlugrunError, Unavailable
from plugrun.images.entry import EntryType, printable

Identity = tuple[int, int]  # device and inode number
Tick = Callable[[int], None]  # told of bytes that have been copied


class Content(Protocol):
    """The bytes of a regular file."""

    def copy_to(self, target: int, tick: Tick) -> None:
        """Write them to a new, empty file, holes as holes.

        :raises OSError: they cannot be read or written.
        """
        ...


@dataclass(slots=True, kw_only=True)
class Item:
    """A file, directory, link or node.

    :param path: relative to the source, without ``.``, ``..`` or empty components; ``b""`` for the source itself.
    :param mtime: nanoseconds since the epoch.
    :param linkname: target of a symbolic link; the path of the item that a hard link repeats.
    :param identity: of its inode, if it has more than one name.
    :param content: of a regular file.
    """

    path: bytes
    type: EntryType
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    linkname: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, bytes] = field(default_factory=dict)
    identity: Identity | None = None
    content: Content | None = None


def identity(status: os.stat_result) -> Identity:
    """Return what tells one inode from every other."""
    return status.st_dev, status.st_ino


_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_BAD: Final = {errno.ENAMETOOLONG, errno.EMLINK, errno.EFBIG, errno.EINVAL}
_CHANGED: Final = {errno.ELOOP, errno.ENOTDIR, errno.ENOENT}


def failure(path: bytes, error: OSError) -> PlugrunError:
    """Make the error for an item that cannot be copied; what was copied before it is complete."""
    what, reason = f'"{printable(path or b".")}"', error.strerror
    if error.errno in _FULL:
        return Unavailable(
            f"no space left for {what}: {reason}",
            hint="what was copied before it is complete; make room, and try again",
        )
    if error.errno == errno.EROFS:
        return FailedPrecondition(f"cannot copy {what}: it would go to a file system that is read-only there")
    if error.errno in _CHANGED:
        return FailedPrecondition(
            f"cannot copy {what}: its directory was moved or replaced meanwhile", hint="try again"
        )
    kind = InvalidArgument if error.errno in _BAD else DriverError
    return kind(f"cannot copy {what}: {reason}")
