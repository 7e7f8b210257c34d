"""The directories that items go into: reached from the destination, whatever a container moves meanwhile."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final

from plugrun.copying.item import Identity, identity
from plugrun.errors import FailedPrecondition, InvalidArgument
from plugrun.images.entry import printable
from plugrun.openat2 import open_beneath, open_in_root

if TYPE_CHECKING:
    from plugrun.copying.ends import End
    from plugrun.rootfd import RootDir

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Parents:
    """Directories below the destination, without a link on the way; the last one stays open.

    :param base: ``O_PATH`` descriptor of the destination; stays the caller's.
    :param end: whose tree it is in.
    """

    def __init__(self, base: int, end: End) -> None:
        self._base = base
        self._end = end
        self._path: bytes | None = None
        self._fd = -1

    def get(self, path: bytes) -> int:
        """Return a descriptor of the directory at ``path``, which is good for paths only, until the next call.

        :raises OSError: there is none, or it is reached through a link.
        :raises FailedPrecondition: it is in a file system of the kernel's.
        """
        if path != self._path:
            self.close()
            self._fd = self._open(path)
            if self._end.is_kernels(self._fd, os.fstat(self._fd).st_dev):
                raise FailedPrecondition(
                    f'"{printable(path)}" is in a file system of the kernel\'s: cp leaves it alone'
                )
            self._path = path
        return self._fd

    def made_link(self, directory: int, name: bytes) -> None:
        """Note that a symbolic link has been made."""

    def close(self) -> None:
        """Close the last one; calling it twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._path = -1, None

    def _open(self, path: bytes) -> int:
        return open_beneath(self._base, path, os.O_PATH | os.O_DIRECTORY)


class ArchiveParents(Parents):
    """What an archive's names mean: missing directories are made, links that were there lead on inside the container.

    ``tar c bin/tool | plugrun cp - web:/`` works where ``/bin`` is a link to ``usr/bin``. Links that the archive
    itself brings are not followed: it could reach beyond its destination by them.

    :param root: what ``/`` is to those links.
    :param place: path of the destination there.
    """

    def __init__(self, base: int, end: End, root: RootDir, place: str) -> None:
        super().__init__(base, end)
        self._root = root
        self._place = os.fsencode(place)
        self._made: set[Identity] = set()

    def made_link(self, directory: int, name: bytes) -> None:
        """Note that a symbolic link has been made, not to follow it."""
        self._made.add(identity(os.stat(name, dir_fd=directory, follow_symlinks=False)))

    def _open(self, path: bytes) -> int:
        fd = os.open(".", _DIRECTORY, dir_fd=self._base)
        end = -1
        for name in path.split(b"/") if path else ():
            end += 1 + len(name)
            try:
                below = self._enter(fd, name, path[:end])
            finally:
                os.close(fd)
            fd = below
        return fd

    def _enter(self, fd: int, name: bytes, path: bytes) -> int:
        with contextlib.suppress(FileNotFoundError):
            try:
                return os.open(name, _DIRECTORY, dir_fd=fd)
            except NotADirectoryError:
                return self._follow(fd, name, path)
        os.mkdir(name, 0o755, dir_fd=fd)
        made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            os.fchown(made, 0, 0)
            os.fchmod(made, 0o755)  # whatever the umask
            return os.open(".", _DIRECTORY, dir_fd=made)
        finally:
            os.close(made)

    def _follow(self, fd: int, name: bytes, path: bytes) -> int:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            raise InvalidArgument(f'"{printable(path)}" is not a directory there, and the archive has files in it')
        if identity(status) in self._made:
            raise InvalidArgument(
                f'archive entry below "{printable(path)}": a path through a link of the archive\'s own'
            )
        whole = b"%s/%s" % (self._place, path)
        return open_in_root(self._root.fd, whole, os.O_PATH | os.O_DIRECTORY)
