"""Cases: several processes at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from plugrun.api import AlreadyExists, SnapshotKind, SupportsClone, SupportsGC
from plugrun.testing.processes import run_interleaved, run_together
from plugrun.testing.storage_base import StorageCases, write
from plugrun.testing.trees import mounted, sync

if TYPE_CHECKING:
    from plugrun.api import StorageDriver

_RIVALS = 6

Act = Callable[["StorageDriver"], object]


class RaceCases(StorageCases):
    """Keys and names have one winner, whoever comes first and wherever the other one is."""

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
        rivals = [self.in_process(state, lambda one: one.prepare("web", "image"))] * _RIVALS
        assert sorted(run_together(rivals)) == ["AlreadyExists"] * (_RIVALS - 1) + ["ok"]
        with mounted(driver.mounts("web")) as root:
            assert (root / "a").read_text() == "text"

    def test_one_of_many_gets_a_name(self, driver: StorageDriver, state: Path) -> None:
        """Several processes commit to the same name: one wins, the others keep their keys."""
        for number in range(_RIVALS):
            driver.prepare(f"key{number}", None)
        rivals = [
            self.in_process(state, lambda one, key=f"key{number}": one.commit("image", key))  # type: ignore[misc]
            for number in range(_RIVALS)
        ]
        assert sorted(run_together(rivals)) == ["AlreadyExists"] * (_RIVALS - 1) + ["ok"]
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
                    assert {info.parent for info in one.walk() if info.name != "image"} == {"image"}
                    one.remove(f"web{number}-{turn}")
                    one.remove(f"layer{number}-{turn}")

            return self.in_process(state, act)

        assert set(run_together([churn(number) for number in range(_RIVALS)])) == {"ok"}
        assert set(self.known(driver)) == {"image"}

    def test_threads_do_not_disturb_each_other(self, driver: StorageDriver) -> None:
        """Threads share one driver: other keys at the same time always work, and of one key one gets it."""
        self.layer(driver, "image", None, write("a"))

        def work(number: int) -> str:
            for turn in range(5):
                driver.prepare(f"web{number}-{turn}", "image")
                driver.prepare(f"layer{number}-{turn}-key", "image")
                driver.commit(f"layer{number}-{turn}", f"layer{number}-{turn}-key")
                driver.remove(f"web{number}-{turn}")
                driver.remove(f"layer{number}-{turn}")
            try:
                driver.prepare("web", "image")
            except AlreadyExists:
                return "AlreadyExists"
            return "ok"

        with ThreadPoolExecutor(_RIVALS) as pool:
            outcomes = sorted(pool.map(work, range(_RIVALS)))
        assert outcomes == ["AlreadyExists"] * (_RIVALS - 1) + ["ok"]
        assert set(self.known(driver)) == {"image", "web"}

    # --- One process held before each of its steps, while another does the opposite ------------------------------

    def race(self, state: Path, first: Act, second: Act, expected: set[tuple[str, str]]) -> None:
        """Try ``second`` before every step of ``first``; the outcomes, in either order, must be ``expected``.

        Each time the state holds the committed ``image`` and the active ``web`` and ``db``, each with content.
        """
        for step in itertools.count(1):
            place = state / f"step{step}"
            place.mkdir(mode=0o700)
            driver = self.open(place)
            self.layer(driver, "image", None, write("a"))
            for key in ("web", "db"):
                with mounted(driver.prepare(key, None)) as root:
                    write("d/b")(root)
                    sync(root)
            outcomes = run_interleaved(step, self.in_process(place, first), self.in_process(place, second))
            known = self.known(driver)
            if outcomes is None:
                return
            assert {outcomes, outcomes[::-1]} & expected, f"{outcomes} with one held before its step {step}"
            assert all(info.parent is None or info.parent in known for info in known.values()), "a child is an orphan"
            for key in set(known) - {"image"}:
                if known[key].kind is not SnapshotKind.COMMITTED:
                    with mounted(driver.mounts(key)) as root:
                        there = {"a"} if known[key].parent == "image" else {"d"}
                        assert {path.name for path in root.iterdir()} == there, f"{key} is not whole"
            driver.close()

    def test_race_for_a_key(self, state: Path) -> None:
        """Prepared by one and viewed by another at the same time: one of them has it."""
        self.race(
            state,
            lambda driver: driver.prepare("new", "image"),
            lambda driver: driver.view("new", "image"),
            {("AlreadyExists", "ok")},
        )

    def test_race_for_a_key_and_a_name(self, state: Path) -> None:
        """A key and a name that are the same: one of them is it."""
        self.race(
            state,
            lambda driver: driver.commit("new", "web"),
            lambda driver: driver.prepare("new", "image"),
            {("AlreadyExists", "ok")},
        )

    def test_race_for_a_name(self, state: Path) -> None:
        """Two keys committed to one name."""
        self.race(
            state,
            lambda driver: driver.commit("new", "web"),
            lambda driver: driver.commit("new", "db"),
            {("AlreadyExists", "ok")},
        )

    def test_race_to_commit_one_key(self, state: Path) -> None:
        """One key committed to two names: it ends up as one of them."""
        self.race(
            state,
            lambda driver: driver.commit("one", "web"),
            lambda driver: driver.commit("two", "web"),
            {("NotFound", "ok")},
        )

    def test_race_of_removing_a_parent_and_standing_on_it(self, state: Path) -> None:
        """Either the parent stays, or the child never was."""
        expected = {("FailedPrecondition", "ok"), ("NotFound", "ok")}
        self.race(state, lambda driver: driver.remove("image"), lambda driver: driver.prepare("new", "image"), expected)
        # and the other way round, in states of their own
        again = state / "again"
        again.mkdir(mode=0o700)
        self.race(again, lambda driver: driver.prepare("new", "image"), lambda driver: driver.remove("image"), expected)

    def test_race_to_remove(self, state: Path) -> None:
        """Two remove the same: it is gone, and at least one was told so."""
        self.race(
            state,
            lambda driver: driver.remove("web"),
            lambda driver: driver.remove("web"),
            {("NotFound", "ok"), ("ok", "ok")},
        )

    def test_race_with_gc(self, state: Path) -> None:
        """Collecting leftovers while another process makes a snapshot takes nothing from it."""

        def collect(driver: StorageDriver) -> None:
            if isinstance(driver, SupportsGC):
                driver.gc(frozenset(info.name for info in driver.walk()))

        self.race(state, lambda driver: driver.prepare("new", "image"), collect, {("ok", "ok")})

    def test_race_of_cloning_and_removing_the_source(self, state: Path) -> None:
        """Either the clone is whole, or it never was."""
        self.skip_without(state, SupportsClone)

        def clone(driver: StorageDriver) -> None:
            assert isinstance(driver, SupportsClone)
            driver.clone("new", "db")

        expected = {("NotFound", "ok"), ("ok", "ok")}
        self.race(state, clone, lambda driver: driver.remove("db"), expected)

    def test_race_of_clones_for_a_key(self, state: Path) -> None:
        """Cloned by one and prepared by another at the same time: one of them has it."""
        self.skip_without(state, SupportsClone)

        def clone(driver: StorageDriver) -> None:
            assert isinstance(driver, SupportsClone)
            driver.clone("new", "web")

        self.race(state, clone, lambda driver: driver.prepare("new", "image"), {("AlreadyExists", "ok")})
