"""The caller's terminal: whether there is one, its size, and raw mode (termios(3), tty_ioctl(4))."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

_FATAL = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def is_terminal(descriptor: int) -> bool:
    """Whether a descriptor is open on a terminal; one that is closed is not."""
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def size(descriptor: int) -> tuple[int, int] | None:
    """Return rows and columns in characters; ``None`` for what is no terminal, or one that does not know."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        return None
    return (rows, columns) if rows and columns else None


@contextlib.contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Hand every key to the container instead of the terminal's line editing, and put things back afterwards.

    Back also before a signal ends this process, unless somebody handles that signal already. What is no terminal is
    left alone. Call it in the main thread; in others signals do not restore.
    """
    if not is_terminal(descriptor):
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(descriptor)

    def restore() -> None:
        # DRAIN, not FLUSH: what the user typed ahead belongs to the shell that comes next
        with contextlib.suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

    def die(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    replaced = _handle(die)
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        restore()
        for number, handler in replaced.items():
            signal.signal(number, handler)


def _handle(die: signal._HANDLER) -> dict[int, signal._HANDLER]:
    """Install ``die`` where a signal would end the process; return what was there."""
    replaced: dict[int, signal._HANDLER] = {}
    for number in _FATAL:
        handler = signal.getsignal(number)
        if handler in {signal.SIG_DFL, signal.default_int_handler}:
            try:
                signal.signal(number, die)
            except ValueError:  # not in the main thread
                return {}
            replaced[number] = handler
    return replaced
