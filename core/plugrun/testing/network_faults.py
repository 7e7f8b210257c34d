"""Cases: setups and teardowns that fail or die at any of their steps."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from plugrun import namespaces
from plugrun.api import Attachment, NetworkDriver
from plugrun.testing.faults import interrupted, why_not
from plugrun.testing.network_base import Containers, NetworkCases, identity, stored
from plugrun.testing.network_view import settled, steady, view

Act = Callable[[NetworkDriver, Attachment], object]

_MOST = 2000  # no driver makes so many requests for one container
_JOURNALS = ("-wal", "-shm", "-journal")  # SQLite makes and removes them as it likes


class FaultCases(NetworkCases):
    """Requests to the kernel that are refused, and SIGKILL before every one of them; see :mod:`plugrun.testing.faults`.

    Afterwards either the engine tears down, or it never gets to, and collects.
    """

    def sweep(
        self,
        driver: NetworkDriver,
        state: Path,
        attach: Containers,
        acts: tuple[Act, Act],
        *,
        fail: int | None,
        gc: bool,
    ) -> None:
        """Fail an act at its first request, its second and so on, each time for a new container.

        ``acts`` are what arranges it, and that one. Another container is there all the time. What the failed one left
        must go by ``teardown``, or by ``gc`` alone.
        """
        arrange, act = acts
        reason = why_not()
        if reason is not None:
            pytest.skip(reason)
        pristine = view()
        self.warmed(driver, attach)
        neighbour = attach(1)
        result = stored(driver.setup(neighbour))
        before, files = steady(), _files(state)
        for step in itertools.count(1):
            assert step < _MOST, f"there is no end of requests: {_MOST}"
            at = attach(1 + step)
            arrange(driver, at)
            outcome = interrupted(step, lambda at=at: act(self.open(state), at), fail=fail)  # type: ignore[misc]
            again = self.reopened(state)
            if gc:
                again.gc(frozenset({neighbour.container_id}))
            else:
                for _ in range(2):
                    again.teardown(at, None)
            settled(before, f"after request {step} failed ({outcome.said}), and what was left was removed")
            if at.netns is not None:
                namespaces.delete(Path(at.netns))
            again.check(neighbour, result)
            if not outcome.reached:
                assert outcome.said == "ok", f"with no fault at all: {outcome.said}"
                break
        more = _files(state) - files
        assert not more, f"left in the state directory: {sorted(more)}"
        driver.teardown(neighbour, result)
        self.emptied(driver, attach)
        settled(pristine, "from the time before the first container, after gc() with no valid one")

    @pytest.mark.parametrize("gc", [False, True], ids=["teardown", "gc"])
    def test_setup_killed_at_any_step(self, driver: NetworkDriver, state: Path, attach: Containers, gc: bool) -> None:  # noqa: FBT001
        """Whatever was made by then is found by the container's id."""
        self.sweep(driver, state, attach, (_nothing, _setup), fail=None, gc=gc)

    @pytest.mark.parametrize("gc", [False, True], ids=["teardown", "gc"])
    def test_setup_refused_at_any_step(self, driver: NetworkDriver, state: Path, attach: Containers, gc: bool) -> None:  # noqa: FBT001
        """It raises an engine error, or does without; in any case what was made goes."""
        self.sweep(driver, state, attach, (_nothing, _setup), fail=errno.EPERM, gc=gc)

    def test_teardown_killed_at_any_step(self, driver: NetworkDriver, state: Path, attach: Containers) -> None:
        """It can be begun again."""
        self.sweep(driver, state, attach, (_setup, _teardown), fail=None, gc=False)

    def test_teardown_refused_at_any_step(self, driver: NetworkDriver, state: Path, attach: Containers) -> None:
        """It says so, unless it does not matter, and can be begun again."""
        self.sweep(driver, state, attach, (_setup, _teardown), fail=errno.EPERM, gc=False)

    def test_gc_killed_at_any_step(self, driver: NetworkDriver, state: Path, attach: Containers) -> None:
        """The next one goes on."""
        keep = frozenset({identity("container", 1)})
        self.sweep(driver, state, attach, (_setup, lambda one, _: one.gc(keep)), fail=None, gc=True)


def _nothing(_driver: NetworkDriver, _at: Attachment) -> None:
    pass


def _setup(driver: NetworkDriver, at: Attachment) -> None:
    driver.setup(at)


def _teardown(driver: NetworkDriver, at: Attachment) -> None:
    driver.teardown(at, None)


def _files(state: Path) -> set[str]:
    found = {os.path.join(at, name) for at, below, files in os.walk(state) for name in below + files}
    return {path for path in found if not path.endswith(_JOURNALS)}
