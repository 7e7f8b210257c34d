"""Walking trees that somebody hostile made, and may still be changing: no link followed, any depth, one descriptor.

Everything is reached by the descriptor of its directory, which was opened without following links; the way back up is
``..``, made sure to lead to where the way down came from. So neither the call stack nor the table of descriptors
bounds how deep a tree may be, and a directory that is swapped for a link leads nowhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, Self

from plugrun.errors import FailedPrecondition

if TYPE_CHECKING:
    from types import TracebackType

Identity = tuple[int, int]  # device and inode number

LONGEST: Final = 4095  # bytes of a path: PATH_MAX of the kernel, without the NUL byte

GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})  # what was there a moment ago is not any more

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Cursor:
    """An open directory of a tree, moved to others by name.

    :param root: descriptor of the tree's root, ``O_PATH`` is enough; stays the caller's.
    :ivar fd: the directory.
    :ivar names: the way to it from the root.
    """

    def __init__(self, root: int) -> None:
        self.fd = os.open(".", _DIRECTORY, dir_fd=root)
        self.names: list[bytes] = []
        self._way = [identity(os.fstat(self.fd))]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)

    def down(self, name: bytes) -> None:
        """Enter a directory.

        :raises OSError: it is gone, or no directory (any more); the cursor stays where it is.
        """
        self._move(os.open(name, _DIRECTORY, dir_fd=self.fd))
        self.names.append(name)
        self._way.append(identity(os.fstat(self.fd)))

    def up(self) -> None:
        """Go back to the directory above.

        :raises FailedPrecondition: somebody has moved this one away.
        """
        above = os.open("..", _DIRECTORY, dir_fd=self.fd)
        if identity(os.fstat(above)) != self._way[-2]:
            os.close(above)
            raise FailedPrecondition(
                f"directory {self.names[-1]!a} was moved while the tree was being read",
                hint="try again, or stop the container first",
            )
        self._move(above)
        self.names.pop()
        self._way.pop()

    def go(self, names: Sequence[bytes]) -> None:
        """Move to another directory of the tree; raises as :meth:`up` and :meth:`down`."""
        common = 0
        for one, other in zip(self.names, names, strict=False):
            if one != other:
                break
            common += 1
        while len(self.names) > common:
            self.up()
        for name in names[common:]:
            self.down(name)

    def list(self) -> list[bytes]:
        """Return the names in the directory, in no order."""
        return [os.fsencode(name) for name in os.listdir(self.fd)]

    def _move(self, fd: int) -> None:
        os.close(self.fd)
        self.fd = fd


def identity(status: os.stat_result) -> Identity:
    """Return what tells one inode from every other."""
    return status.st_dev, status.st_ino


def split(path: bytes) -> tuple[list[bytes], bytes]:
    """Return the way to the directory that a path is in, and its name there, ``b"."`` for the root ``b""``."""
    *above, name = path.split(b"/")
    return above, name or b"."


def status(directory: int, name: bytes) -> os.stat_result | None:
    """Return the status of an entry, not of what it links to; ``None`` when there is none (any more)."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def beside(directory: int, name: bytes) -> bytes:
    """Return a path of an entry for the system calls that take no descriptor of a directory.

    Safe for those that do not follow the last component: the directory is one that is open.
    """
    return b"/proc/self/fd/%d/%b" % (directory, name)


def open_regular(directory: int, name: bytes) -> int:
    """Open a regular file for reading. Never opens anything else: what is behind a device or a FIFO might notice.

    :raises FileNotFoundError: it is gone, or something else now.
    """
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(handle)


def walk(root: int) -> Iterator[bytes]:
    """Yield the path of everything in a tree, directories before what is in them; ``b""``, the root, first.

    :param root: as for :class:`Cursor`.
    :raises FailedPrecondition: a path is too long for any program, or the tree is being rearranged.
    """
    with Cursor(root) as cursor:
        yield b""
        levels = [(b"", sorted(cursor.list(), reverse=True))]
        while levels:
            prefix, names = levels[-1]
            if not names:
                levels.pop()
                if levels:
                    cursor.up()
                continue
            name = names.pop()
            path = check_length(prefix + name)
            yield path
            found = status(cursor.fd, name)
            if found is None or not stat.S_ISDIR(found.st_mode):
                continue
            try:
                cursor.down(name)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                continue
            levels.append((path + b"/", sorted(cursor.list(), reverse=True)))


def check_length(path: bytes) -> bytes:
    """Return a path that a program can use.

    :raises FailedPrecondition: it is longer.
    """
    if len(path) > LONGEST:
        raise FailedPrecondition(
            f"the container has directories nested too deeply: a path begins with {path[:60]!a} and is longer than "
            f"{LONGEST} bytes",
            hint="remove them in the container",
        )
    return path
