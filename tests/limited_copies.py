"""The reference storage driver with limits, which a snapshot gets by being moved into a file system in memory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from plain_copies import ACTIVE, COMMITTED, PlainCopies, measure
from plugrun.mounts import is_mount_point

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plugrun.api import Mount


class LimitedCopies(PlainCopies):
    """What is limited is lost when the machine stops; so this is for tests alone.

    :pre: what is limited for the first time is not mounted.
    """

    def limit(self, key: str, size: int) -> None:
        with self.locked():
            self.check_active(key)
            parent = self.stat(key).parent
            whole = size + (measure(self.place(COMMITTED, parent) / "fs").size if parent else 0)
            self.bound(self.place(ACTIVE, key) / "fs", whole)

    def bound(self, fs: Path, size: int) -> None:
        """Let a tree take that many bytes, its parent's copy included."""
        if is_mount_point(str(fs)):
            mount("-o", f"remount,size={max(size, measure(fs).size)}", str(fs))
            return
        into = fs.with_name("limited")
        into.mkdir()
        mount("-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(into))
        self.fill(fs, into)
        mount("--move", str(into), str(fs))
        into.rmdir()

    def commit(self, name: str, key: str) -> None:
        with self.locked():
            self.check_name(key)
            if self.find(name) is None:
                self.unbound(self.place(ACTIVE, key) / "fs", keep=True)
        super().commit(name, key)

    def remove(self, key: str) -> None:
        with self.locked():
            self.unbound(self.place(ACTIVE, key) / "fs")
        super().remove(key)

    def unbound(self, fs: Path, *, keep: bool = False) -> None:
        """Take a limit away, if there is one."""
        if is_mount_point(str(fs)):
            if keep:
                self.copy(fs, fs.with_name("kept"))
            subprocess.run(["umount", str(fs)], check=True)
            if keep:
                subprocess.run(["rm", "-r", "--", str(fs)], check=True)
                fs.with_name("kept").rename(fs)

    def fill(self, source: Path, target: Path) -> None:
        """Copy what is in one tree into another."""
        subprocess.run(["cp", "-a", "--", f"{source}/.", str(target)], check=True)


class RoomyCopies(LimitedCopies):
    """One that makes room for mounting what is full, as overlay has to: more than a case of the kit would overlook."""

    room = 8 * 2**20

    def mounts(self, key: str) -> Sequence[Mount]:
        found = super().mounts(key)
        if is_full(found[0].source):
            mount("-o", f"remount,size={measure(Path(found[0].source)).size + self.room}", found[0].source)
        return found


def is_full(fs: str) -> bool:
    """Whether a tree that is limited has reached its limit."""
    return is_mount_point(fs) and os.statvfs(fs).f_bavail == 0


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)
