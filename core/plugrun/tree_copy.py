"""A copy of a directory tree between two open directories, with all that makes its files what they are.

Owners, permissions, extended attributes that an image may have, times, links of both kinds, device nodes, holes.
Nothing is followed: every directory is opened from its root without links, every entry by its name in it, and of files
only regular ones are read. Two descriptors are in use at a time, whatever the depth.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection

from plugrun.copying.data import FileContent
from plugrun.images import metadata
from plugrun.openat2 import open_in_root

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_tree(source: int, target: int, *, without: Collection[bytes] = ()) -> None:
    """Copy what is in the directory ``source``, and what that itself is, into the empty directory ``target``.

    :param without: names of entries of ``source`` to leave out.
    :pre: nobody writes to ``source``.
    :post: it is not on the device yet; on failure some of it is there.
    :raises OSError: the file system refused something: no space, a quota, a path that is too long.
    :raises Unavailable: it does not store the extended attribute that a file needs.
    """
    linked: dict[tuple[int, int], bytes] = {}  # the first path of each file that has several
    directories = [b"."]
    for path in directories:  # which grows meanwhile
        here, there = open_in_root(source, path, _DIRECTORY), open_in_root(target, path, _DIRECTORY)
        try:
            for name in sorted(os.listdir(f"/proc/self/fd/{here}".encode())):
                if path == b"." and name in without:
                    continue
                status = os.stat(name, dir_fd=here, follow_symlinks=False)
                whole = path + b"/" + name
                if stat.S_ISDIR(status.st_mode):
                    os.mkdir(name, 0o700, dir_fd=there)
                    directories.append(whole)
                elif first := linked.get((status.st_dev, status.st_ino)):
                    _link(target, first, there, name)
                else:
                    _copy_entry(here, there, name, status)
                    if status.st_nlink > 1:
                        linked[status.st_dev, status.st_ino] = whole
        finally:
            os.close(here)
            os.close(there)
    for path in reversed(directories):  # what is made in a directory changes its times
        here, there = open_in_root(source, path, _DIRECTORY), open_in_root(target, path, _DIRECTORY)
        try:
            metadata.copy(here, there)
        finally:
            os.close(here)
            os.close(there)


def _copy_entry(here: int, there: int, name: bytes, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        _copy_file(here, there, name)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
    else:
        os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=there)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=there, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        metadata.chmod_node(there, name, stat.S_IMODE(status.st_mode))
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=there, follow_symlinks=False)


def _copy_file(here: int, there: int, name: bytes) -> None:
    source = os.open(name, _FILE, dir_fd=here)
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), os.fsdecode(name))
        target = os.open(name, _NEW, 0o600, dir_fd=there)
        try:
            FileContent(source, status).copy_to(target, lambda _count: None)
            metadata.copy(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _link(root: int, first: bytes, there: int, name: bytes) -> None:
    parent = open_in_root(root, os.path.dirname(first), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.link(os.path.basename(first), name, src_dir_fd=parent, dst_dir_fd=there, follow_symlinks=False)
    finally:
        os.close(parent)
