"""Random changes to a tree, of every kind that a program in a container can make."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator


class Mutator:
    """Changes a mounted tree; the same seed always makes the same changes to the same tree."""

    def __init__(self, root: str | os.PathLike[str], seed: int) -> None:
        self._root = os.fsencode(root)
        self._random = random.Random(seed)
        self._count = 0
        self._steps: list[Callable[[], None]] = [
            getattr(self, name) for name in sorted(dir(type(self))) if name.startswith("do_")
        ]

    def run(self, steps: int) -> None:
        """Do as many things, some of which may turn out not to be possible."""
        for _ in range(steps):
            with contextlib.suppress(OSError, shutil.Error):
                self._random.choice(self._steps)()

    # --- Choosing -----------------------------------------------------------------------------------------------------

    def _all(self) -> Iterator[bytes]:
        for directory, below, files in os.walk(self._root):
            below.sort()
            yield from (os.path.join(directory, name) for name in sorted(below + files))

    def _some(self, wanted: Callable[[int], bool] = lambda _: True) -> bytes:
        found = [path for path in self._all() if wanted(os.lstat(path).st_mode)]
        if not found:
            raise OSError
        return self._random.choice(found)

    def _file(self) -> bytes:
        return self._some(stat.S_ISREG)

    def _directory(self) -> bytes:
        return self._random.choice([self._root, self._some(stat.S_ISDIR)])

    def _new(self) -> bytes:
        self._count += 1
        name = self._random.choice([b"n", b"a-b", b"\xff", b"a", b"z" * 250, b"new\nline"]) + b"%d" % self._count
        return os.path.join(self._directory(), name)

    # --- Doing --------------------------------------------------------------------------------------------------------

    def do_create(self) -> None:
        with open(self._new(), "wb") as stream:
            stream.write(self._random.randbytes(self._random.choice([0, 10, 5000, 100_000])))

    def do_create_sparse(self) -> None:
        with open(self._new(), "wb") as stream:
            stream.seek(self._random.randrange(1 << 20))
            stream.write(b"end")
            stream.truncate(2 << 20)

    def do_overwrite(self) -> None:
        with open(self._file(), "wb") as stream:
            stream.write(self._random.randbytes(100))

    def do_append(self) -> None:
        with open(self._file(), "ab") as stream:
            stream.write(b"more")

    def do_open_for_writing_only(self) -> None:
        open(self._file(), "ab").close()

    def do_overwrite_and_put_the_time_back(self) -> None:
        path = self._file()
        before = os.stat(path)
        with open(path, "r+b") as stream:
            stream.write(b"X" * min(before.st_size, 3))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def do_unlink(self) -> None:
        os.unlink(self._some(lambda mode: not stat.S_ISDIR(mode)))

    def do_remove_directory(self) -> None:
        shutil.rmtree(self._some(stat.S_ISDIR))

    def do_remake_directory(self) -> None:
        path = self._some(stat.S_ISDIR)
        shutil.rmtree(path)
        os.mkdir(path)
        open(os.path.join(path, b"inside"), "wb").close()

    def do_remake_file_as_it_was(self) -> None:
        path = self._file()
        status = os.stat(path)
        with open(path, "rb") as stream:
            data = stream.read()
        os.unlink(path)
        with open(path, "wb") as stream:
            stream.write(data)
        os.chown(path, status.st_uid, status.st_gid)
        os.chmod(path, stat.S_IMODE(status.st_mode))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def do_file_to_directory(self) -> None:
        path = self._some(lambda mode: not stat.S_ISDIR(mode))
        os.unlink(path)
        os.mkdir(path)
        os.symlink("x", os.path.join(path, b"link"))

    def do_directory_to_file(self) -> None:
        path = self._some(stat.S_ISDIR)
        shutil.rmtree(path)
        open(path, "wb").close()

    def do_mkdir(self) -> None:
        os.mkdir(self._new())

    def do_rename(self) -> None:
        os.rename(self._some(), self._new())  # which overlayfs refuses for a lower directory

    def do_rename_over(self) -> None:
        os.rename(self._file(), self._file())

    def do_link(self) -> None:
        os.link(self._some(lambda mode: not stat.S_ISDIR(mode)), self._new(), follow_symlinks=False)

    def do_symlink(self) -> None:
        os.symlink(self._random.choice([b"/", b"..", b"\xff" * 200, b"missing"]), self._new())

    def do_node(self) -> None:
        kind = self._random.choice([stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK])
        os.mknod(self._new(), kind | 0o640, os.makedev(1, self._random.randrange(3, 6)))

    def do_chmod(self) -> None:
        path = self._some(lambda mode: not stat.S_ISLNK(mode))
        os.chmod(path, self._random.choice([0o755, 0o600, 0o4755, 0o1777, 0]))

    def do_chown(self) -> None:
        os.chown(self._some(), self._random.randrange(3), 1 << 31, follow_symlinks=False)

    def do_touch(self) -> None:
        time = self._random.choice([-1_500_000_000, 0, 1_234_567_890_123_456_789, 5_000_000_000_000_000_000])
        os.utime(self._some(), ns=(time, time), follow_symlinks=False)

    def do_set_attribute(self) -> None:
        name = self._random.choice(["user.a", "user.b=c%", "user.größe"])
        os.setxattr(self._some(lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode)), name, b"\0value")

    def do_remove_attribute(self) -> None:
        path = self._some(lambda mode: not stat.S_ISLNK(mode))
        for name in os.listxattr(path):
            os.removexattr(path, name)
