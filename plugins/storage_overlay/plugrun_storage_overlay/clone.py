"""Copying an upper directory with all that overlayfs and the container have put there.

A tree may be deeper than a path, a call stack or a process's descriptors reach, so the copy walks down by name and up
by ``..``, with one descriptor on each side. That needs a source which nobody changes meanwhile. What cannot be copied
are the flags of chattr(1), which only a container with ``CAP_LINUX_IMMUTABLE`` can set.

Sources: ioctl_ficlone(2), copy_file_range(2), lseek(2) "SEEK_DATA"; Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator

_FICLONE = 0x40049409  # linux/fs.h
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SOURCE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME | os.O_CLOEXEC
_TARGET = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 30  # copy_file_range(2) and sendfile(2) take little more at once
_NO_REFLINKS = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS}
_IDENTITY = "trusted.overlay.uuid"  # of one overlay file system: a copy gets its own


def copy_tree(source: str, target: str, links: str) -> None:
    """Copy a directory into an empty one: every entry, with owner, permissions, times, attributes, holes, hard links.

    Data is shared where the file system can (reflinks), else copied.

    :param links: an empty directory beside ``target``, through which files with several names go.
    :pre: nothing changes ``source`` meanwhile; all three are in one file system.
    :raises OSError: no space is left, or what else the kernel says; ``target`` then holds a part.
    """
    with contextlib.ExitStack() as opened:
        at = {}
        for name, path in (("source", source), ("target", target), ("links", links)):
            at[name] = os.open(path, _DIRECTORY)
            opened.callback(lambda name=name: os.close(at[name]))  # type: ignore[misc]
        _Copy(at).run()


class _Copy:
    """One copy under way.

    :param at: descriptors of where it is now, in ``source`` and ``target``, and of ``links``.
    """

    def __init__(self, at: dict[str, int]) -> None:
        self._at = at
        self._reflinks = True
        self._names_left: dict[int, int] = {}  # of files with several, by inode

    def run(self) -> None:
        pending = [self._entries()]  # at each level the directories that are still to be entered
        while pending:
            if pending[-1]:
                name = pending[-1].pop()
                os.mkdir(name, 0o700, dir_fd=self._at["target"])
                self._go(name)
                pending.append(self._entries())
                continue
            pending.pop()
            self._finish()
            if pending:
                self._go("..")

    def _go(self, name: str) -> None:
        for side in ("source", "target"):
            left = self._at[side]
            self._at[side] = os.open(name, _DIRECTORY, dir_fd=left)
            os.close(left)

    def _finish(self) -> None:
        """Give the directory that is complete what its source has; whatever is added to it later changes its time."""
        source, target = self._at["source"], self._at["target"]
        info = os.fstat(source)
        os.fchown(target, info.st_uid, info.st_gid)
        os.fchmod(target, stat.S_IMODE(info.st_mode))
        for name in os.listxattr(source):
            if name != _IDENTITY:
                os.setxattr(target, name, os.getxattr(source, name))
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))

    def _entries(self) -> list[str]:
        """Copy what is no directory; return the names of the directories."""
        directories = []
        with os.scandir(self._at["source"]) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    directories.append(entry.name)
                elif info.st_nlink > 1:
                    self._linked(entry.name, info)
                else:
                    self._new(entry.name, info, self._at["target"], entry.name)
        return directories

    def _linked(self, name: str, info: os.stat_result) -> None:
        """Copy one of a file's names: the file itself with the first of them, and aside, where the others find it.

        With the last one it moves there, so that it never has more names than its source, of which there is a most.
        """
        target, links, aside = self._at["target"], self._at["links"], str(info.st_ino)
        if info.st_ino not in self._names_left:
            self._names_left[info.st_ino] = info.st_nlink
            self._new(name, info, links, aside)
        self._names_left[info.st_ino] -= 1
        if self._names_left[info.st_ino]:
            os.link(aside, name, src_dir_fd=links, dst_dir_fd=target, follow_symlinks=False)
        else:
            os.rename(aside, name, src_dir_fd=links, dst_dir_fd=target)

    def _new(self, name: str, info: os.stat_result, target: int, new: str) -> None:
        if stat.S_ISREG(info.st_mode):
            self._file(name, info, target, new)
            return
        source = self._at["source"]
        if stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), new, dir_fd=target)
        else:
            os.mknod(new, info.st_mode, info.st_rdev, dir_fd=target)
        os.chown(new, info.st_uid, info.st_gid, dir_fd=target, follow_symlinks=False)
        here, there = f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{new}"
        if not stat.S_ISLNK(info.st_mode):
            os.chmod(there, stat.S_IMODE(info.st_mode))  # mknod(2) heeds the umask
        for attribute in os.listxattr(here, follow_symlinks=False):
            value = os.getxattr(here, attribute, follow_symlinks=False)
            os.setxattr(there, attribute, value, follow_symlinks=False)
        os.utime(new, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=target, follow_symlinks=False)

    def _file(self, name: str, info: os.stat_result, target: int, new: str) -> None:
        source = os.open(name, _SOURCE, dir_fd=self._at["source"])
        try:
            made = os.open(new, _TARGET, 0o600, dir_fd=target)
            try:
                if info.st_size:
                    self._content(source, made, info.st_size)
                os.fchown(made, info.st_uid, info.st_gid)
                os.fchmod(made, stat.S_IMODE(info.st_mode))  # after chown, which clears set-id bits
                for attribute in os.listxattr(source):
                    os.setxattr(made, attribute, os.getxattr(source, attribute))
                os.utime(made, ns=(info.st_atime_ns, info.st_mtime_ns))
            finally:
                os.close(made)
        finally:
            os.close(source)

    def _content(self, source: int, target: int, size: int) -> None:
        if self._reflinks:
            try:
                fcntl.ioctl(target, _FICLONE, source)
            except OSError as error:
                if error.errno not in _NO_REFLINKS:
                    raise
                self._reflinks = False
            else:
                return
        os.ftruncate(target, size)
        for start, end in _data(source, size):
            _copy_range(source, target, start, end)


def _data(source: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where a file has data: everything else is a hole."""
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole to the end
                return
            raise
        end = os.lseek(source, start, os.SEEK_HOLE)
        yield start, end


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    copy = os.copy_file_range
    while start < end:
        try:
            copied = copy(source, target, min(end - start, _CHUNK), start, start)
        except OSError as error:
            if error.errno not in _NO_REFLINKS or copy is _send:
                raise
            copy = _send  # type: ignore[assignment]
            continue
        if not copied:
            return  # shorter than it was a moment ago
        start += copied


def _send(source: int, target: int, count: int, start: int, offset: int) -> int:
    os.lseek(target, offset, os.SEEK_SET)
    return os.sendfile(target, source, start, count)
