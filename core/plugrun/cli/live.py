"""Lines on stderr that are redrawn in place while something goes on; warnings come above them, not between."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from plugrun import terminal
from plugrun.cli import text

_REFRESH = 0.1  # seconds
_AGAIN = 5.0  # seconds
_WIDTH = 80
_NAME = 12  # columns in which a name still tells something


class Live:
    """The lines at the bottom of the screen; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: Sequence[str] = ()

    def draw(self, lines: Sequence[str]) -> None:
        """Put these lines, cut to the screen, in place of those before."""
        with self._lock:
            self._write("", lines)

    def above(self, line: str) -> None:
        """Write a line that stays."""
        with self._lock:
            self._write(f"{line}\n", self._lines)

    def _write(self, above: str, lines: Sequence[str]) -> None:
        up = f"\x1b[{len(self._lines)}A" if self._lines else ""
        room = width() - 1
        below = "".join(f"{line[:room]}\n" for line in lines)
        if above or below or up:
            _write(f"\r{up}\x1b[J{above}{below}")
        self._lines = tuple(lines)


_shown: list[Live] = []  # the last one is on the screen
_warned: dict[str, float] = {}


@contextlib.contextmanager
def live() -> Iterator[Live]:
    """Yield lines to draw, of which nothing is left at the end of the block. Only where stderr is a terminal."""
    lines = Live()
    _shown.append(lines)
    try:
        yield lines
    finally:
        lines.draw([])
        _shown.remove(lines)


@contextlib.contextmanager
def line(show: Callable[[], str]) -> Iterator[None]:
    """Draw ``show()`` ten times a second, from another thread, until the block ends."""
    ended = threading.Event()
    with live() as shown:

        def look() -> None:
            while not ended.wait(_REFRESH):
                shown.draw([show()])

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def warn(message: str) -> None:
    """Print a warning, above what is being redrawn; once if threads have the same trouble at the same time."""
    whole = f"plugrun: warning: {text.printable(message)}"
    now = time.monotonic()
    if now - _warned.get(whole, -_AGAIN) < _AGAIN:
        return
    _warned[whole] = now
    if _shown:
        _shown[-1].above(whole)
    else:
        _write(f"{whole}\n")


def fitted(what: str, name: str, facts: str) -> str:
    """Return ``what name: facts``; of a name for which the screen is too narrow the end, or nothing."""
    name = text.printable(name)
    room = width() - 1 - len(f"{what} : {facts}")
    if len(name) <= room:
        return f"{what} {name}: {facts}"
    return f"{what} …{name[1 - room :]}: {facts}" if room >= _NAME else f"{what}: {facts}"


def width() -> int:
    """Return the columns of the screen."""
    size = terminal.size(2)
    return size[1] if size else _WIDTH


def _write(whole: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads: no reason to fail
        sys.stderr.write(whole)  # at once, so that nothing comes between
        sys.stderr.flush()
