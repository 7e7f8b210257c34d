"""Running a driver in other processes: several at once, and one that is killed in the middle."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence

from plugrun.errors import PlugrunError

_DEADLINE = 60.0  # seconds; no driver is that slow
_OK = 0
_REFUSED = 17
_FAILED = 1


def run_together(actions: Sequence[Callable[[], object]]) -> list[bool]:
    """Run every action in a process of its own, started at the same moment.

    :return: for each whether it succeeded; ``False`` is a :class:`PlugrunError`.
    :raises AssertionError: one failed in another way, or did not end.
    """
    start, release = os.pipe()
    children = [_fork(lambda action=action: _after(start, release, action)) for action in actions]  # type: ignore[misc]
    os.close(start)
    os.close(release)  # every child reads the end of the pipe now
    codes = [_wait(child) for child in children]
    assert not set(codes) - {_OK, _REFUSED}, f"processes ended with {codes}; their tracebacks are above"
    return [code == _OK for code in codes]


def killed_before(step: int, action: Callable[[], object]) -> bool:
    """Run ``action`` in a process that is killed (SIGKILL) right before its ``step``-th file operation.

    Operations are those that Python's audit hooks report (``open`` and ``os.*``), so the kill comes at the same place
    each time.

    :return: whether it was killed; ``False`` says that the action has fewer steps, and is complete.
    """
    child = _fork(lambda: _with_kill(step, action))
    code = _wait(child)
    assert code in {_OK, -signal.SIGKILL}, f"the process ended with {code}; its traceback is above"
    return code == -signal.SIGKILL


def _after(start: int, release: int, action: Callable[[], object]) -> None:
    os.close(release)
    os.read(start, 1)
    action()


def _with_kill(step: int, action: Callable[[], object]) -> None:
    seen = 0

    def count(event: str, _arguments: object) -> None:
        nonlocal seen
        if event == "open" or event.startswith("os."):
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    action()


def _fork(action: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child runs the driver alone, then ends
        child = os.fork()
    if child:
        return child
    code = _FAILED
    try:
        action()
        code = _OK
    except PlugrunError:
        code = _REFUSED
    except BaseException:  # noqa: BLE001 - whatever it is, the parent's test must not go on here
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(code)


def _wait(child: int) -> int:
    with _process_descriptor(child) as descriptor:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(_DEADLINE * 1000):
            os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextlib.contextmanager
def _process_descriptor(child: int) -> Iterator[int]:
    descriptor = os.pidfd_open(child)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
