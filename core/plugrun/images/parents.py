"""The directory that entries go into: found without leaving the root, made where missing, its time kept."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from plugrun.images.removal import Identity, identity
from plugrun.openat2 import open_in_root

if TYPE_CHECKING:
    from plugrun.images.metadata import Status
    from plugrun.images.whiteout import Hider

_FOLLOW: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DIRECTORY: Final = _FOLLOW | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class OpenDir:
    """A directory about to be changed.

    :param mtime: nanoseconds, when it was opened; :meth:`leave` gives it back. A layer's entry for a directory
        usually comes before what goes into it, and a directory the layer has no entry for is not to change.
    """

    fd: int
    identity: Identity
    mtime: int
    _born: dict[int, Status] = field(default_factory=dict)

    @classmethod
    def of(cls, fd: int) -> OpenDir:
        """Take over a descriptor."""
        status = os.fstat(fd)
        return cls(fd, identity(status), status.st_mtime_ns)

    def status_of_new(self, fd: int, mode: int) -> Status:
        """Return owner and permissions of a regular file that has just been made here.

        They depend on the umask, on set-group-id and default ACLs, and on mount options, so the first file tells.

        :param mode: as given to open(2).
        """
        if (born := self._born.get(mode)) is None:
            status = os.fstat(fd)
            born = self._born[mode] = status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)
        return born

    def leave(self) -> None:
        """Restore the time and close."""
        try:
            os.utime(self.fd, ns=(self.mtime, self.mtime))
        finally:
            os.close(self.fd)


class Parents:
    """Holds the last directory open, because most entries follow one of the same directory.

    :param root: descriptor of the directory that is ``/`` to the layer; stays the caller's.
    :ivar implied: path of each directory made here that the layer has had no entry for, and that hides nothing.
    """

    def __init__(self, root: int, hider: Hider) -> None:
        self._root = root
        self._hider = hider
        self._path: bytes | None = None
        self._current: OpenDir | None = None
        self.implied: dict[Identity, bytes] = {}

    def get(self, path: bytes) -> OpenDir:
        """Return the directory at ``path`` below the root, made if missing; valid until the next call.

        :param path: relative, without empty components, ``.`` or ``..``; ``b""`` for the root.
        :raises OSError: a component is neither a directory nor a link to one inside the root.
        """
        if self._current is not None and path == self._path:
            return self._current
        self.leave()
        try:
            fd = open_in_root(self._root, path or b".", _FOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            fd = self._make(path)
        self._current = OpenDir.of(fd)
        self._path = path
        return self._current

    def forget(self) -> None:
        """Look the path up again the next time: something was removed that may have been a part of it."""
        self._path = None

    def explicit(self, fd: int) -> None:
        """Note that the layer has an entry for an open directory."""
        if self.implied:
            self.implied.pop(identity(os.fstat(fd)), None)

    def leave(self) -> None:
        """Close the directory; calling it twice is fine."""
        current, self._current = self._current, None
        if current is not None:
            current.leave()

    def _make(self, path: bytes) -> int:
        fd = os.open(".", _DIRECTORY, dir_fd=self._root)
        end = -1
        for name in path.split(b"/"):
            end += 1 + len(name)
            above = OpenDir.of(fd)
            try:
                fd = self._enter(above, name, path[:end])
            finally:
                above.leave()
        return fd

    def _enter(self, above: OpenDir, name: bytes, path: bytes) -> int:
        try:
            return os.open(name, _DIRECTORY, dir_fd=above.fd)
        except FileNotFoundError:
            fd = self._make_one(above, name)
            self.implied[identity(os.fstat(fd))] = path
            return fd
        except NotADirectoryError:
            status = os.stat(name, dir_fd=above.fd, follow_symlinks=False)
            if self._hider.gives_way(above, name, status):
                os.unlink(name, dir_fd=above.fd)
                fd = self._make_one(above, name)
                self._hider.replaced(fd)
                return fd
            if stat.S_ISLNK(status.st_mode):
                return open_in_root(self._root, path, _FOLLOW)
            raise

    def _make_one(self, above: OpenDir, name: bytes) -> int:
        os.mkdir(name, 0o700, dir_fd=above.fd)
        self._hider.added(above, name)
        fd = os.open(name, _DIRECTORY, dir_fd=above.fd)
        os.fchown(fd, 0, 0)
        os.fchmod(fd, 0o755)
        return fd
