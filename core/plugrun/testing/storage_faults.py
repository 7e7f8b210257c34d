"""Cases: processes that die in the middle."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from plugrun.api import AlreadyExists, NotFound, StorageDriver, SupportsClone, SupportsGC, SupportsLayerDir
from plugrun.testing.processes import killed_before
from plugrun.testing.storage_base import StorageCases, write
from plugrun.testing.trees import describe, inodes, mounted, sync

Act = Callable[[StorageDriver], object]


class FaultCases(StorageCases):
    """SIGKILL before every step, and what is left behind."""

    def sweep(self, state: Path, arrange: Act, act: Act, inspect: Act) -> None:
        """Kill ``act`` before its first step, its second and so on, each in a state that ``arrange`` made.

        ``inspect`` sees the driver opened again, and leaves only ``image`` behind. Whatever the kill left must be gone
        by then: the state has as many entries as one where nothing was killed.
        """
        expected: int | None = None
        for step in itertools.chain([0], itertools.count(1)):
            place = state / f"step{step}"
            place.mkdir(mode=0o700)
            driver = self.open(place)
            self.layer(driver, "image", None, write("a"))
            arrange(driver)
            driver.close()
            killed = killed_before(step, partial(self.open_and, place, act))
            driver = self.open(place)
            inspect(driver)
            self.clean(driver)
            assert set(self.known(driver)) == {"image"}, f"after a kill before step {step}"
            assert self.seen(driver, "image")["a"], f"after a kill before step {step}"
            driver.close()
            left = inodes(place)
            expected = left if expected is None else expected
            assert left == expected, f"a kill before step {step} left something behind: {sorted(place.rglob('*'))}"
            if step and not killed:
                return

    def open_and(self, place: Path, act: Act) -> None:
        """Open the driver and act."""
        act(self.open(place))

    def test_killed_prepare(self, state: Path) -> None:
        """The key is there and works, or can be removed and made."""
        self.sweep(
            state,
            lambda _: None,
            lambda driver: driver.prepare("web", "image"),
            lambda driver: self.usable_or_absent(driver, "web"),
        )

    def test_killed_view(self, state: Path) -> None:
        """As :meth:`test_killed_prepare`."""
        self.sweep(
            state,
            lambda _: None,
            lambda driver: driver.view("web", "image"),
            lambda driver: self.usable_or_absent(driver, "web"),
        )

    def test_killed_commit(self, state: Path) -> None:
        """Either the key is still active or the name is committed, never both, and the content is there."""

        def arrange(driver: StorageDriver) -> None:
            with mounted(driver.prepare("web", "image")) as root:
                write("b")(root)

        def inspect(driver: StorageDriver) -> None:
            there = set(self.known(driver)) - {"image"}
            assert there in ({"web"}, {"new"}), there
            if there == {"web"}:
                driver.commit("new", "web")
            assert set(self.seen(driver, "new")) == {".", "a", "b"}
            driver.remove("new")

        self.sweep(state, arrange, lambda driver: driver.commit("new", "web"), inspect)

    def test_killed_remove(self, state: Path) -> None:
        """Removing can be tried again until nothing is left, and the key can be used again."""

        def arrange(driver: StorageDriver) -> None:
            with mounted(driver.prepare("web", "image")) as root:
                for number in range(3):
                    write(f"d{number}/e/f")(root)

        self.sweep(
            state,
            arrange,
            lambda driver: driver.remove("web"),
            lambda driver: self.usable_or_absent(driver, "web"),
        )

    def test_killed_layer_dir(self, state: Path) -> None:
        """A staged layer is there and empty, or can be removed and made."""
        self.skip_without(state, SupportsLayerDir)

        def stage(driver: StorageDriver) -> None:
            assert isinstance(driver, SupportsLayerDir)
            driver.layer_dir("key")

        def inspect(driver: StorageDriver) -> None:
            self.remove_if_there(driver, "key")
            stage(driver)
            driver.remove("key")

        self.sweep(state, lambda _: None, stage, inspect)

    def test_killed_commit_layer(self, state: Path) -> None:
        """Either the layer is still staged, and committing can be tried again, or it is committed."""
        self.skip_without(state, SupportsLayerDir)

        def stage(driver: StorageDriver) -> None:
            assert isinstance(driver, SupportsLayerDir)
            write("b")(driver.layer_dir("key"))

        def commit(driver: StorageDriver) -> None:
            assert isinstance(driver, SupportsLayerDir)
            driver.commit_layer("new", "key", "image")

        def inspect(driver: StorageDriver) -> None:
            if "new" not in self.known(driver):
                commit(driver)
            assert driver.stat("new").parent == "image"
            assert set(self.seen(driver, "new")) == {".", "a", "b"}
            driver.remove("new")

        self.sweep(state, stage, commit, inspect)

    def test_killed_clone(self, state: Path) -> None:
        """The source is whole; the clone is there and whole, or can be removed and made."""
        self.skip_without(state, SupportsClone)

        def arrange(driver: StorageDriver) -> None:
            with mounted(driver.prepare("web", "image")) as root:
                for number in range(3):
                    write(f"d{number}/f")(root)
                sync(root)

        def clone(driver: StorageDriver) -> None:
            assert isinstance(driver, SupportsClone)
            driver.clone("copy", "web")

        def inspect(driver: StorageDriver) -> None:
            with mounted(driver.mounts("web")) as root:
                before = describe(root, times=True)
            if "copy" in self.known(driver):
                with mounted(driver.mounts("copy")) as root:
                    assert describe(root, times=True) == before
            self.remove_if_there(driver, "copy")
            clone(driver)
            with mounted(driver.mounts("copy")) as root:
                assert describe(root, times=True) == before
            driver.remove("copy")
            driver.remove("web")

        self.sweep(state, arrange, clone, inspect)

    def usable_or_absent(self, driver: StorageDriver, key: str) -> None:
        """Check that what is there works; then remove it, make it, and remove it again."""
        if key in self.known(driver):
            with mounted(driver.mounts(key)) as root:
                assert (root / "a").read_text() == "text"
        self.remove_if_there(driver, key)
        with mounted(driver.prepare(key, "image")) as root:
            assert [path.name for path in root.iterdir()] == ["a"]
        driver.remove(key)

    @staticmethod
    def remove_if_there(driver: StorageDriver, key: str) -> None:
        """Remove a key of which perhaps nothing is left; then nothing is left."""
        try:
            driver.remove(key)
        except NotFound:
            return
        with pytest.raises(NotFound):
            driver.remove(key)

    def test_gc_spares_what_is_valid(self, driver: StorageDriver) -> None:
        """Collecting leftovers touches no snapshot, and twice is fine."""
        if not isinstance(driver, SupportsGC):
            pytest.skip("the driver does not declare SupportsGC")
        image = self.layer(driver, "image", None, write("a"))
        driver.prepare("web", "image")
        driver.view("look", "image")
        before = self.known(driver)
        for _ in range(2):
            driver.gc(frozenset(before))
        assert self.known(driver) == before
        assert self.seen(driver, "image", times=True) == image
        with pytest.raises(AlreadyExists):
            driver.prepare("web", None)
