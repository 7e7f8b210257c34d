"""Directory trees compared to the last bit that a container could notice."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
}


class Node(NamedTuple):
    """What one path of a tree is.

    :param mtime: nanoseconds since the epoch.
    :param device: major and minor number of a device node.
    :param content: size and SHA-256 of a file, target of a symbolic link.
    :param same: the first path, in the order of bytes, that is the same file: which paths are hard links of each other.
    """

    kind: str
    mode: str
    owner: int
    group: int
    mtime: int
    device: tuple[int, int] | None
    content: object
    xattrs: dict[bytes, bytes]
    same: bytes


Tree = dict[bytes, Node]


class Difference(NamedTuple):
    """One fact about one path.

    :param fact: a field of :class:`Node`; ``path`` if only one tree has it.
    """

    name: bytes
    fact: str
    ours: object
    theirs: object

    def __str__(self) -> str:
        return f"{self.name!r}: {self.fact} {self.ours!r} instead of {self.theirs!r}"


def survey(root: Path) -> Tree:
    """Describe everything below a directory, and the directory itself as ``.``; names need not be text."""
    first: dict[tuple[int, int], bytes] = {}
    return {name: describe(path, name, first) for name, path in sorted(walk(os.fsencode(root)))}


def walk(root: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield every path relative to the root, and how to reach it."""
    yield b".", root
    for directory, below, files in os.walk(root, onerror=fail):
        for name in below + files:
            path = os.path.join(directory, name)
            yield os.path.relpath(path, root), path


def fail(error: OSError) -> None:
    raise error


def describe(path: bytes, name: bytes, first: dict[tuple[int, int], bytes]) -> Node:
    info = os.lstat(path)
    is_device = stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode)
    return Node(
        kind=KINDS[stat.S_IFMT(info.st_mode)],
        mode=f"{stat.S_IMODE(info.st_mode):04o}",
        owner=info.st_uid,
        group=info.st_gid,
        mtime=info.st_mtime_ns,
        device=(os.major(info.st_rdev), os.minor(info.st_rdev)) if is_device else None,
        content=content(path, info),
        xattrs={
            os.fsencode(key): os.getxattr(path, key, follow_symlinks=False)
            for key in os.listxattr(path, follow_symlinks=False)
        },
        same=first.setdefault((info.st_dev, info.st_ino), name),
    )


def content(path: bytes, info: os.stat_result) -> object:
    if stat.S_ISLNK(info.st_mode):
        return os.readlink(path)
    if not stat.S_ISREG(info.st_mode):
        return None
    with open(path, "rb") as stream:
        return info.st_size, hashlib.file_digest(stream, "sha256").hexdigest()


def differences(ours: Tree, theirs: Tree) -> list[Difference]:
    """Return all that is not the same in both trees, by path."""
    found = []
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            found.append(Difference(name, "path", name in ours, name in theirs))
            continue
        facts = zip(Node._fields, ours[name], theirs[name], strict=True)
        found += [Difference(name, fact, one, other) for fact, one, other in facts if one != other]
    return found
