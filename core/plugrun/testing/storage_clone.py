"""Cases: copies of active snapshots (:class:`plugrun.api.SupportsClone`)."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import pytest

from plugrun.api import AlreadyExists, NotFound, SnapshotInfo, SnapshotKind, StorageDriver, SupportsClone
from plugrun.testing.processes import run_together
from plugrun.testing.storage_base import StorageCases, write
from plugrun.testing.trees import clear, describe, differences, mounted, sync

if TYPE_CHECKING:
    from plugrun.testing.trees import Tree

_MIB = 2**20
_RIVALS = 4


@runtime_checkable
class CloneDriver(StorageDriver, SupportsClone, Protocol):
    """A storage driver that also copies active snapshots."""


def furnish(root: Path) -> None:
    """Fill an image with one entry of each kind that a copy could get wrong."""
    for name in ("kept", "gone", "replaced/old", "opaque/old", "tree/a/b"):
        write(name)(root)
    (root / "kept-twin").hardlink_to(root / "kept")


def live(root: Path) -> None:
    """Do in a container what leaves its mark on the snapshot: deletions, replacements, links, attributes, holes."""
    for name in ("gone", "replaced", "opaque", "tree/a"):
        clear(root / name)
    write("replaced", "a file now")(root)
    write("opaque/new")(root)
    write("one", "linked")(root)
    (root / "two").hardlink_to(root / "one")
    (root / "tree/three").hardlink_to(root / "one")
    (root / "link").symlink_to("one")
    os.mkfifo(root / "pipe", 0o640)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.setxattr(root / "one", "user.note", b"\0\xff")
    os.chown(root / "one", 1000, 2000)
    (root / "one").chmod(0o4755)
    (root / "tree").chmod(0o1777)
    os.utime(root / "tree", ns=(1, 1_234_567_891_000_000_001))
    with (root / "sparse").open("wb") as stream:
        stream.truncate(8 * _MIB)
        stream.seek(4 * _MIB)
        stream.write(b"island")


class CloneCases(StorageCases):
    """Skipped for drivers that do not declare it."""

    @pytest.fixture
    def cloning(self, driver: StorageDriver) -> CloneDriver:
        """Return the driver, if it can do this, with the committed ``image`` and ``web`` lived in on it."""
        if not isinstance(driver, CloneDriver):
            pytest.skip("the driver does not declare SupportsClone")
        self.layer(driver, "image", None, furnish)
        with mounted(driver.prepare("web", "image")) as root:
            live(root)
            sync(root)
        return driver

    @staticmethod
    def tree(driver: StorageDriver, key: str) -> Tree:
        """Return what an active snapshot shows."""
        with mounted(driver.mounts(key)) as root:
            return describe(root, times=True)

    def test_clone_shows_what_its_source_does(self, cloning: CloneDriver) -> None:
        """Deleted stays deleted, replaced stays replaced, and everything has its owner, mode, time and attributes."""
        cloning.clone("copy", "web")
        assert cloning.stat("copy") == SnapshotInfo("copy", SnapshotKind.ACTIVE, "image")
        with mounted(cloning.mounts("web")) as source, mounted(cloning.mounts("copy")) as copy:
            assert not differences(source, copy)
            assert not (copy / "gone").exists(), "a whiteout was lost"
            assert [path.name for path in (copy / "opaque").iterdir()] == ["new"], "an opaque directory was lost"

    def test_clone_keeps_hard_links_together(self, cloning: CloneDriver) -> None:
        """Names of one inode in the source are names of one inode in the clone, and of another than there."""
        cloning.clone("copy", "web")
        assert self.tree(cloning, "copy") == self.tree(cloning, "web")
        with mounted(cloning.mounts("copy")) as copy:
            assert [(copy / name).stat().st_nlink for name in ("one", "two", "tree/three")] == [3, 3, 3]
            write("two", "changed through one name")(copy)
            assert (copy / "one").read_text() == "changed through one name"
        with mounted(cloning.mounts("web")) as source:
            assert (source / "one").read_text() == "linked"

    def test_clone_keeps_holes(self, cloning: CloneDriver) -> None:
        """A sparse file takes no more space than in the source, give or take a block."""
        cloning.clone("copy", "web")
        with mounted(cloning.mounts("copy")) as copy:
            info = (copy / "sparse").stat()
            assert info.st_size == 8 * _MIB
            assert info.st_blocks * 512 < _MIB, "the holes were filled"

    @pytest.mark.parametrize("written", ["source", "copy"])
    def test_clone_is_independent(self, cloning: CloneDriver, written: str) -> None:
        """Whichever of the two is written to in place, appended to and deleted from, the other does not change."""
        cloning.clone("copy", "web")
        changed, other = ("web", "copy") if written == "source" else ("copy", "web")
        before = self.tree(cloning, other)
        with mounted(cloning.mounts(changed)) as root:
            for name in ("one", "kept"):
                with (root / name).open("r+") as stream:
                    stream.write("X")
            with (root / "sparse").open("ab") as stream:
                stream.write(b"more")
            (root / "tree").chmod(0o700)
            os.setxattr(root / "kept", "user.note", b"new")
            clear(root / "opaque")
            (root / "link").unlink()
        assert self.tree(cloning, other) == before
        assert self.tree(cloning, changed) != before

    @pytest.mark.parametrize("removed", ["web", "copy"])
    def test_clone_and_source_are_removed_on_their_own(self, cloning: CloneDriver, removed: str) -> None:
        """Removing one leaves the other, and the key can be used again; the image stays protected until both go."""
        cloning.clone("copy", "web")
        before = self.tree(cloning, "web")
        cloning.remove(removed)
        (other,) = {"web", "copy"} - {removed}
        self.clean(cloning)
        assert self.tree(cloning, other) == before
        assert set(self.known(cloning)) == {"image", other}
        cloning.clone(removed, other)
        for key in ("web", "copy", "image"):
            cloning.remove(key)

    def test_clone_of_a_mounted_source(self, cloning: CloneDriver) -> None:
        """A container may run on the source: what was written and synced is in the clone, what comes later is not."""
        with mounted(cloning.mounts("web")) as root:
            write("before")(root)
            sync(root)
            cloning.clone("copy", "web")
            write("after")(root)
        with mounted(cloning.mounts("copy")) as copy:
            assert (copy / "before").read_text() == "text"
            assert not (copy / "after").exists()

    def test_clone_of_a_clone(self, cloning: CloneDriver) -> None:
        """Copies of copies, ten deep, are copies; removing what is between changes nothing."""
        before = self.tree(cloning, "web")
        for number in range(10):
            cloning.clone(f"copy{number}", f"copy{number - 1}" if number else "web")
            if number:
                cloning.remove(f"copy{number - 1}")
        assert self.tree(cloning, "copy9") == before == self.tree(cloning, "web")

    def test_clone_without_a_parent(self, cloning: CloneDriver) -> None:
        """A snapshot that stands on nothing, such as a volume, is cloned alike."""
        with mounted(cloning.prepare("data", None)) as root:
            live_on_nothing(root)
            sync(root)
        cloning.clone("copy", "data")
        assert cloning.stat("copy") == SnapshotInfo("copy", SnapshotKind.ACTIVE, None)
        with mounted(cloning.mounts("data")) as source, mounted(cloning.mounts("copy")) as copy:
            assert not differences(source, copy)
        assert self.tree(cloning, "copy") == self.tree(cloning, "data")

    def test_clone_can_be_committed(self, cloning: CloneDriver) -> None:
        """It is an active snapshot like any other: committed, it is a layer with the same content."""
        before = self.tree(cloning, "web")
        cloning.clone("copy", "web")
        cloning.commit("new", "copy")
        assert cloning.stat("new").parent == "image"
        assert self.seen(cloning, "new", times=True) == before
        assert self.tree(cloning, "web") == before

    def test_clone_needs_a_free_key(self, cloning: CloneDriver) -> None:
        """A key that anything has is taken, the source's own too, and what has it stays as it was."""
        cloning.view("look", "image")
        cloning.prepare("db", None)
        before, known = self.tree(cloning, "web"), self.known(cloning)
        for taken in ("web", "db", "look", "image"):
            with pytest.raises(AlreadyExists):
                cloning.clone(taken, "web")
        assert self.known(cloning) == known
        assert self.tree(cloning, "web") == before

    def test_clone_needs_an_active_source(self, cloning: CloneDriver) -> None:
        """An unknown, viewed or committed source is not found, and the key stays free."""
        cloning.view("look", "image")
        for source in ("unknown", "look", "image"):
            with pytest.raises(NotFound):
                cloning.clone("copy", source)
        assert set(self.known(cloning)) == {"image", "look", "web"}
        cloning.prepare("copy", None)

    def test_clone_is_there_after_reopening(self, cloning: CloneDriver, state: Path) -> None:
        """A restart changes neither mounts nor content."""
        cloning.clone("copy", "web")
        mounts, before = list(cloning.mounts("copy")), self.tree(cloning, "copy")
        cloning.close()
        again = self.open(state)
        assert list(again.mounts("copy")) == mounts
        assert self.tree(again, "copy") == before
        again.close()

    def test_one_of_many_clones_gets_a_key(self, cloning: CloneDriver, state: Path) -> None:
        """Several processes clone to the same key: one wins, the others are told, and the clone is whole."""

        def rival() -> None:
            driver = self.open(state)
            assert isinstance(driver, SupportsClone)
            driver.clone("copy", "web")
            driver.close()

        assert sorted(run_together([rival] * _RIVALS)) == ["AlreadyExists"] * (_RIVALS - 1) + ["ok"]
        assert self.tree(cloning, "copy") == self.tree(cloning, "web")


def live_on_nothing(root: Path) -> None:
    """As :func:`live`, in a directory that was empty."""
    furnish(root)
    live(root)
