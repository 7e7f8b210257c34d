"""Cases: several processes at once, and processes that die in the middle."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from plugrun.api import AlreadyExists, NotFound, SnapshotKind, StorageDriver, SupportsGC
from plugrun.testing.processes import killed_before, run_together
from plugrun.testing.storage_base import StorageCases, write
from plugrun.testing.trees import inodes, mounted

_RIVALS = 6

Act = Callable[[StorageDriver], object]


class FaultCases(StorageCases):
    """Concurrency, SIGKILL before every step, and what is left behind."""

    def in_process(self, state: Path, act: Act) -> Callable[[], object]:
        """Return a function that opens the driver anew, as another process must, and acts."""

        def run() -> None:
            driver = self.open(state)
            act(driver)
            driver.close()

        return run

    def test_one_of_many_gets_a_key(self, driver: StorageDriver, state: Path) -> None:
        """Several processes prepare the same key: one wins, the others are told."""
        self.layer(driver, "image", None, write("a"))
        for key in ("web", "db", "cache"):
            rival = self.in_process(state, lambda one, key=key: one.prepare(key, "image"))  # type: ignore[misc]
            assert run_together([rival] * _RIVALS).count(True) == 1
            with mounted(driver.mounts(key)) as root:
                assert (root / "a").read_text() == "text"

    def test_one_of_many_gets_a_name(self, driver: StorageDriver, state: Path) -> None:
        """Several processes commit to the same name: one wins, the others keep their keys."""
        for number in range(_RIVALS):
            driver.prepare(f"key{number}", None)
        rivals = [
            self.in_process(state, lambda one, key=f"key{number}": one.commit("image", key))  # type: ignore[misc]
            for number in range(_RIVALS)
        ]
        assert run_together(rivals).count(True) == 1
        kinds = [info.kind for info in self.known(driver).values()]
        assert sorted(kinds) == [SnapshotKind.ACTIVE] * (_RIVALS - 1) + [SnapshotKind.COMMITTED]

    def test_different_keys_do_not_disturb_each_other(self, driver: StorageDriver, state: Path) -> None:
        """Making and removing other keys at the same time always works."""
        self.layer(driver, "image", None, write("a"))

        def churn(number: int) -> Callable[[], object]:
            def act(one: StorageDriver) -> None:
                for turn in range(5):
                    one.prepare(f"web{number}-{turn}", "image")
                    one.prepare(f"layer{number}-{turn}-key", "image")
                    one.commit(f"layer{number}-{turn}", f"layer{number}-{turn}-key")
                    list(one.walk())
                    one.remove(f"web{number}-{turn}")
                    one.remove(f"layer{number}-{turn}")

            return self.in_process(state, act)

        assert all(run_together([churn(number) for number in range(_RIVALS)]))
        assert set(self.known(driver)) == {"image"}

    def test_parent_cannot_vanish_under_a_child(self, driver: StorageDriver, state: Path) -> None:
        """Of removing a parent and standing on it, one wins; no child is left without its parent."""
        for turn in range(5):
            name = f"image{turn}"
            self.layer(driver, name, None, write("a"))
            make = self.in_process(state, lambda one, name=name: one.prepare(f"on-{name}", name))  # type: ignore[misc]
            drop = self.in_process(state, lambda one, name=name: one.remove(name))  # type: ignore[misc]
            assert run_together([make, drop]).count(True) == 1
            known = self.known(driver)
            assert all(info.parent is None or info.parent in known for info in known.values())

    # --- SIGKILL before every step ----------------------------------------------------------------------------------

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
            killed = killed_before(step, self.in_process(place, act))
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
