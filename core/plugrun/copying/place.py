"""Writing a tree that somebody else may be changing: each thing is made anew beside its name and put there complete.

A regular file has no name until all its bytes, its owner and its permissions are there (``O_TMPFILE``), so that neither
a full disk nor SIGKILL leaves half of one. Nothing that exists is written through but a file that something is mounted
on, such as a container's ``/etc/hosts``. Directories are merged; a directory never replaces something else, nor the
other way round, as in Docker.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from plugrun import linux
from plugrun.copying.data import write_through
from plugrun.copying.item import Identity, Item, Tick, failure, identity
from plugrun.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from plugrun.images.entry import EntryType, printable
from plugrun.openat2 import open_beneath

if TYPE_CHECKING:
    from collections.abc import Callable

    from plugrun.copying.parents import Parents
    from plugrun.copying.policy import Policy

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ASIDE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_TMPFILE: Final = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}
_FORMATS: Final = {
    EntryType.CHARACTER: stat.S_IFCHR,
    EntryType.BLOCK: stat.S_IFBLK,
    EntryType.FIFO: stat.S_IFIFO,
}


class Placer:
    """Puts items below one directory.

    :param base: ``O_PATH`` descriptor of the directory; stays the caller's.
    :param name: what the source itself is called there; ``b""`` if its contents go right in.
    :param tick: told of every part of a file.
    :ivar devices: how many nodes were passed over.
    """

    def __init__(self, base: int, name: bytes, parents: Parents, policy: Policy, tick: Tick) -> None:
        self._base = base
        self._name = name
        self._parents = parents
        self._policy = policy
        self._tick = tick
        self._tmpfile = True
        self._times: list[tuple[bytes, int]] = []  # of directories on the way down
        self._placed: dict[Identity, tuple[bytes, Identity]] = {}  # original → path and inode of its copy
        self.devices = 0

    def put(self, item: Item) -> Identity | None:
        """Put one item.

        :return: of a directory, its identity.
        :raises AlreadyExists: a directory would replace something else, or something else a directory.
        :raises PlugrunError: it cannot be written; nothing has its name then that is not complete.
        """
        path = b"/".join(filter(None, (self._name, item.path)))
        try:
            self._settle(path)
            if not path:
                return self._base_itself(item)
            above, _, name = path.rpartition(b"/")
            return self._put(self._parents.get(above), name, path, item)
        except OSError as error:
            raise failure(path, error) from error

    def close(self) -> None:
        """Set what can only be set at the end: times of directories."""
        self._settle(None)
        self._parents.close()

    def _put(self, directory: int, name: bytes, path: bytes, item: Item) -> Identity | None:
        if item.type is EntryType.DIRECTORY:
            return self._directory(directory, name, path, item)
        if item.type is EntryType.REGULAR:
            if not self._same_again(directory, name, item):
                self._file(directory, name, path, item)
        elif item.type is EntryType.SYMLINK:
            self._replacing(directory, name, lambda new: os.symlink(item.linkname, new, dir_fd=directory))
            self._policy.apply_nofollow(directory, name, item)
            self._parents.made_link(directory, name)
        elif item.type is EntryType.HARDLINK:
            self._hardlink(path, item)
        else:
            self._node(directory, name, path, item)
        return None

    # --- directories

    def _directory(self, above: int, name: bytes, path: bytes, item: Item) -> Identity:
        new = True
        try:
            os.mkdir(name, 0o700, dir_fd=above)
        except FileExistsError:
            new = False
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=above)
        except NotADirectoryError:
            raise AlreadyExists(
                f'"{printable(path)}" is there and no directory: a directory cannot replace it'
            ) from None
        try:
            if new or self._policy.existing:
                self._times.append((path, item.mtime))
                self._policy.apply(fd, item)
            return identity(os.fstat(fd))
        finally:
            os.close(fd)

    def _base_itself(self, item: Item) -> Identity:
        fd = os.open(".", _DIRECTORY, dir_fd=self._base)
        try:
            if self._policy.existing:
                self._times.append((b"", item.mtime))
                self._policy.apply(fd, item)
            return identity(os.fstat(fd))
        finally:
            os.close(fd)

    def _settle(self, path: bytes | None) -> None:
        """Set the time of each directory that ``path`` is not in: nothing more is put there."""
        while self._times:
            done, mtime = self._times[-1]
            if path is not None and (not done or path.startswith(done + b"/")):
                return
            self._times.pop()
            with contextlib.suppress(OSError):  # moved by somebody: the time of what is there now is not ours to set
                fd = open_beneath(self._base, done, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.utime(fd, ns=(mtime, mtime))
                finally:
                    os.close(fd)

    # --- files

    def _file(self, directory: int, name: bytes, path: bytes, item: Item) -> None:
        fd, aside = self._unnamed(directory)
        try:
            assert item.content is not None
            item.content.copy_to(fd, self._tick)
            self._policy.apply(fd, item)
            if aside is not None:
                if _is_mounted_on(directory, name):
                    write_through(directory, name, fd)
                else:
                    os.rename(aside, name, src_dir_fd=directory, dst_dir_fd=directory)
            else:
                link = f"/proc/self/fd/{fd}"
                self._replacing(directory, name, lambda new: os.link(link, new, dst_dir_fd=directory), content=fd)
            if item.identity is not None:
                self._placed[item.identity] = path, identity(os.fstat(fd))
        finally:
            os.close(fd)
            if aside is not None:
                with contextlib.suppress(FileNotFoundError):  # as it has its name now
                    os.unlink(aside, dir_fd=directory)

    def _unnamed(self, directory: int) -> tuple[int, bytes | None]:
        """Return a new file, and its name where the file system knows no files without one."""
        if self._tmpfile:
            try:
                flags = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC
                return os.open(".", flags, 0o600, dir_fd=directory), None
            except OSError as error:
                if error.errno not in _NO_TMPFILE:
                    raise
                self._tmpfile = False
        aside = _aside()
        return os.open(aside, _ASIDE, 0o600, dir_fd=directory), aside

    def _same_again(self, directory: int, name: bytes, item: Item) -> bool:
        """Link to the copy of a file that had a name before; whether that went well."""
        if item.identity is None or item.identity not in self._placed:
            return False
        path, copy = self._placed[item.identity]
        with contextlib.suppress(OSError):  # moved, or on another file system: it is copied once more
            fd = open_beneath(self._base, path, os.O_PATH)
            try:
                if identity(os.fstat(fd)) == copy:
                    self._link(directory, name, fd)
                    return True
            finally:
                os.close(fd)
        return False

    def _hardlink(self, path: bytes, item: Item) -> None:
        """Make an archive's hard link; what it names is looked up as a path of the archive."""
        above, _, name = item.linkname.rpartition(b"/")
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._parents.get(above))
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise InvalidArgument(f'"{printable(path)}" is a hard link to a directory')
            above, _, name = path.rpartition(b"/")
            self._link(self._parents.get(above), name, fd)
        finally:
            os.close(fd)

    def _link(self, directory: int, name: bytes, fd: int) -> None:
        self._replacing(directory, name, lambda new: os.link(f"/proc/self/fd/{fd}", new, dst_dir_fd=directory))

    # --- everything else

    def _node(self, directory: int, name: bytes, path: bytes, item: Item) -> None:
        if item.type is not EntryType.FIFO and not self._policy.devices:
            self.devices += 1
            return
        if item.type is EntryType.CHARACTER and item.device == (0, 0):
            raise InvalidArgument(f'"{printable(path)}" is character device 0:0, overlayfs\'s mark for a removed file')
        mode, device = _FORMATS[item.type] | 0o600, os.makedev(*item.device)
        self._replacing(directory, name, lambda new: os.mknod(new, mode, device, dir_fd=directory))
        self._policy.apply_to_node(directory, name, item)

    @staticmethod
    def _replacing(directory: int, name: bytes, make: Callable[[bytes], None], *, content: int | None = None) -> None:
        """Make something at a name, in place of what may be there.

        :param content: an open file, whose bytes go into what is mounted there, if something is.
        """
        try:
            make(name)
        except FileExistsError:
            if _is_mounted_on(directory, name):
                if content is None:
                    raise FailedPrecondition(f'"{printable(name)}" cannot be replaced: it is mounted there') from None
                write_through(directory, name, content)
                return
            aside = _aside()
            make(aside)
            try:
                os.rename(aside, name, src_dir_fd=directory, dst_dir_fd=directory)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(aside, dir_fd=directory)


def _aside() -> bytes:
    return b".plugrun-" + os.urandom(8).hex().encode()


def _is_mounted_on(directory: int, name: bytes) -> bool:
    """Whether something is mounted on a file that is about to be replaced; nothing there is fine.

    A rename over a mount point of another namespace, such as a container's ``/etc/hosts``, would not fail but take the
    mount away (Linux 3.18, "vfs: lazily unmount").

    :raises AlreadyExists: it is a directory.
    """
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return False
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise AlreadyExists(f'"{printable(name)}" is there and a directory: only a directory can be merged with it')
        return linux.mount_id(fd) != linux.mount_id(directory)
    finally:
        os.close(fd)
