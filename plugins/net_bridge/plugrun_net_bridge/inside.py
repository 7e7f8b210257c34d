"""Work done inside a container's network namespace."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

from plugrun.api import FailedPrecondition

T = TypeVar("T")
_NEWNET = 0x40000000  # CLONE_NEWNET, sched.h

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def opened(netns: str | None) -> Iterator[int]:
    """Open a network namespace's file for the duration of a block.

    :raises FailedPrecondition: there is none.
    """
    if netns is None:
        raise FailedPrecondition("the container has no network namespace")
    try:
        descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise FailedPrecondition(f"the network namespace {netns} cannot be opened: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def run(netns: int, work: Callable[[], T]) -> T:
    """Return what ``work`` does, called in a thread that is in the namespace ``netns``: setns(2).

    The thread ends with it, so that nothing has to be switched back, whatever happens.
    """
    import threading

    results: list[T] = []
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            if _libc.setns(netns, _NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))  # noqa: TRY301 - one place for all
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    thread = threading.Thread(target=enter, name="inside")
    thread.start()
    try:
        thread.join()
    except BaseException:  # an interrupt: whoever called closes the descriptor next, and the thread may yet need it
        thread.join()
        raise
    if failures:
        raise failures[0]
    return results[0]
