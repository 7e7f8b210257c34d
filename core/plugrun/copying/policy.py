"""What a copy has of the original besides its content: owner, permissions, attributes, time."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.copying.item import Item


class Policy(NamedTuple):
    """What a copy has of the original besides content, permissions and times.

    :param owner: user and group of everything; ``None`` for the original's.
    :param rights: whether set-id bits and file capabilities are kept.
    :param devices: whether device nodes are made; else they are passed over.
    :param existing: whether directories that exist take the original's owner and permissions.
    """

    owner: tuple[int, int] | None
    rights: bool
    devices: bool
    existing: bool

    def apply(self, fd: int, item: Item) -> None:
        """Give a file or directory what it is to have, after its content is there."""
        os.fchown(fd, *self._owner(item))
        os.fchmod(fd, self._mode(item))  # after chown, which clears set-id bits
        for name, value in item.xattrs.items():
            if self.rights or name != "security.capability":
                with contextlib.suppress(OSError):  # as in Docker: the file system may know none
                    os.setxattr(fd, name.encode(errors="surrogateescape"), value)
        os.utime(fd, ns=(item.mtime, item.mtime))

    def apply_nofollow(self, directory: int, name: bytes, item: Item) -> None:
        """Give a symbolic link what it can have."""
        os.chown(name, *self._owner(item), dir_fd=directory, follow_symlinks=False)
        os.utime(name, ns=(item.mtime, item.mtime), dir_fd=directory, follow_symlinks=False)

    def apply_to_node(self, directory: int, name: bytes, item: Item) -> None:
        """Give a device or FIFO what it is to have, without opening it for use."""
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            node = f"/proc/self/fd/{fd}"  # fchown(2) and the like do not take such a descriptor
            os.chown(node, *self._owner(item))
            os.chmod(node, self._mode(item))
            os.utime(node, ns=(item.mtime, item.mtime))
        finally:
            os.close(fd)

    def _owner(self, item: Item) -> tuple[int, int]:
        return self.owner or (item.uid, item.gid)

    def _mode(self, item: Item) -> int:
        return item.mode if self.rights else item.mode & 0o1777
