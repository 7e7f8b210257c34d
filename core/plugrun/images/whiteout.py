"""Whiteouts: how an image layer says that something of the layers below is gone.

Source: OCI image specification, layer.md, "Whiteouts" and "Opaque Whiteout"; the kernel's overlayfs documentation,
"whiteouts and opaque directories". They concern lower layers only, wherever they stand among the layer's entries.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
from typing import TYPE_CHECKING, Final, Protocol

from plugrun.images.removal import Identity, remove_tree

if TYPE_CHECKING:
    from plugrun.images.parents import OpenDir

PREFIX: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
_OPAQUE_MARK: Final = "trusted.overlay.opaque"


class Whiteouts(enum.Enum):
    """Which form whiteouts take where a layer is unpacked."""

    OVERLAY = "overlay"
    """Overlayfs marks (character device 0:0, ``trusted.overlay.opaque=y``), in a directory with this layer only."""

    APPLY = "apply"
    """Removal, from a tree that holds the layers below."""


class Hider(Protocol):
    """Carries whiteouts out, and is told what the layer itself brings."""

    def added(self, directory: OpenDir, name: bytes) -> None:
        """Note that ``name`` is this layer's own."""
        ...

    def hide(self, directory: OpenDir, name: bytes) -> None:
        """Make the lower ``name`` disappear, and leave this layer's own."""
        ...

    def hide_all(self, directory: OpenDir) -> None:
        """Make everything lower in a directory disappear, and leave this layer's own."""
        ...

    def gives_way(self, directory: OpenDir, name: bytes, status: os.stat_result) -> bool:
        """Whether what is at ``name``, no directory, is hidden or lower: the layer puts something below it."""
        ...

    def replaced(self, directory: int) -> None:
        """Let nothing lower show in a new directory that took the place of something else."""
        ...


def hider(form: Whiteouts) -> Hider:
    """Return the one for this form."""
    return _OverlayHider() if form is Whiteouts.OVERLAY else _ApplyHider()


def is_mark(status: os.stat_result) -> bool:
    """Whether this is overlayfs's mark of a removed file; no layer can bring one."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(directory: int) -> bool:
    """Whether overlayfs shows nothing lower in an open directory."""
    try:
        return os.getxattr(directory, _OPAQUE_MARK) == b"y"
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.ENOTSUP}:
            return False
        raise


class _OverlayHider:
    """Needs no memory: what is in the tree is this layer's, or a mark.

    An opaque directory holds no marks: the kernel, which has nothing to merge there, would list them as entries.
    """

    def added(self, directory: OpenDir, name: bytes) -> None:
        """Need not know."""

    def hide(self, directory: OpenDir, name: bytes) -> None:
        if is_opaque(directory.fd):
            return
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=directory.fd)
        except FileExistsError:  # this layer's own: it hides the lower one, unless both are directories and merge
            if stat.S_ISDIR(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode):
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(name, flags, dir_fd=directory.fd)
                try:
                    _make_opaque(fd)
                finally:
                    os.close(fd)

    def hide_all(self, directory: OpenDir) -> None:
        _make_opaque(directory.fd)

    def gives_way(self, directory: OpenDir, name: bytes, status: os.stat_result) -> bool:  # noqa: ARG002
        return is_mark(status)

    def replaced(self, directory: int) -> None:
        _make_opaque(directory)


def _make_opaque(directory: int) -> None:
    for name in os.listdir(directory):
        if is_mark(os.stat(name, dir_fd=directory, follow_symlinks=False)):
            os.unlink(name, dir_fd=directory)
    os.setxattr(directory, _OPAQUE_MARK, b"y")


class _ApplyHider:
    """Remembers the names of the layer by the directory they are in."""

    def __init__(self) -> None:
        self._own: dict[Identity, set[bytes]] = {}

    def added(self, directory: OpenDir, name: bytes) -> None:
        self._own.setdefault(directory.identity, set()).add(name)

    def hide(self, directory: OpenDir, name: bytes) -> None:
        remove_tree(directory.fd, name, self._is_own)

    def hide_all(self, directory: OpenDir) -> None:
        for name in os.listdir(directory.fd):
            self.hide(directory, os.fsencode(name))

    def gives_way(self, directory: OpenDir, name: bytes, status: os.stat_result) -> bool:
        return not stat.S_ISLNK(status.st_mode) and not self._is_own(directory.identity, name)

    def replaced(self, directory: int) -> None:
        """Nothing to do: what was there is gone."""

    def _is_own(self, directory: Identity, name: bytes) -> bool:
        return name in self._own.get(directory, ())
