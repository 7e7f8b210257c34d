"""How a pull goes, on stderr: a line a layer that is redrawn for a person, a line when one is done for a program."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from plugrun import terminal
from plugrun.cli import text
from plugrun.images import digest as digests

if TYPE_CHECKING:
    from plugrun.registry.fetch import Fetch, LayerFetch

_REFRESH = 0.1  # seconds
_BAR = 24  # columns
_RATE_OVER = 2.0  # seconds


class Pulling:
    """Looks at a pull ten times a second, in a thread of its own.

    :param name: the image, for people.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._began = time.monotonic()

    def begin(self, fetch: Fetch) -> None:
        """Start looking."""
        draw = _Screen(self._name) if sys.stderr.isatty() else _Lines(self._name)
        self._thread = threading.Thread(target=self._look, args=(fetch, draw), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look once more, and stop."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()

    def _look(self, fetch: Fetch, draw: _Screen | _Lines) -> None:
        layers = list(fetch.layers.values())
        while not self._ended.wait(_REFRESH):
            draw.update(layers)
        draw.finish(layers, time.monotonic() - self._began)


class _Lines:
    """A line for each layer that is done."""

    def __init__(self, name: str) -> None:
        self._said: set[str] = set()
        self._write(f"Pulling {text.printable(name)}")

    def update(self, layers: list[LayerFetch]) -> None:
        for one in layers:
            if one.done and one.layer.digest not in self._said:
                self._said.add(one.layer.digest)
                state = "already here" if one.present else f"complete, {text.size(one.layer.size)}"
                self._write(f"{digests.short(one.layer.digest)}: {state}")

    def finish(self, layers: list[LayerFetch], seconds: float) -> None:
        self.update(layers)
        if all(one.done for one in layers):
            self._write(_summary(layers, seconds))

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads: no reason to fail
            print(line, file=sys.stderr, flush=True)


class _Screen:
    """One line a layer, as many as the screen has room for, and one for all of them."""

    def __init__(self, name: str) -> None:
        self._name = text.printable(name)
        self._drawn = 0
        self._history: list[tuple[float, int]] = []

    def update(self, layers: list[LayerFetch]) -> None:
        rows, columns = terminal.size(2) or (24, 80)
        busy = [one for one in layers if not one.done and (one.fetched or one.unpacked)]
        lines = [_line(one) for one in busy[: max(1, rows - 3)]]
        self._draw([line[: columns - 1] for line in [*lines, self._total(layers)]])

    def finish(self, layers: list[LayerFetch], seconds: float) -> None:
        self._draw([_summary(layers, seconds)] if all(one.done for one in layers) else [])

    def _total(self, layers: list[LayerFetch]) -> str:
        wanted = [one for one in layers if not one.present]
        here, whole = sum(one.fetched for one in wanted), sum(one.layer.size for one in wanted)
        count = sum(one.done for one in layers)
        start = f"Pulling {self._name}: {count} of {_layers(len(layers))}, {text.size(here)} of {text.size(whole)}"
        if here == whole or not (rate := self._rate(here)):
            return start
        seconds = (whole - here) / rate
        return f"{start}, {text.size(int(rate))}/s" + (f", {text.age(seconds)} left" if seconds >= 1 else "")

    def _rate(self, here: int) -> float:
        """Return bytes a second over the last two seconds."""
        now = time.monotonic()
        self._history.append((now, here))
        while now - self._history[0][0] > _RATE_OVER:
            self._history.pop(0)
        (since, before) = self._history[0]
        return (here - before) / (now - since) if now > since else 0.0

    def _draw(self, lines: list[str]) -> None:
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        sys.stderr.write(f"\r{up}\x1b[J" + "".join(f"{line}\n" for line in lines))
        sys.stderr.flush()
        self._drawn = len(lines)


def _line(one: LayerFetch) -> str:
    size = one.layer.size
    fetching = one.fetched < size
    now = one.fetched if fetching else one.unpacked
    full = _BAR * now // max(size, 1)
    bar = ("=" * full)[: _BAR - 1] + ">"
    word = "Downloading" if fetching else "Unpacking"
    return f"{digests.short(one.layer.digest)}  {word:<11}  [{bar:<{_BAR}}]  {text.size(now)} of {text.size(size)}"


def _summary(layers: list[LayerFetch], seconds: float) -> str:
    came = [one for one in layers if not one.present]
    here = len(layers) - len(came)
    known = f", {here} were here" if here else ""
    resumed = sum(one.resumed for one in came)
    again = f", {text.size(resumed)} of them from before" if resumed else ""
    amount = sum(one.layer.size for one in came)
    return f"{_layers(len(came))} fetched{known}: {text.size(amount)}{again} in {seconds:.1f} s"


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"


class _Silent:
    """Shows nothing."""

    def begin(self, fetch: Fetch) -> None:
        """Ignore it."""

    def end(self) -> None:
        """Ignore it."""


@contextlib.contextmanager
def shown(name: str, *, quiet: bool) -> Iterator[Pulling | _Silent]:
    """Show how the pull of an image goes that is made in the block."""
    watcher = _Silent() if quiet else Pulling(name)
    try:
        yield watcher
    finally:
        watcher.end()
