"""Undo for a list of steps: last in, first out, all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self


class Undo:
    """Collects the undo of each step done; runs them all if the block ends with an exception.

    An undo that fails does not stop the others. Then the block raises one :class:`ExceptionGroup` of the original error
    and the failed undos, each with a note that says what it was undoing.

    :ivar complete: whether nothing is left to undo; ``False`` when an undo failed, or was interrupted.
    """

    def __init__(self, what: str) -> None:
        self.complete = True
        self._what = what
        self._steps: list[tuple[str, Callable[[], None]]] = []

    def push(self, what: str, undo: Callable[[], None]) -> None:
        """Remember how to undo a step. Push *before* doing it when the undo works on a half-done step too."""
        self._steps.append((what, undo))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            return
        self.complete = False
        failures = run_all(reversed(self._steps))
        self.complete = not failures
        if failures and isinstance(error, Exception):
            raise ExceptionGroup(f"{self._what} failed, and so did undoing it", [error, *failures]) from error
        for failure in failures:  # an interrupt stays an interrupt
            error.add_note(f"{failure}")


def run_all(steps: Iterable[tuple[str, Callable[[], None]]]) -> list[Exception]:
    """Run every step whatever the others do; return the errors, each with a note naming its step."""
    failures: list[Exception] = []
    for what, step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - every step must run, and all errors are returned
            error.add_note(f"while undoing: {what}")
            failures.append(error)
    return failures
