"""Mounting what a driver answers, and comparing directory trees."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plugrun.mounts import mount_all, unmount

if TYPE_CHECKING:
    from plugrun.api import Mount

Tree = dict[str, tuple[object, ...]]


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
        is_dir = path.is_dir() and not path.is_symlink()
        first = name if is_dir else inodes.setdefault(info.st_ino, name)
        modified = info.st_mtime_ns if times and not is_dir else 0
        found[name] = (oct(info.st_mode), info.st_uid, info.st_gid, _content(path), _attributes(path), first, modified)
    return found


def inodes(root: Path) -> int:
    """Count everything below ``root``."""
    return sum(1 for _ in root.rglob("*"))


def clear(path: Path) -> None:
    """Delete a file or a directory."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _content(path: Path) -> object:
    if path.is_symlink():
        return os.readlink(path)
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    info = path.lstat()
    return None if path.is_dir() else info.st_rdev


def _attributes(path: Path) -> object:
    names = [] if path.is_symlink() else sorted(os.listxattr(path))
    return [(name, os.getxattr(path, name)) for name in names if name.startswith(("user.", "security.capability"))]
