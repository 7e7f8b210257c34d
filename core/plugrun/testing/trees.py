"""Mounting what a driver answers, and comparing directory trees."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plugrun.mounts import mount_all, unmount

if TYPE_CHECKING:
    from plugrun.api import Mount

Tree = dict[str, tuple[object, ...]]

_ATTRIBUTES = ("user.", "security.capability", "system.posix_acl")  # what images carry and containers may set


@contextlib.contextmanager
def mounted(mounts: Sequence[Mount]) -> Iterator[Path]:
    """Mount a driver's answer on a temporary directory, the way the engine does, and unmount it at the end."""
    target = tempfile.mkdtemp(prefix="mounted-")
    try:
        mount_all(mounts, target)
        try:
            yield Path(target)
        finally:
            unmount(target)
    finally:
        os.rmdir(target)


def describe(root: Path, *, times: bool = False) -> Tree:
    """Return everything a container could notice below ``root``, the root directory itself included.

    :param times: with modification times of files, which two trees made one after the other cannot share.
    :return: path → type and mode, owner, group, content, extended attributes, and the first path of the same inode.
    """
    found: Tree = {}
    inodes: dict[int, str] = {}
    paths = [root, *sorted(root.rglob("*"))]
    for path in paths:
        info = path.lstat()
        name = str(path.relative_to(root))
        is_dir = stat.S_ISDIR(info.st_mode)
        first = name if is_dir else inodes.setdefault(info.st_ino, name)
        modified = info.st_mtime_ns if times and not is_dir else 0
        found[name] = (*_owner(info), _content(path, info), _attributes(path, info), first, modified)
    return found


def differences(before: Path, after: Path) -> set[bytes]:
    """Return the paths, relative and empty for the root, at which two trees are not the same.

    They are when both have an entry of the same type, content, owner, mode, time and extended attributes. Which names
    are hard links of each other is not compared: a name that came or went is a difference already.
    """
    one, other = _survey(os.fsencode(before)), _survey(os.fsencode(after))
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}


def sync(root: Path) -> None:
    """Call syncfs(2) on the file system mounted at ``root``, as the engine does before it has a driver copy it."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), f"cannot sync {root}")
    finally:
        os.close(descriptor)


def inodes(root: Path) -> int:
    """Count everything below ``root``."""
    return sum(1 for _ in root.rglob("*"))


def clear(path: Path) -> None:
    """Delete a file or a directory."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _survey(root: bytes) -> dict[bytes, tuple[object, ...]]:
    """Return what there is at each path, times of directories included."""
    found: dict[bytes, tuple[object, ...]] = {}
    paths = [root, *(os.path.join(at, name) for at, below, files in os.walk(root) for name in below + files)]
    for path in paths:
        info = os.lstat(path)
        facts = (*_owner(info), _content(path, info), _attributes(path, info), info.st_mtime_ns)
        found[path[len(root) + 1 :]] = facts
    return found


def _owner(info: os.stat_result) -> tuple[str, int, int]:
    return oct(info.st_mode), info.st_uid, info.st_gid


def _content(path: bytes | Path, info: os.stat_result) -> object:
    if stat.S_ISLNK(info.st_mode):
        return os.readlink(os.fsencode(path))
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    return None if stat.S_ISDIR(info.st_mode) else info.st_rdev


def _attributes(path: bytes | Path, info: os.stat_result) -> object:
    names = [] if stat.S_ISLNK(info.st_mode) else sorted(os.listxattr(path))
    return [(name, os.getxattr(path, name)) for name in names if name.startswith(_ATTRIBUTES)]
