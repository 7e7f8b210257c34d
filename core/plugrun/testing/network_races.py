"""Cases: several containers at once, in processes and in threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from plugrun.testing.network_base import Containers, NetworkCases, dumped, parsed, stored
from plugrun.testing.processes import run_together

if TYPE_CHECKING:
    from plugrun.api import Attachment, NetResult, NetworkDriver

_RIVALS = 8
_TURNS = 3


class RaceCases(NetworkCases):
    """Each container gets what is its own, whatever happens beside it."""

    def test_processes_do_not_disturb_each_other(
        self, driver: NetworkDriver, state: Path, attach: Containers, tmp_path: Path
    ) -> None:
        """Eight containers come and go several times, each in a process; then they are there, with what is theirs."""
        with self.nothing_left(driver, attach):
            ats = [attach(number) for number in range(1, _RIVALS + 1)]
            said = run_together([self.churning(state, at, tmp_path / at.name) for at in ats])
            assert said == ["ok"] * _RIVALS, said
            results = [parsed((tmp_path / at.name).read_text()) for at in ats]
            self.all_different(driver, ats, results)
            said = run_together([self.leaving(state, at, result) for at, result in zip(ats, results, strict=True)])
            assert said == ["ok"] * _RIVALS, said

    def test_threads_do_not_disturb_each_other(self, driver: NetworkDriver, attach: Containers) -> None:
        """The same with threads that share one driver."""
        with self.nothing_left(driver, attach):
            ats = [attach(number) for number in range(1, _RIVALS + 1)]
            with ThreadPoolExecutor(_RIVALS) as pool:
                results = [stored(result) for result in pool.map(lambda at: churn(driver, at), ats)]
            self.all_different(driver, ats, results)
            with ThreadPoolExecutor(_RIVALS) as pool:
                list(pool.map(driver.teardown, ats, results))

    def test_gc_beside_setups(self, driver: NetworkDriver, state: Path, attach: Containers, tmp_path: Path) -> None:
        """The engine records a container before it has it set up: what is being made for it is left alone."""
        with self.nothing_left(driver, attach):
            ats = [attach(number) for number in range(1, _RIVALS + 1)]
            valid = frozenset(at.container_id for at in ats)

            def collect() -> None:
                one = self.open(state)
                for _ in range(2 * _TURNS):
                    one.gc(valid)

            acts = [self.churning(state, at, tmp_path / at.name) for at in ats]
            said = run_together([*acts, collect])
            assert said == ["ok"] * (_RIVALS + 1), said
            results = [parsed((tmp_path / at.name).read_text()) for at in ats]
            self.all_different(driver, ats, results)
            for at, result in zip(ats, results, strict=True):
                driver.teardown(at, result)

    def churning(self, state: Path, at: Attachment, answer: Path) -> Callable[[], object]:
        """Return a function for another process, which writes down the result."""
        return lambda: answer.write_text(dumped(churn(self.open(state), at)))

    def leaving(self, state: Path, at: Attachment, result: NetResult) -> Callable[[], object]:
        """Return a function for another process, which ends a container."""
        return lambda: self.open(state).teardown(at, result)

    @staticmethod
    def all_different(driver: NetworkDriver, ats: list[Attachment], results: list[NetResult]) -> None:
        """See that every container is well, and that no two have one address, of either kind."""
        for at, result in zip(ats, results, strict=True):
            driver.check(at, result)
        given = [one for result in results for one in (*result.addresses, result.mac) if one]
        assert len(set(given)) == len(given), f"given twice: {sorted(given)}"


def churn(driver: NetworkDriver, at: Attachment) -> NetResult:
    """Have a container come and go several times, and come once more; return its last result."""
    for _ in range(_TURNS):
        result = driver.setup(at)
        driver.check(at, stored(result))
        driver.teardown(at, result)
    return driver.setup(at)
