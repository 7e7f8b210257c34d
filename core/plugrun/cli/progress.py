"""Progress on stderr while layers are unpacked: one live line for a person, nothing for a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from plugrun.cli.text import printable

_QUIET_SECONDS = 0.5  # what is done sooner needs no progress
_REFRESH_SECONDS = 0.1


@contextlib.contextmanager
def unpacking(image: str) -> Iterator[Callable[[int, int], None]]:
    """Show how many layers of ``image`` are unpacked; yields what to call with that number and their total."""
    done = total = 0
    with line(lambda: f"Unpacking {printable(image)}: layer {done} of {total}") as tick:

        def progress(now: int, of: int) -> None:
            nonlocal done, total
            done, total = now, of
            tick()

        yield progress


@contextlib.contextmanager
def line(show: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """Show ``show()`` as a line that is redrawn in place, and erase it at the end.

    :return: what to call whenever something has happened; it redraws at most ten times a second.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    last = time.monotonic() + _QUIET_SECONDS - _REFRESH_SECONDS
    drawn = False

    def tick() -> None:
        nonlocal last, drawn
        now = time.monotonic()
        if now - last >= _REFRESH_SECONDS:
            sys.stderr.write(f"\r\x1b[K{show()}")
            sys.stderr.flush()
            last, drawn = now, True

    try:
        yield tick
    finally:
        if drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
