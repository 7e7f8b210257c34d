"""Copy-up: an empty volume gets what the image has where the volume is mounted.

The copy is made in a directory of the volume itself, which is then renamed to say that it is whole, and only after
that are its entries moved up. So a crash leaves either a copy that is thrown away or one that is moved up by whoever
mounts the volume next, and never are files of the user's taken for half a copy.

The image, and whoever else has the volume mounted meanwhile, may be hostile: everything is done on descriptors and on
single names in them, and no link is followed (CVE-2022-23648).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from typing import TYPE_CHECKING

from plugrun import linux
from plugrun.errors import PlugrunError, Unavailable
from plugrun.images import metadata
from plugrun.tree_copy import copy_tree

if TYPE_CHECKING:
    from plugrun.rootfd import RootDir

PARTIAL, WHOLE = ".plugrun-copying", ".plugrun-copied"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def fill(volume: RootDir, image: RootDir, destination: str, what: str) -> None:
    """Copy what an image has at ``destination`` into a volume if that is empty, and give the volume's root its owner.

    :param image: a root file system that nobody writes to.
    :param what: the volume, for messages.
    :pre: the caller holds the volume's lock, and :func:`finish` was called.
    :post: all is there, and survives a power cut; on failure nothing is.
    :raises Unavailable: the volume has no room, or its file system cannot keep something that the image has.
    """
    try:
        source = image.open(destination, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # the image has nothing there, or no directory
        return
    try:
        if not _names(volume.fd):
            _fill(volume.fd, source)
    except (OSError, PlugrunError) as error:
        finish(volume)
        reason = error.strerror if isinstance(error, OSError) else error
        raise Unavailable(
            f"{what} cannot take what the image has at {destination}: {reason}",
            hint="make room, or leave it empty with the option nocopy",
        ) from error
    finally:
        os.close(source)


def finish(volume: RootDir) -> None:
    """Settle what a crash left of an earlier copy: throw half a one away, move a whole one up."""
    if _is_directory(volume.fd, PARTIAL):
        shutil.rmtree(PARTIAL, dir_fd=volume.fd)
    if _is_directory(volume.fd, WHOLE):
        _move_up(volume.fd)


def _fill(volume: int, source: int) -> None:
    os.mkdir(PARTIAL, 0o700, dir_fd=volume)
    aside = os.open(PARTIAL, _DIRECTORY, dir_fd=volume)
    try:
        copy_tree(source, aside, without={PARTIAL.encode(), WHOLE.encode()})
        linux.syncfs(f"/proc/self/fd/{aside}")
    finally:
        os.close(aside)
    os.rename(PARTIAL, WHOLE, src_dir_fd=volume, dst_dir_fd=volume)
    _move_up(volume)


def _move_up(volume: int) -> None:
    """Move the entries of a whole copy to where they belong, then make the volume what the copied directory is."""
    top = os.open(".", _DIRECTORY, dir_fd=volume)
    try:
        whole = os.open(WHOLE, _DIRECTORY, dir_fd=volume)
        try:
            modified = os.fstat(whole).st_mtime_ns  # before anything leaves it
            there = set(_names(top))
            for name in _names(whole):
                if name not in there:  # somebody has made one of that name since: it stays
                    os.rename(name, name, src_dir_fd=whole, dst_dir_fd=top)
            metadata.copy(whole, top)
        finally:
            os.close(whole)
        shutil.rmtree(WHOLE, dir_fd=top)
        os.utime(top, ns=(modified, modified))
        linux.syncfs(f"/proc/self/fd/{top}")
    finally:
        os.close(top)


def _names(directory: int) -> list[bytes]:
    return os.listdir(f"/proc/self/fd/{directory}".encode())


def _is_directory(parent: int, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    return False
