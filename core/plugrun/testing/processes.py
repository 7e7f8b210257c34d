"""Running a driver in other processes: several at once, one held in the middle, one killed there."""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

from plugrun.errors import PlugrunError

Action = Callable[[], object]

_DEADLINE = 60.0  # seconds; no driver is that slow
_GRACE = 0.1  # seconds for a process that may wait for one that is held; on a busy machine this only tests less
_FAILED = 1


def run_together(actions: Sequence[Action]) -> list[str]:
    """Run every action in a process of its own, all started at the same moment.

    :return: for each ``"ok"``, or the class name of the :class:`PlugrunError` it raised.
    :raises AssertionError: one failed in another way, or did not end.
    """
    gate = _Gate()
    children = [_Child(lambda action=action: (gate.wait(), action())) for action in actions]  # type: ignore[misc]
    gate.open()
    return _outcomes(children)


def run_interleaved(step: int, first: Action, second: Action) -> tuple[str, str] | None:
    """Hold ``first`` right before its ``step``-th file operation, run ``second``, then let ``first`` go on.

    With every step in turn a race is found where it is, not by luck. When ``second`` waits for ``first``, because that
    holds a lock, it is left waiting after a moment, and ends once ``first`` does.

    :return: both outcomes, as :func:`run_together`; ``None`` when ``first`` has fewer steps, and nothing was raced.
    :raises AssertionError: as :func:`run_together`.
    """
    reached, go_on = _Gate(), _Gate()

    def pause() -> None:
        reached.open()
        go_on.wait()

    held = _Child(lambda: _at_step(step, pause, first))
    if not reached.wait(unless=held):
        held.outcome()
        return None
    rival = _Child(second)
    rival.ended(_GRACE)
    go_on.open()
    first_outcome, second_outcome = _outcomes([held, rival])
    return first_outcome, second_outcome


def killed_before(step: int, action: Action) -> bool:
    """Run ``action`` in a process that is killed (SIGKILL) right before its ``step``-th file operation.

    :return: whether it was killed; ``False`` says that the action has fewer steps, and is complete.
    :raises AssertionError: as :func:`run_together`.
    """
    child = _Child(lambda: _at_step(step, lambda: os.kill(os.getpid(), signal.SIGKILL), action))
    return child.outcome() == "killed"


def _outcomes(children: Sequence[_Child]) -> list[str]:
    """Return how each ended; when one fails, end the rest too before that is raised."""
    try:
        return [child.outcome() for child in children]
    finally:
        for child in children:
            child.end()


def _at_step(step: int, do: Action, action: Action) -> None:
    """Run ``action``, and ``do`` before its ``step``-th file operation, as audit hooks report them (PEP 578)."""
    seen = 0

    def count(event: str, _arguments: object) -> None:
        nonlocal seen
        if event == "open" or event.startswith(("os.", "fcntl.", "subprocess.")):
            seen += 1
            if seen == step:
                do()

    sys.addaudithook(count)
    action()


class _Gate:
    """A pipe that processes wait at until somebody opens it."""

    def __init__(self) -> None:
        self._exit, self._entry = os.pipe()

    def open(self) -> None:
        os.write(self._entry, b"x" * 64)  # one for each that may wait

    def wait(self, *, unless: _Child | None = None) -> bool:
        """Wait until it is open; answer whether it is, when ``unless`` may have ended instead."""
        poll = select.poll()
        poll.register(self._exit, select.POLLIN)
        if unless is not None:
            poll.register(unless.descriptor, select.POLLIN)
        opened = self._exit in dict(poll.poll(_DEADLINE * 1000))
        if opened:
            os.read(self._exit, 1)
        return opened

    def __del__(self) -> None:
        os.close(self._exit)
        os.close(self._entry)


class _Child:
    """A forked process that runs one action; its outcome comes through a pipe."""

    def __init__(self, action: Action) -> None:
        answer, report = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads: the child runs the driver alone, then ends
            self._pid = os.fork()
        if self._pid == 0:
            _report(action, report)
        os.close(report)
        self._answer = answer
        self._result: tuple[int, str] | None = None
        self.descriptor = os.pidfd_open(self._pid)

    def ended(self, seconds: float) -> bool:
        """Wait until it has ended, for ``seconds`` at most."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def outcome(self) -> str:
        """Return how it ended: ``"ok"``, ``"killed"``, or the class of a :class:`PlugrunError`.

        :raises AssertionError: it failed in another way, or did not end, and has been killed for that.
        """
        ended = self.ended(_DEADLINE)
        code, said = self.end()
        assert ended, f"a process did not end within {_DEADLINE:.0f} seconds: does the driver wait for itself?"
        assert code in {0, -signal.SIGKILL}, f"a process ended with {code}; its traceback is above"
        return said if code == 0 else "killed"

    def end(self) -> tuple[int, str]:
        """Kill it unless it has ended, and return its exit code and what it said; twice is fine."""
        if self._result is None:
            os.kill(self._pid, signal.SIGKILL)  # whoever has ended does not notice
            code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self._result = code, os.read(self._answer, 1000).decode()
            os.close(self._answer)
            os.close(self.descriptor)
        return self._result


def _report(action: Action, report: int) -> None:
    code = _FAILED
    try:
        action()
        os.write(report, b"ok")
        code = 0
    except PlugrunError as error:
        os.write(report, type(error).__name__.encode())
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the parent's test must not go on here
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(code)
