"""Measuring and deleting directory trees that other people filled.

A container may nest directories deeper than a path, a call stack or a process's descriptors reach, so deleting uses
none of them up. Nothing here follows a symbolic link.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 512  # unit of st_blocks, stat(2)
_DEPTH = 200  # one descriptor each, and no real tree comes near


def delete(parent: int, name: str) -> None:
    """Delete ``name`` in the directory ``parent``, whatever it is. Absent is fine, and so is another doing the same.

    A directory that is not empty is first lifted out into ``parent``, so all the work is done one level deep. After a
    crash the rest lies in ``parent``, each part under a name that begins with ``name``.

    :pre: ``parent`` holds only what is to be deleted.
    :raises OSError: something cannot be deleted, such as an immutable file or a mount point.
    """
    lifted = (f"{name}.{number}" for number in itertools.count())
    pending = [name]
    while pending:
        current = pending.pop()
        try:
            descriptor = os.open(current, _DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise
            _unlink(current, parent)
            continue
        try:
            while not _removed(current, parent):  # unlinking while reading may skip entries: read again
                pending += _empty(descriptor, parent, lifted)
        finally:
            os.close(descriptor)


def measure(path: str) -> tuple[int, int]:
    """Return the bytes allocated and the inodes below ``path``, without ``path`` itself; a hard link counts once.

    What lies more than 200 levels deep is not counted: no descriptor is left for it.
    """
    sizes: dict[tuple[int, int], int] = {}
    top = os.open(path, _DIRECTORY)
    try:
        for info in _walk(top, 1):
            sizes[info.st_dev, info.st_ino] = info.st_blocks * _BLOCK
    finally:
        os.close(top)
    return sum(sizes.values()), len(sizes)


def _empty(descriptor: int, parent: int, lifted: Iterator[str]) -> list[str]:
    """Unlink the files of an open directory and lift its directories into ``parent``; return their new names."""
    moved: list[str] = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                _unlink(entry.name, descriptor)
            elif not _removed(entry.name, descriptor):
                moved += _lift(entry.name, descriptor, parent, lifted)
    return moved


def _lift(name: str, descriptor: int, parent: int, lifted: Iterator[str]) -> list[str]:
    for free in lifted:
        try:
            os.rename(name, free, src_dir_fd=descriptor, dst_dir_fd=parent)
        except FileNotFoundError:
            return []
        except OSError as error:
            if error.errno == errno.ENOSPC:  # a new name may need a block, and what it is for frees many
                if not _thin(name, descriptor, 1):
                    raise
                return [] if _removed(name, descriptor) else _lift(name, descriptor, parent, lifted)
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:  # a name left by a crash
                raise
        else:
            return [free]
    raise AssertionError("numbers do not end")


def _thin(name: str, parent: int, depth: int) -> int:
    """Delete what is in a directory where it is, as deep as there are descriptors for; return how much was deleted."""
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:  # another deletes it too
        return 1
    deleted = 0
    try:
        with os.scandir(descriptor) as entries:
            found = list(entries)
        for entry in found:
            if not entry.is_dir(follow_symlinks=False):
                _unlink(entry.name, descriptor)
                deleted += 1
                continue
            if depth < _DEPTH and not _removed(entry.name, descriptor):
                deleted += _thin(entry.name, descriptor, depth + 1)
            deleted += _removed(entry.name, descriptor)
    finally:
        os.close(descriptor)
    return deleted


def _removed(name: str, descriptor: int) -> bool:
    """Remove an empty directory; answer whether it is gone."""
    try:
        os.rmdir(name, dir_fd=descriptor)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        return False
    return True


def _unlink(name: str, descriptor: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=descriptor)


def _walk(descriptor: int, depth: int) -> Iterator[os.stat_result]:
    with os.scandir(descriptor) as entries:
        found = list(entries)
    for entry in found:
        try:
            yield entry.stat(follow_symlinks=False)
            if depth < _DEPTH and entry.is_dir(follow_symlinks=False):
                child = os.open(entry.name, _DIRECTORY, dir_fd=descriptor)
                try:
                    yield from _walk(child, depth + 1)
                finally:
                    os.close(child)
        except (FileNotFoundError, NotADirectoryError):
            continue  # a running container changed it meanwhile
