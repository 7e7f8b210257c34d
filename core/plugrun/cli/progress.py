"""Progress on stderr while layers are unpacked: one live line for a person, nothing for a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

_QUIET_SECONDS = 0.5  # what is done sooner needs no progress
_REFRESH_SECONDS = 0.1


@contextlib.contextmanager
def unpacking(image: str) -> Iterator[Callable[[int, int], None]]:
    """Show how many layers of ``image`` are unpacked; yields what to call with that number and their total."""
    done = total = 0

    def show() -> str:
        from plugrun.cli.live import fitted

        return fitted("Unpacking", image, f"layer {done} of {total}")

    with line(show) as tick:

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
    from plugrun.cli.live import live

    last = time.monotonic() + _QUIET_SECONDS - _REFRESH_SECONDS
    with live() as shown:

        def tick() -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _REFRESH_SECONDS:
                shown.draw([show()])
                last = now

        yield tick
