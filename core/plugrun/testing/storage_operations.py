"""What containers do to trees: named changes, one at a time, and random sequences of them that can be repeated."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plugrun.testing.storage_base import Fill, write
from plugrun.testing.trees import clear

if TYPE_CHECKING:
    from random import Random


def fill_lower(root: Path) -> None:
    """Fill the lower layer of an image that the named changes work on."""
    for name in ("etc/passwd", "etc/deep/er/file", "lib/a", "lib/b", "lib/sub/c", "opt/one", "hidden/old", "file"):
        write(name, f"content of {name}")(root)
    (root / "opt/twin").hardlink_to(root / "opt/one")
    (root / "link").symlink_to("file")
    (root / "empty").mkdir()
    os.setxattr(root / "file", "user.note", b"old")


def fill_upper(root: Path) -> None:
    """Fill a second layer, which hides some of the first and adds to it."""
    clear(root / "hidden")
    write("hidden/new")(root)
    write("lib/sub/d")(root)
    (root / "lib/b").unlink()
    write("srv/data", "x" * 5000)(root)


def move(root: Path, source: str, target: str) -> None:
    """Rename as mv(1): where rename(2) says EXDEV, copy and delete."""
    try:
        (root / source).rename(root / target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copytree(root / source, root / target, symlinks=True)
        shutil.rmtree(root / source)


def rewrite_in_place(root: Path) -> None:
    """Change content, but neither size nor modification time."""
    before = (root / "file").stat()
    with (root / "file").open("r+") as stream:
        stream.write("CONTENT")
    os.utime(root / "file", ns=(before.st_atime_ns, before.st_mtime_ns))


def write_through(root: Path) -> None:
    """Change a file of two names through one of them."""
    with (root / "opt/twin").open("a") as stream:
        stream.write("more")


def replace_directory(root: Path) -> None:
    """Delete a directory and make another of the same name, with one of the old names in it."""
    clear(root / "lib")
    write("lib/a", "another")(root)


def move_out_and_delete(root: Path) -> None:
    """Move a file out of a directory, and delete the directory."""
    (root / "etc/deep/er/file").rename(root / "rescued")
    clear(root / "etc")


def swap(root: Path) -> None:
    """Exchange two files of the image by three renames."""
    for source, target in (("etc/passwd", "aside"), ("srv/data", "etc/passwd"), ("aside", "srv/data")):
        (root / source).rename(root / target)


def rename_over_deleted(root: Path) -> None:
    """Give a new directory, with content, the name of one that is deleted before."""
    write("fresh/x/y")(root)
    clear(root / "lib")
    (root / "fresh").rename(root / "lib")


def directory_to_file(root: Path) -> None:
    """Replace a directory by a file."""
    clear(root / "lib")
    write("lib")(root)


def file_to_directory(root: Path) -> None:
    """Replace a file by a directory with content."""
    clear(root / "file")
    write("file/sub/inside")(root)


def whiteout_and_back(root: Path) -> None:
    """Delete a file and make it again with other content."""
    clear(root / "etc/passwd")
    write("etc/passwd", "content of etc/PASSWD")(root)


def delete_all(root: Path) -> None:
    """Leave an empty root directory."""
    for path in root.iterdir():
        clear(path)


def relink(root: Path) -> None:
    """Let a symbolic link lead elsewhere."""
    clear(root / "link")
    (root / "link").symlink_to("etc")


def new_tree(root: Path) -> None:
    """Make directories with files of every type."""
    for number in range(5):
        write(f"new/d{number}/e/f")(root)
    os.mkfifo(root / "new/pipe")
    (root / "new/link").symlink_to("../file")


def odd_name(root: Path) -> None:
    """Make entries whose names are no text, are long, and look like whiteouts."""
    for name in (b"\xff\xfe", b"new\nline", b"y" * 255, b".wh.etc", b" "):
        write(os.fsdecode(b"lib/" + name))(root)


NAMED: Final[dict[str, Fill]] = {
    "content with size and time kept": rewrite_in_place,
    "appended": write("etc/passwd", "longer than it was before"),
    "truncated": lambda root: os.truncate(root / "srv/data", 10),
    "mode only": lambda root: (root / "etc/passwd").chmod(0o600),
    "owner only": lambda root: os.chown(root / "etc/passwd", 5, 6),
    "time only": lambda root: os.utime(root / "etc/passwd", ns=(1, 1_000_000_007)),
    "attribute set": lambda root: os.setxattr(root / "etc/passwd", "user.note", b"new"),
    "attribute changed": lambda root: os.setxattr(root / "file", "user.note", b"new"),
    "attribute removed": lambda root: os.removexattr(root / "file", "user.note"),
    "mode of a directory": lambda root: (root / "etc/deep").chmod(0o700),
    "owner of a symbolic link": lambda root: os.chown(root / "link", 5, 6, follow_symlinks=False),
    "root directory": lambda root: root.chmod(0o700),
    "file added": write("etc/deep/new"),
    "tree added": new_tree,
    "odd names": odd_name,
    "file deleted": lambda root: clear(root / "lib/sub/d"),
    "tree deleted": lambda root: clear(root / "lib"),
    "everything deleted": delete_all,
    "deleted and made again": whiteout_and_back,
    "directory replaced": replace_directory,
    "directory to file": directory_to_file,
    "file to directory": file_to_directory,
    "link to another place": relink,
    "file renamed": lambda root: (root / "etc/passwd").rename(root / "srv/passwd"),
    "file renamed over another": lambda root: (root / "file").rename(root / "etc/passwd"),
    "files swapped": swap,
    "directory renamed": lambda root: move(root, "lib", "library"),
    "directory renamed into another": lambda root: move(root, "etc/deep", "srv/deep"),
    "new directory in a deleted one's place": rename_over_deleted,
    "moved out, rest deleted": move_out_and_delete,
    "hard link added": lambda root: (root / "etc/twin").hardlink_to(root / "file"),
    "hard link removed": lambda root: (root / "opt/one").unlink(),
    "hard link moved": lambda root: (root / "opt/twin").rename(root / "opt/other"),
    "one of two names written": write_through,
    "mode by one of two names": lambda root: (root / "opt/twin").chmod(0o600),
}
"""What each changed → how, in an image of :func:`fill_lower` and :func:`fill_upper`."""


class Sequence:
    """Random operations on one tree, the same ones for the same ``random`` and tree.

    :ivar log: what was done, for a test's message.
    """

    def __init__(self, root: Path, random: Random) -> None:
        self._root = root
        self._random = random
        self._made = 0
        self.log: list[str] = []

    def run(self, count: int) -> None:
        """Do that many, each on entries that are there; what the kernel refuses is not done."""
        operations: list[Callable[[Path], object]] = [
            self._write, self._write_new, self._write_new, self._make, self._dress, self._link, self._delete,
            self._replace, self._move, self._move, self._rewrite,
        ]  # fmt: skip
        for _ in range(count):
            operation, path = self._random.choice(operations), self._any()
            self.log.append(f"{operation.__name__[1:]} {path.relative_to(self._root)}")
            with contextlib.suppress(OSError):  # ENOTEMPTY, EISDIR, a move into itself …
                operation(path)

    def _any(self) -> Path:
        return self._random.choice(sorted(self._root.rglob("*")) or [self._root])

    def _directory(self) -> Path:
        return self._random.choice([self._root, *(path for path in sorted(self._root.rglob("*")) if _is_dir(path))])

    def _fresh(self) -> Path:
        self._made += 1
        return self._directory() / f"n{self._made}"

    def _write(self, path: Path) -> None:
        if path.is_file():  # and no pipe, at which opening waits
            path.write_text(f"written {self._random.random()}")

    def _write_new(self, _: Path) -> None:
        self._fresh().write_text("new")

    def _make(self, _: Path) -> None:
        makes: list[Fill] = [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("elsewhere")]
        self._random.choice(makes)(self._fresh())

    def _dress(self, path: Path) -> None:
        os.chown(path, self._random.randrange(9), 3, follow_symlinks=False)
        path.chmod(self._random.choice([0o700, 0o755, 0o1777]))
        os.setxattr(path, "user.note", b"%d" % self._random.randrange(9))

    def _link(self, path: Path) -> None:
        self._fresh().hardlink_to(path)

    def _delete(self, path: Path) -> None:
        clear(path)

    def _replace(self, path: Path) -> None:
        clear(path)
        if self._random.choice([True, False]):
            path.mkdir()
            (path / "inside").write_text("replaced")
        else:
            path.write_text("replaced")

    def _move(self, path: Path) -> None:
        target = self._random.choice([self._fresh(), self._any()])
        if not target.is_relative_to(path):
            move(self._root, str(path.relative_to(self._root)), str(target.relative_to(self._root)))

    def _rewrite(self, path: Path) -> None:
        before = path.lstat()
        if path.is_file() and not path.is_symlink() and before.st_size:
            with path.open("r+b") as stream:
                stream.write(b"R")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _is_dir(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
