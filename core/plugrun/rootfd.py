"""File access confined to one directory tree, by openat2(2).

A container's root file system is hostile input: any of its names may be a symbolic link that points at the host.
The kernel resolves every path here with ``RESOLVE_IN_ROOT``, as if the directory were ``/``, without the Python
process ever entering it (a chroot would let a later ``import`` run the image's code, as in CVE-2019-14271).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Final, Self

from plugrun.errors import DriverError, InvalidArgument, NotFound
from plugrun.openat2 import open_in_root

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_MAX_LINKS: Final = 40  # MAXSYMLINKS of the kernel
_MAX_PATH: Final = 4095  # PATH_MAX of the kernel, without the NUL byte


class RootDir:
    """An open directory that every path is resolved in; closes its descriptor at the end of ``with``."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> RootDir:
        """Open the directory at a trusted host path.

        :raises NotFound: there is no such directory.
        :raises DriverError: it cannot be opened.
        """
        try:
            return cls(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"no directory {os.fspath(path)}") from error
        except OSError as error:
            raise DriverError(f"cannot open directory {os.fspath(path)}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; calling it twice is fine."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        """Open a path inside; see :func:`open_in_root` for parameters and errors."""
        return open_in_root(self.fd, os.fsencode(path), flags, mode)

    def resolve(self, path: str, *, covered: Collection[str] = ()) -> str:
        """Return the absolute path inside the root that ``path`` leads to, every link followed.

        Missing components are kept as they are, so that the answer can be created; ``..`` stops at the root.

        :param covered: resolved paths of directories that something will be mounted on: what they contain now counts
            as missing.
        :raises InvalidArgument: a component is not a directory, there are too many links, or the path is too long.
        :raises DriverError: the file system refused.
        """
        with _explained(path):
            names = self._resolve(os.fsencode(path), {os.fsencode(place).lstrip(b"/") for place in covered})
        return os.fsdecode(b"/" + b"/".join(names))

    def ensure_dir(self, path: str, *, mode: int = 0o755, uid: int = 0, gid: int = 0) -> int:
        """Make the directory that ``path`` leads to inside the root, and its missing parents.

        :param mode: permissions of what is created, whatever the umask; existing directories keep theirs.
        :return: an ``O_PATH`` descriptor of the directory; the caller closes it.
        :raises InvalidArgument: as :meth:`resolve`.
        :raises DriverError: the file system refused.
        """
        with _explained(path):
            return self._make(self._resolve(os.fsencode(path)), mode, uid, gid)

    def ensure_file(self, path: str) -> None:
        """Make an empty file (0644, root) that something can be mounted on, unless a non-directory is there.

        :raises InvalidArgument: ``path`` leads to a directory, or as :meth:`resolve`.
        :raises DriverError: the file system refused.
        """
        with _explained(path):
            names = self._resolve(os.fsencode(path))
            if not names:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            parent = self._make(names[:-1], 0o755, 0, 0)
            try:
                _make_file(parent, names[-1])
            finally:
                os.close(parent)

    def read_regular(self, path: str, *, limit: int) -> bytes | None:
        """Read a whole regular file, or return ``None`` when there is none.

        Never blocks on a FIFO or device that hides behind a well-known name (CVE-2024-9676).

        :param limit: most bytes the file may have.
        :raises InvalidArgument: it is not a regular file, or larger, or its links go in circles.
        :raises DriverError: the file system refused.
        """
        with _explained(path):
            try:
                fd = self.open(path, os.O_PATH)  # opening a device for real may do things, such as arm a watchdog
            except (FileNotFoundError, NotADirectoryError):
                return None
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise InvalidArgument(f"{path!r} in the root file system is not a regular file")
                content = b"" if status.st_size > limit else _read_upto(fd, limit + 1)
                if max(status.st_size, len(content)) > limit:
                    raise InvalidArgument(f"{path!r} in the root file system is larger than {limit} bytes")
                return content
            finally:
                os.close(fd)

    def _resolve(self, path: bytes, covered: Collection[bytes] = ()) -> list[bytes]:
        """Follow links by hand, because the kernel resolves only what exists.

        Nothing can escape meanwhile: each look-up is confined to the root, and a link's text only joins ``todo``. Every
        component costs one look-up, and with their number limited as the kernel does, a hostile path soon ends.
        """
        if len(path) > _MAX_PATH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        names: list[bytes] = []
        covering = 0  # how many of the names lead to the covered place that the rest is in
        todo = path.split(b"/")[::-1]
        links = 0
        while todo:
            name = todo.pop()
            if name in {b"", b"."}:
                continue
            if name == b"..":
                del names[-1:]
                continue
            if len(names) < covering:  # ".." or a link has left it
                covering = 0
            names.append(name)
            if covering:
                continue
            place = b"/".join(names)
            if place in covered:
                covering = len(names)
            target = self._link(place)
            if target is not None:
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                names = [] if target.startswith(b"/") else names[:-1]
                todo += target.split(b"/")[::-1]
        return names

    def _link(self, path: bytes) -> bytes | None:
        """Return the text of the link at ``path``, or ``None`` for everything else, absence included."""
        try:
            fd = open_in_root(self.fd, path, os.O_PATH | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            if not stat.S_ISLNK(os.fstat(fd).st_mode):
                return None
            return os.readlink(b"", dir_fd=fd)
        finally:
            os.close(fd)

    def _make(self, names: list[bytes], mode: int, uid: int, gid: int) -> int:
        fd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
        for name in names:
            try:
                child = _enter_or_make(fd, name, mode, uid, gid)
            finally:
                os.close(fd)
            fd = child
        return fd


def _enter_or_make(parent: int, name: bytes, mode: int, uid: int, gid: int) -> int:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        return os.open(name, flags, dir_fd=parent)
    os.mkdir(name, 0o700, dir_fd=parent)
    made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.fchown(made, uid, gid)
        os.fchmod(made, mode)  # after chown, which clears set-id bits
        return os.open(".", flags, dir_fd=made)
    finally:
        os.close(made)


def _make_file(parent: int, name: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, 0o600, dir_fd=parent)
    except FileExistsError:
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
        return
    try:
        os.fchown(fd, 0, 0)
        os.fchmod(fd, 0o644)
    finally:
        os.close(fd)


def _read_upto(path_fd: int, count: int) -> bytes:
    with open(f"/proc/self/fd/{path_fd}", "rb", buffering=0) as file:
        chunks = []
        while count > 0 and (chunk := file.read(count)):
            chunks.append(chunk)
            count -= len(chunk)
        return b"".join(chunks)


_ABOUT_THE_PATH = {
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.ENXIO,
}


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn an :class:`OSError` into a sentence about ``path``."""
    try:
        yield
    except OSError as error:
        kind = InvalidArgument if error.errno in _ABOUT_THE_PATH else DriverError
        raise kind(f"cannot use {path!r} in the root file system: {error.strerror}") from error
