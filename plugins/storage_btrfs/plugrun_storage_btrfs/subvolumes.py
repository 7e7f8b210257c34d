"""Making, freezing and deleting subvolumes, with the subvolumes that containers made inside of them.

Anybody may make a subvolume in a directory that he can write. It takes no part in a snapshot of the one around it,
which shows an empty directory in its place, and keeps that one from being deleted. So each is treated along.
"""

from __future__ import annotations

import errno
import os

import btrfsutil

_TOP_LEVEL = 5  # BTRFS_FS_TREE_OBJECTID: the subvolume that mkfs makes
_ROOT_MODE = 0o755


def create(path: str) -> None:
    """Make an empty subvolume, whose root directory is what a container's ``/`` is."""
    btrfsutil.create_subvolume(path)
    os.chmod(path, _ROOT_MODE)


def snapshot(source: str, path: str) -> None:
    """Make a writable copy of a subvolume, including all data written to it until now, and of those nested in it.

    :post: what is at ``path`` survives a power cut.
    """
    btrfsutil.create_snapshot(source, path, recursive=True)


def freeze_copy(source: str, path: str) -> None:
    """Make a read-only copy of a subvolume, without those nested in it."""
    btrfsutil.create_snapshot(source, path, read_only=True)


def freeze(path: str) -> None:
    """Make a subvolume read-only; it survives a power cut, like everything done before. Twice is fine."""
    if not btrfsutil.get_subvolume_read_only(path):
        btrfsutil.set_subvolume_read_only(path, read_only=True)


def nested(path: str) -> list[str]:
    """Return the paths of the subvolumes inside of one, relative to it, each before those inside of itself."""
    with btrfsutil.SubvolumeIterator(path) as found:
        return [name for name, _ in found]


def delete(path: str) -> None:
    """Delete a subvolume and those nested in it, each at once whatever it holds; the space comes back later.

    :raises OSError: something holds one of them: an active swap file, or a send in progress.
    """
    inside = nested(path)
    if inside:
        for name in ("", *inside):  # nothing can be deleted inside of a read-only one
            _thaw(f"{path}/{name}" if name else path)
    try:
        btrfsutil.delete_subvolume(path, recursive=bool(inside))
    except OSError as error:
        if error.errno != errno.EPERM or not _undo_default(path):
            raise
        btrfsutil.delete_subvolume(path, recursive=bool(inside))


def _thaw(path: str) -> None:
    if btrfsutil.get_subvolume_read_only(path):
        btrfsutil.set_subvolume_read_only(path, read_only=False)


def _undo_default(path: str) -> bool:
    """Let the default for mounting be no subvolume of a container, which a privileged one can make it."""
    default = btrfsutil.get_default_subvolume(path)
    inside = [btrfsutil.subvolume_id(f"{path}/{name}") for name in nested(path)]
    if default not in {btrfsutil.subvolume_id(path), *inside}:
        return False
    btrfsutil.set_default_subvolume(path, _TOP_LEVEL)
    return True
