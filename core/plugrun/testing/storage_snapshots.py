"""Cases: what the methods of a storage driver promise."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from plugrun.api import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    SnapshotInfo,
    SnapshotKind,
    StorageDriver,
)
from plugrun.testing.storage_base import StorageCases, write
from plugrun.testing.trees import mounted


class SnapshotCases(StorageCases):
    """Prepare, view, commit, remove, stat, walk, usage."""

    def test_is_a_driver(self, driver: StorageDriver) -> None:
        """It has the methods, and an empty one shows nothing."""
        assert isinstance(driver, StorageDriver)
        assert self.known(driver) == {}

    def test_prepare_without_parent_is_an_empty_directory(self, driver: StorageDriver) -> None:
        """An empty container's root: empty, writable, mode 0755, owned by root."""
        with mounted(driver.prepare("web", None)) as root:
            assert list(root.iterdir()) == []
            assert (oct(root.stat().st_mode & 0o7777), root.stat().st_uid) == ("0o755", 0)
            write("etc/motd")(root)
        with mounted(driver.mounts("web")) as root:
            assert (root / "etc/motd").read_text() == "text"

    def test_prepare_shows_the_parent_and_leaves_it_alone(self, driver: StorageDriver) -> None:
        """A container writes, appends and deletes; the image and the next container do not notice."""
        image = self.layer(driver, "image", None, lambda root: [write(name)(root) for name in ("a", "b", "d/c")])
        with mounted(driver.prepare("web", "image")) as root:
            assert (root / "a").read_text() == "text"
            (root / "a").write_text("changed")
            (root / "b").unlink()
            write("d/new")(root)
        assert self.seen(driver, "image", times=True) == image
        with mounted(driver.prepare("next", "image")) as root:
            assert sorted(path.name for path in root.rglob("*")) == ["a", "b", "c", "d"]

    def test_prepare_answers_the_mounts(self, driver: StorageDriver) -> None:
        """The answer of ``prepare`` and ``view`` is what ``mounts`` says later."""
        self.layer(driver, "image", None, write("a"))
        assert list(driver.prepare("web", "image")) == list(driver.mounts("web"))
        assert list(driver.view("look", "image")) == list(driver.mounts("look"))

    @pytest.mark.parametrize("taken", ["active", "view", "committed"])
    def test_keys_and_names_share_one_space(self, driver: StorageDriver, taken: str) -> None:
        """A key that anything has is taken for everything, and what has it stays as it was."""
        self.layer(driver, "committed", None, write("a"))
        driver.prepare("active", "committed")
        driver.view("view", "committed")
        before = self.known(driver)
        for make in (driver.prepare, driver.view):
            with pytest.raises(AlreadyExists):
                make(taken, None)
        driver.prepare("other", None)
        with pytest.raises(AlreadyExists):
            driver.commit(taken, "other")
        driver.remove("other")
        assert self.known(driver) == before

    def test_parent_must_be_committed(self, driver: StorageDriver) -> None:
        """An unknown, active or viewed parent is not found, and the key stays free."""
        driver.prepare("active", None)
        driver.view("view", None)
        for parent in ("unknown", "active", "view"):
            for make in (driver.prepare, driver.view):
                with pytest.raises(NotFound):
                    make("web", parent)
        assert set(self.known(driver)) == {"active", "view"}
        driver.prepare("web", None)

    @pytest.mark.parametrize("depth", [0, 1, 3])
    def test_view_is_read_only(self, driver: StorageDriver, depth: int) -> None:
        """A view shows its parents, and nothing can be written through it."""
        parent = None
        for number in range(depth):
            self.layer(driver, f"layer{number}", parent, write(f"file{number}"))
            parent = f"layer{number}"
        with mounted(driver.view("look", parent)) as root:
            assert sorted(path.name for path in root.iterdir()) == [f"file{number}" for number in range(depth)]
            with pytest.raises(OSError, match="Read-only") as refused:
                write("new")(root)
            assert refused.value.errno == errno.EROFS

    def test_view_cannot_be_committed(self, driver: StorageDriver) -> None:
        """It refuses, and the view stays."""
        driver.view("look", None)
        with pytest.raises(FailedPrecondition):
            driver.commit("image", "look")
        assert set(self.known(driver)) == {"look"}

    def test_mounts_needs_an_active_snapshot_or_view(self, driver: StorageDriver) -> None:
        """Nothing else has mounts."""
        self.layer(driver, "image", None, write("a"))
        for key in ("unknown", "image"):
            with pytest.raises(NotFound):
                driver.mounts(key)

    def test_everything_is_the_same_after_reopening(self, driver: StorageDriver, state: Path) -> None:
        """A restart changes no mount, no kind and no parent."""
        self.layer(driver, "base", None, write("a"))
        self.layer(driver, "image", "base", write("b"))
        for make, key, parent in ((driver.prepare, "web", "image"), (driver.view, "look", "image")):
            make(key, parent)
        driver.prepare("scratch", None)
        mounts = {key: list(driver.mounts(key)) for key in ("web", "look", "scratch")}
        known = self.known(driver)
        driver.close()
        again = self.open(state)
        assert {key: list(again.mounts(key)) for key in mounts} == mounts
        assert self.known(again) == known
        again.close()

    def test_commit_replaces_the_key(self, driver: StorageDriver) -> None:
        """The name is committed on the same parent with the same content; the key is free again."""
        base = self.layer(driver, "base", None, write("a"))
        image = self.layer(driver, "image", "base", write("b"))
        assert self.known(driver) == {
            "base": SnapshotInfo("base", SnapshotKind.COMMITTED, None),
            "image": SnapshotInfo("image", SnapshotKind.COMMITTED, "base"),
        }
        assert self.seen(driver, "base", times=True) == base
        assert self.seen(driver, "image", times=True) == image
        driver.prepare("filling-image", None)

    def test_commit_to_a_taken_name_leaves_the_key(self, driver: StorageDriver) -> None:
        """Both stay as they were, with their content."""
        image = self.layer(driver, "image", None, write("a"))
        with mounted(driver.prepare("web", None)) as root:
            write("b")(root)
        with pytest.raises(AlreadyExists):
            driver.commit("image", "web")
        assert driver.stat("web").kind is SnapshotKind.ACTIVE
        with mounted(driver.mounts("web")) as root:
            assert (root / "b").read_text() == "text"
        assert self.seen(driver, "image", times=True) == image

    def test_commit_needs_the_key(self, driver: StorageDriver) -> None:
        """An unknown or committed key cannot be committed, and the name stays free."""
        self.layer(driver, "image", None, write("a"))
        for key in ("unknown", "image"):
            with pytest.raises(NotFound):
                driver.commit("new", key)
        assert set(self.known(driver)) == {"image"}

    def test_remove_frees_the_key(self, driver: StorageDriver) -> None:
        """Every kind can be removed; then it is not found, and its key starts empty."""
        self.layer(driver, "image", None, write("a"))
        with mounted(driver.prepare("web", None)) as root:
            write("b")(root)
        driver.view("look", None)
        for key in ("web", "look", "image"):
            driver.remove(key)
            for use in (driver.remove, driver.stat, driver.usage, driver.mounts):
                with pytest.raises(NotFound):
                    use(key)
            with mounted(driver.prepare(key, None)) as root:
                assert list(root.iterdir()) == []

    def test_remove_refuses_a_parent(self, driver: StorageDriver) -> None:
        """It names a child, and goes through once there is none."""
        base = self.layer(driver, "base", None, write("a"))
        self.layer(driver, "image", "base", write("b"))
        driver.prepare("web", "base")
        driver.view("look", "base")
        for child in ("image", "web", "look"):
            with pytest.raises(FailedPrecondition, match=r"image|web|look"):
                driver.remove("base")
            assert self.seen(driver, "base", times=True) == base
            driver.remove(child)
        driver.remove("base")

    def test_walk_and_stat_agree(self, driver: StorageDriver) -> None:
        """Every snapshot is walked once, and may be looked at meanwhile (containerd's checkStatInWalk)."""
        self.layer(driver, "image", None, write("a"))
        driver.prepare("web", "image")
        driver.view("look", "image")
        assert {info.name: driver.stat(info.name) for info in driver.walk()} == {
            "image": SnapshotInfo("image", SnapshotKind.COMMITTED, None),
            "web": SnapshotInfo("web", SnapshotKind.ACTIVE, "image"),
            "look": SnapshotInfo("look", SnapshotKind.VIEW, "image"),
        }

    def test_close_twice(self, driver: StorageDriver) -> None:
        """Closing again is fine."""
        driver.close()
        driver.close()
