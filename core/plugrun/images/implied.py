"""Directories that a layer puts something into and has no entry for: they stay what the layers below made them.

Where a layer is unpacked without those, such a directory is new, and would cover the real one in the overlay.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final

from plugrun.images import metadata
from plugrun.images.whiteout import is_opaque

if TYPE_CHECKING:
    from collections.abc import Iterable

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _ThroughLink(Exception):
    """A directory is reached through a symbolic link only."""


def inherit(layer: int, lower: int, implied: Iterable[bytes]) -> bool:
    """Give the implied directories of a layer what they are below it.

    :param layer: a directory that holds this layer only, with whiteouts in overlayfs form; any descriptor of it,
        ``O_PATH`` is enough.
    :param lower: likewise one that shows all layers below.
    :param implied: as :func:`plugrun.images.unpack.unpack_layer` returns them.
    :return: ``False`` when the way to one is a symbolic link, so that what the layer puts into it may belong elsewhere:
        such a layer must be unpacked into a tree that holds the layers below.
    :raises OSError: the kernel refused.
    """
    try:
        for path in sorted(implied):  # parents first
            with contextlib.ExitStack() as opened:
                if (found := _find(layer, lower, path, opened)) is not None:
                    own, below = found
                    metadata.copy(below, own)
    except _ThroughLink:
        return False
    return True


def _find(layer: int, lower: int, path: bytes, opened: contextlib.ExitStack) -> tuple[int, int] | None:
    """Open a directory in both trees; ``None`` when nothing of the lower one shows."""
    for name in [b".", *path.split(b"/")] if path else [b"."]:
        if name != b"." and is_opaque(layer):
            return None
        own, below = _open(layer, name, opened), _open(lower, name, opened)
        if own is None or below is None:
            return None
        layer, lower = own, below
    return layer, lower


def _open(parent: int, name: bytes, opened: contextlib.ExitStack) -> int | None:
    """Open a directory; ``None`` when there is none.

    :raises _ThroughLink: a symbolic link is there.
    """
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise _ThroughLink from None
        return None
    opened.callback(os.close, fd)
    return fd
