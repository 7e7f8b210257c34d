"""Cases: taking down, which always works, and collecting what nobody took down."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest

from plugrun import namespaces
from plugrun.api import Attachment, NetResult, NetworkDriver, PlugrunError
from plugrun.testing.network_base import Containers, NetworkCases, stored
from plugrun.testing.network_view import settled, steady, view

_ORDERS = tuple(itertools.permutations((1, 2, 3)))


class TeardownCases(NetworkCases):
    """Whatever happened before, and in whichever order."""

    # --- One container ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("netns", ["there", "unpinned", "none"])
    @pytest.mark.parametrize("prev", ["stored", "lost"])
    def test_teardown_needs_nothing(
        self, driver: NetworkDriver, state: Path, attach: Containers, netns: str, prev: str
    ) -> None:
        """It works without the namespace (CNI#204, netavark#1451), without the result, twice, and after a restart."""
        with self.nothing_left(driver, attach):
            at = attach(1)
            result = stored(driver.setup(at))
            if netns != "there" and at.netns is not None:
                namespaces.delete(Path(at.netns))
            later = at._replace(netns=None) if netns == "none" else at
            again = self.reopened(state)
            for _ in range(2):
                again.teardown(later, result if prev == "stored" else None)

    def test_teardown_of_what_never_was(self, driver: NetworkDriver, attach: Containers) -> None:
        """A setup that did not even begin is torn down like any other (CNI#775)."""
        before = view()
        for at in (attach(1), attach(2, netns=None)):
            for _ in range(2):
                driver.teardown(at, None)
        settled(before, "after a teardown without a setup")

    def test_teardown_after_a_failed_setup(self, driver: NetworkDriver, attach: Containers, tmp_path: Path) -> None:
        """A setup that cannot work fails as an engine error, if it fails, and leaves nothing once torn down."""
        with self.nothing_left(driver, attach):
            at = attach(1, netns=str(tmp_path / "no-such-namespace"))
            with contextlib.suppress(PlugrunError):
                driver.setup(at)
            for _ in range(2):
                driver.teardown(at, None)

    def test_teardown_may_leave_things_to_the_namespace(self, driver: NetworkDriver, attach: Containers) -> None:
        """With ``leaving`` a driver may skip what ends with the namespace: once that is deleted, all is gone."""
        with self.nothing_left(driver, attach):
            for number in (1, 2):
                at = attach(number)
                driver.teardown(at._replace(leaving=True), stored(driver.setup(at)))
                if at.netns is not None:
                    namespaces.delete(Path(at.netns))

    def test_address_comes_back(self, driver: NetworkDriver, attach: Containers) -> None:
        """A container that left with ``leaving`` and came back, as by a restart, has a working endpoint."""
        for turn in range(3):
            at = attach(1 + turn)._replace(container_id="a" * 64)
            result = stored(driver.setup(at))
            driver.check(at, result)
            driver.teardown(at._replace(leaving=True), result)
            if at.netns is not None:
                namespaces.delete(Path(at.netns))

    # --- Several --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("order", _ORDERS, ids=lambda order: "".join(map(str, order)))
    def test_containers_end_in_any_order(
        self, driver: NetworkDriver, attach: Containers, order: tuple[int, ...]
    ) -> None:
        """Those that stay are not disturbed by those that go, come again, or are collected around them."""
        with self.nothing_left(driver, attach):
            ats = {number: attach(number) for number in order}
            there: dict[int, NetResult] = {}
            for number in sorted(ats):
                there[number] = stored(driver.setup(ats[number]))
                self.undisturbed(driver, ats, there)
            first, *rest = order
            driver.teardown(ats[first], there.pop(first))
            self.undisturbed(driver, ats, there)
            there[first] = stored(driver.setup(ats[first]))
            self.undisturbed(driver, ats, there)
            for number in (*rest, first):
                driver.teardown(ats[number], there.pop(number))
                driver.gc(frozenset(ats[one].container_id for one in there))
                if there:
                    self.undisturbed(driver, ats, there)
            driver.teardown(ats[first], driver.setup(ats[first]))

    @staticmethod
    def undisturbed(driver: NetworkDriver, ats: dict[int, Attachment], there: dict[int, NetResult]) -> None:
        """Check every container that is there, and that no two have one address."""
        for number, result in there.items():
            driver.check(ats[number], result)
        given = [address for result in there.values() for address in result.addresses]
        assert len(set(given)) == len(given), f"given twice: {given}"

    # --- Collecting ---------------------------------------------------------------------------------------------------

    def test_gc_spares_the_valid(self, driver: NetworkDriver, attach: Containers) -> None:
        """What is in the set works on; what is not is gone, twice, and can still be torn down."""
        before = view()
        kept, lost = attach(1), attach(2)
        results = {kept.container_id: stored(driver.setup(kept))}
        alone = steady()
        results[lost.container_id] = stored(driver.setup(lost))
        for _ in range(2):
            driver.gc(frozenset({kept.container_id}))
            driver.check(kept, results[kept.container_id])
        settled(alone, "from the time before the container that gc() removed")
        driver.teardown(lost, results[lost.container_id])
        self.emptied(driver, attach)
        settled(before, "from the time before the first container, after gc() with no valid one")
        driver.teardown(kept, results[kept.container_id])

    def test_gc_works_from_names_alone(self, driver: NetworkDriver, state: Path, attach: Containers) -> None:
        """After a crash nothing is known but which containers are valid, and a namespace may be gone."""
        with self.nothing_left(driver, attach):
            for number in (1, 2):
                at = attach(number)
                driver.setup(at)
                if number == 1 and at.netns is not None:
                    namespaces.delete(Path(at.netns))
            kept = attach(3)
            result = stored(driver.setup(kept))
            again = self.reopened(state)
            again.gc(frozenset({kept.container_id}))
            again.check(kept, result)
            again.teardown(kept, result)

    def test_gc_of_nothing(self, driver: NetworkDriver) -> None:
        """On a host where the driver never did anything, there is nothing to remove, and valid ids may be unknown."""
        before = view()
        driver.gc(frozenset({"f" * 64}))
        driver.gc(frozenset())
        settled(before, "after gc() without any container")
