"""The reference storage driver: snapshots as full copies in plain directories, the optional methods the simple way.

Correct, slow, and short; it shows that the conformance kit asks nothing that only one driver can do. Tests break it in
one place each (``broken_storage.py``).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from plugrun.api import (
    AlreadyExists,
    Changed,
    FailedPrecondition,
    InvalidArgument,
    Mount,
    NotFound,
    SnapshotInfo,
    SnapshotKind,
    Usage,
)
from plugrun.testing.trees import sync

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ACTIVE, VIEW, COMMITTED = SnapshotKind


class DirStorage:
    """Snapshots as full copies, one directory each: ``KIND/KEY/{fs,parent}``. The required methods, and ``gc``."""

    def __init__(self, state_dir: Path) -> None:
        self.state = state_dir
        for place in (*SnapshotKind, "staging"):
            (self.state / place).mkdir(mode=0o700, exist_ok=True)

    def prepare(self, key: str, parent: str | None) -> Sequence[Mount]:
        self.make(ACTIVE, key, parent)
        return self.mounts(key)

    def view(self, key: str, parent: str | None) -> Sequence[Mount]:
        self.make(VIEW, key, parent)
        return self.mounts(key)

    def mounts(self, key: str) -> Sequence[Mount]:
        kind = self.stat(key).kind
        if kind is COMMITTED:
            raise NotFound(f"no active snapshot or view {key!r}")
        return [Mount("bind", str(self.place(kind, key) / "fs"), ("ro",) if kind is VIEW else ("rw",))]

    def commit(self, name: str, key: str) -> None:
        with self.locked():
            if self.stat(key).kind is VIEW:
                raise FailedPrecondition(f"{key!r} is a view")
            self.check_active(key)
            self.check_free(name)
            self.place(ACTIVE, key).rename(self.place(COMMITTED, name))

    def remove(self, key: str) -> None:
        with self.locked():
            info = self.find(key)
            children = sorted(other.name for other in self.walk() if other.parent == key)
            if children:
                raise FailedPrecondition(f"{key!r} has children: {', '.join(children)}")
            if info is not None:
                self.place(info.kind, key).rename(self.state / "staging" / f"removed@{key}")
            self.clear_staging(required=key)

    def stat(self, key: str) -> SnapshotInfo:
        info = self.find(key)
        if info is None:
            raise NotFound(f"no snapshot {key!r}")
        return info

    def walk(self) -> Iterator[SnapshotInfo]:
        for kind in SnapshotKind:
            for place in sorted((self.state / kind).iterdir()):
                with contextlib.suppress(NotFound):
                    yield self.stat(place.name)

    def usage(self, key: str) -> Usage:
        info = self.stat(key)
        own = measure(self.place(info.kind, key) / "fs")
        base = measure(self.place(COMMITTED, info.parent) / "fs") if info.parent else Usage(0, 0)
        return Usage(max(own.size - base.size, 0), max(own.inodes - base.inodes, 0))

    def close(self) -> None:
        pass

    def gc(self, valid: frozenset[str]) -> None:
        with self.locked():
            self.clear_staging()

    # --- Steps, to be broken --------------------------------------------------------------------------------------

    def make(self, kind: SnapshotKind, key: str, parent: str | None) -> None:
        with self.locked():
            self.check_free(key)
            self.check_parent(parent)
            staging = self.fresh(key)
            self.build(staging, parent)
            staging.rename(self.place(kind, key))

    def fresh(self, key: str) -> Path:
        """Return where something is made, without what a killed process left there."""
        staging = self.state / "staging" / f"making@{key}"
        remove_tree(staging)
        return staging

    def build(self, at: Path, parent: str | None) -> None:
        at.mkdir(mode=0o700)
        if parent is None:
            (at / "fs").mkdir()
            (at / "fs").chmod(0o755)
        else:
            (at / "parent").write_text(parent)
            self.copy(self.place(COMMITTED, parent) / "fs", at / "fs")

    def copy(self, source: Path, target: Path) -> None:
        subprocess.run(["cp", "-a", "--", str(source), str(target)], check=True)

    def check_free(self, key: str) -> None:
        if self.find(key) is not None:
            raise AlreadyExists(f"snapshot {key!r} exists")

    def check_active(self, key: str) -> None:
        if self.stat(key).kind is not ACTIVE:
            raise NotFound(f"no active snapshot {key!r}")

    def check_parent(self, parent: str | None) -> None:
        if parent is not None and not self.place(COMMITTED, parent).is_dir():
            raise NotFound(f"no committed snapshot {parent!r}")

    def find(self, key: str) -> SnapshotInfo | None:
        for kind in SnapshotKind:
            place = self.place(kind, key)
            if place.is_dir():
                try:
                    return SnapshotInfo(key, kind, (place / "parent").read_text())
                except FileNotFoundError:
                    if place.is_dir():
                        return SnapshotInfo(key, kind, None)
                    return self.find(key)  # committed or removed just now
        return None

    def place(self, kind: SnapshotKind, key: str) -> Path:
        self.check_name(key)
        return self.state / kind / key

    def check_name(self, key: str) -> None:
        if "/" in key or key in {"", ".", ".."}:
            raise InvalidArgument(f"{key!r} cannot name a snapshot")

    def clear_staging(self, required: str | None = None) -> None:
        found = [path for path in (self.state / "staging").iterdir() if required in {None, path.name.partition("@")[2]}]
        if required and not found:
            raise NotFound(f"no snapshot {required!r}")
        for path in found:
            remove_tree(path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        descriptor = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class PlainCopies(DirStorage):
    """With layer directories in ``layers/KEY``, clones as copies, and the answer that anything may have changed."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        (self.state / "layers").mkdir(mode=0o700, exist_ok=True)

    def clone(self, key: str, source: str) -> None:
        with self.locked():
            self.check_free(key)
            self.check_active(source)
            staging = self.fresh(key)
            self.duplicate(self.place(ACTIVE, source), staging)
            sync(self.state)
            staging.rename(self.place(ACTIVE, key))

    def duplicate(self, source: Path, target: Path) -> None:
        self.copy(source, target)

    def changes(self, key: str) -> Iterable[Changed]:
        self.check_active(key)
        return [Changed(b"", whole=True)]

    def layer_dir(self, key: str) -> Path:
        with self.locked():
            self.check_free(key)
            staging = self.fresh(key)
            self.build(staging, None)
            staging.rename(self.staged(key))
        return self.staged(key) / "fs"

    def commit_layer(self, name: str, key: str, parent: str | None) -> None:
        with self.locked():
            self.check_name(key)
            if not self.staged(key).is_dir():
                raise NotFound(f"no layer directory {key!r}")
            self.check_free(name)
            self.check_parent(parent)
            staging = self.fresh(name)
            self.build(staging, parent)
            self.merge(self.staged(key) / "fs", staging / "fs")
            staging.rename(self.place(COMMITTED, name))
            self.discard(key)

    def merge(self, layer: Path, target: Path) -> None:
        merge(layer, target)

    def check_free(self, key: str) -> None:
        super().check_free(key)
        if self.staged(key).exists():
            raise AlreadyExists(f"layer directory {key!r} exists")

    def remove(self, key: str) -> None:
        self.check_name(key)
        with self.locked():
            self.discard(key, clear=False)
        super().remove(key)

    def gc(self, valid: frozenset[str]) -> None:
        with self.locked():
            for place in (self.state / "layers").iterdir():
                if place.name not in valid:
                    self.discard(place.name)
        super().gc(valid)

    def staged(self, key: str) -> Path:
        return self.state / "layers" / key

    def discard(self, key: str, *, clear: bool = True) -> None:
        """Let a layer directory go, if there is one, in one step."""
        if self.staged(key).is_dir():
            aside = self.state / "staging" / f"layer@{key}"
            remove_tree(aside)
            self.staged(key).rename(aside)
            if clear:
                remove_tree(aside)


def merge(layer: Path, target: Path) -> None:
    """Put a layer with overlayfs's marks onto the tree of the layers below."""
    marks = []
    for directory, below, files in os.walk(layer):
        into = target / Path(directory).relative_to(layer)
        if into.is_dir() and not into.is_symlink():
            for attribute in os.listxattr(into):
                os.removexattr(into, attribute)
            if "trusted.overlay.opaque" in os.listxattr(directory):
                hide(into)
                into.mkdir()
        for name in below + files:
            info = os.lstat(os.path.join(directory, name))
            is_directory, was_directory = name in below, (into / name).is_dir() and not (into / name).is_symlink()
            if is_directory != was_directory:
                hide(into / name)
            if info.st_rdev == 0 and info.st_mode & 0o170000 == 0o020000:
                marks.append(into / name)
    subprocess.run(["cp", "-a", "--remove-destination", "--", f"{layer}/.", str(target)], check=True)
    for mark in marks:
        info = mark.parent.stat()
        mark.unlink()
        os.utime(mark.parent, ns=(info.st_atime_ns, info.st_mtime_ns))
    for directory, _, _ in os.walk(target):
        with contextlib.suppress(OSError):
            os.removexattr(directory, "trusted.overlay.opaque")


def hide(path: Path) -> None:
    """Make an entry disappear, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Delete a tree, however deep it is, if it is there."""
    if path.exists():
        subprocess.run(["rm", "-rf", "--", str(path)], check=True)


def measure(path: Path) -> Usage:
    """Count as du(1) does, hard links once."""
    output = subprocess.run(
        ["find", str(path), "-mindepth", "1", "-printf", "%i %b\n"], check=True, capture_output=True, text=True
    ).stdout
    blocks = dict(line.split() for line in output.splitlines())
    return Usage(sum(int(count) * 512 for count in blocks.values()), len(blocks))
