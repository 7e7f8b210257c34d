"""Signals as descriptors: while the caller waits for a container, its signals are the container's."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Self

from plugrun import terminal
from plugrun.errors import FailedPrecondition

# Not for the container: what cannot be caught, what tells this process of its own children, pipes and terminal, what a
# fault of its own raises, and what the kernel sends for timers and limits of its own.
_OWN = {
    *("SIGKILL", "SIGSTOP", "SIGCHLD", "SIGPIPE", "SIGURG", "SIGWINCH", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT"),
    *("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS", "SIGABRT", "SIGSTKFLT"),
    *("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGXFSZ", "SIGIO", "SIGPWR"),
}


def forwarded() -> list[int]:
    """Return the numbers of the signals that go on to the container: all that somebody would send it on purpose."""
    own = {getattr(signal, name, None) for name in _OWN}
    return [int(number) for number in signal.valid_signals() if number not in own]


class Signals:
    """Collects signals and window changes for a poll loop, as a context; does nothing outside the main thread.

    :param forward: called with a signal's number; ``None`` leaves signals to whoever handles them.
    :param on_resize: called with rows and columns, of the first of ``terminals`` that is one.
    """

    def __init__(
        self,
        forward: Callable[[int], None] | None,
        on_resize: Callable[[int, int], None] | None,
        terminals: Sequence[int],
    ) -> None:
        self._forward = forward
        self._on_resize = on_resize
        self._terminals = terminals
        self._cleanup = contextlib.ExitStack()
        self.descriptor = -1  # readable when there is something to handle

    def __enter__(self) -> Self:
        numbers = [] if self._forward is None else forwarded()
        if self._on_resize is not None:
            numbers.append(signal.SIGWINCH)
        if not numbers or threading.current_thread() is not threading.main_thread():
            return self
        self.descriptor, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._cleanup.callback(os.close, self.descriptor)
        self._cleanup.callback(os.close, write_end)
        self._cleanup.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(write_end, warn_on_full_buffer=False))
        for number in numbers:
            before = signal.signal(number, _ignore)  # None: set by C code, which cannot be put back
            self._cleanup.callback(signal.signal, number, signal.SIG_DFL if before is None else before)
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()
        self.descriptor = -1

    def resize(self) -> None:
        """Tell the size of the terminal, if there is one."""
        sizes = (terminal.size(descriptor) for descriptor in self._terminals)
        if self._on_resize is not None and (found := next((size for size in sizes if size), None)):
            self._on_resize(*found)

    def handle(self) -> None:
        """Pass on what has come in; a container that has just ended misses its signal."""
        try:
            numbers = os.read(self.descriptor, 4096)
        except BlockingIOError:
            return
        if signal.SIGWINCH in numbers:
            self.resize()
        if self._forward is not None:
            for number in numbers:
                if number != signal.SIGWINCH:
                    with contextlib.suppress(FailedPrecondition):
                        self._forward(number)


def _ignore(*_: object) -> None:
    """Handle a signal by doing nothing: the wake-up descriptor has it."""
