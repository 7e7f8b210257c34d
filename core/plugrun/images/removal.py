"""Removing a directory tree that somebody hostile made: no link followed, any depth, three descriptors.

:func:`shutil.rmtree` recurses once and opens one descriptor for each level, so a layer with a thousand nested
directories would make it fail half-way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from plugrun.errors import FailedPrecondition

Identity = tuple[int, int]  # device and inode number
Keep = Callable[[Identity, bytes], bool]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class _Level:
    """A directory on the way down: its name in the one above, and the names in it still to be seen."""

    name: str
    identity: Identity
    mtime: int
    todo: list[str]


def remove_tree(parent: int, name: bytes, keep: Keep = lambda _identity, _name: False) -> None:
    """Remove ``name`` from the directory ``parent``, with all it contains; nothing there is fine.

    :param keep: says of an entry, given by its directory's identity and its name, that it stays. A directory on the
        way to such an entry stays too. Directories that are kept keep their time of modification.
    :raises FailedPrecondition: somebody moved a directory meanwhile.
    :raises OSError: the kernel refused.
    """
    fd = os.open(".", _DIRECTORY, dir_fd=parent)
    try:
        levels = [_Level("", identity(os.fstat(fd)), 0, [os.fsdecode(name)])]
        while levels[-1].todo or len(levels) > 1:
            level = levels[-1]
            if level.todo:
                entry = level.todo.pop()
                kept = keep(level.identity, os.fsencode(entry))
                below = _unlink_or_enter(fd, entry, kept=kept)
                if below is not None:
                    os.close(fd)
                    fd = below
                    status = os.fstat(fd)
                    levels.append(_Level(entry, identity(status), status.st_mtime_ns, os.listdir(fd)))
            else:
                levels.pop()
                above = _leave(fd, level, levels[-1])
                os.close(fd)
                fd = above
                if not keep(levels[-1].identity, os.fsencode(level.name)):
                    _remove_if_empty(fd, level.name)
    finally:
        os.close(fd)


def identity(status: os.stat_result) -> Identity:
    """Return what tells one inode from every other."""
    return status.st_dev, status.st_ino


def _unlink_or_enter(fd: int, name: str, *, kept: bool) -> int | None:
    """Unlink a non-directory unless it is kept; return the descriptor of a directory."""
    with contextlib.suppress(FileNotFoundError):
        if kept:
            if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                return None
        else:
            try:
                os.unlink(name, dir_fd=fd)
            except IsADirectoryError:
                pass
            else:
                return None
        return os.open(name, _DIRECTORY, dir_fd=fd)
    return None


def _leave(fd: int, level: _Level, upper: _Level) -> int:
    """Return the directory above, made sure to be the one we came from."""
    os.utime(fd, ns=(level.mtime, level.mtime))
    above = os.open("..", _DIRECTORY, dir_fd=fd)
    if identity(os.fstat(above)) != upper.identity:
        os.close(above)
        raise FailedPrecondition(f"directory {level.name!r} was moved while it was being removed")
    return above


def _remove_if_empty(fd: int, name: str) -> None:
    try:
        os.rmdir(name, dir_fd=fd)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:  # something kept is in it
            raise
