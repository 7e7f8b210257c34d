"""SIGTERM and SIGHUP as an exception, so that what a command has begun is undone before it ends."""

from __future__ import annotations

import signal
from typing import NoReturn

_NUMBERS = (signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked this process to end; like :class:`KeyboardInterrupt`, it is no error to be handled.

    :param number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell reports for a process that the signal ended."""
        return 128 + self.number


def raise_when_stopped() -> None:
    """Have the first such signal raise :class:`Stopped`; one that the caller ignores (nohup) stays ignored."""
    for number in _NUMBERS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(number: int, _frame: object) -> NoReturn:
    for each in _NUMBERS:  # the undo is not to be cut short by a second one
        if signal.getsignal(each) is _stop:
            signal.signal(each, _ignore)  # not SIG_IGN, which programs inherit
    raise Stopped(number)


def _ignore(*_: object) -> None:
    """Handle a signal by doing nothing."""
