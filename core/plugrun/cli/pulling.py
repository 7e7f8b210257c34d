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
from plugrun.cli.live import fitted, live
from plugrun.images import digest as digests

if TYPE_CHECKING:
    from plugrun.cli.live import Live
    from plugrun.registry.fetch import Fetch, LayerFetch

_REFRESH = 0.1  # seconds
_BAR = 24  # columns
_SHORTEST = 6  # columns of a bar that is worth its place
_BESIDE = 50  # columns that all but the bar may need
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
        self._ended.clear()  # a pull may begin anew
        self._thread = threading.Thread(target=self._look, args=(list(fetch.layers.values()),), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look once more, and stop."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()

    def _look(self, layers: list[LayerFetch]) -> None:
        with live() if sys.stderr.isatty() else contextlib.nullcontext() as shown:
            draw = _Screen(self._name, shown) if shown else _Lines(self._name)
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

    def __init__(self, name: str, shown: Live) -> None:
        self._name = name
        self._shown = shown
        self._history: list[tuple[float, int]] = []

    def update(self, layers: list[LayerFetch]) -> None:
        rows, columns = terminal.size(2) or (24, 80)
        busy = [one for one in layers if not one.done and (one.fetched or one.unpacked)]
        self._shown.draw([*(_line(one, columns) for one in busy[: max(1, rows - 3)]), self._total(layers)])

    def finish(self, layers: list[LayerFetch], seconds: float) -> None:
        if all(one.done for one in layers):
            self._shown.above(_summary(layers, seconds))

    def _total(self, layers: list[LayerFetch]) -> str:
        wanted = [one for one in layers if not one.present]
        here, whole = sum(one.fetched for one in wanted), sum(one.layer.size for one in wanted)
        count = sum(one.done for one in layers)
        facts = f"{count} of {_layers(len(layers))}, {text.size(here)} of {text.size(whole)}"
        if here != whole and (rate := self._rate(here)):
            seconds = (whole - here) / rate
            facts += f", {text.size(int(rate))}/s" + (f", {text.age(seconds)} left" if seconds >= 1 else "")
        return fitted("Pulling", self._name, facts)

    def _rate(self, here: int) -> float:
        """Return bytes a second over the last two seconds."""
        now = time.monotonic()
        self._history.append((now, here))
        while now - self._history[0][0] > _RATE_OVER:
            self._history.pop(0)
        (since, before) = self._history[0]
        return (here - before) / (now - since) if now > since else 0.0


def _line(one: LayerFetch, columns: int) -> str:
    size = one.layer.size
    fetching = one.fetched < size
    now = one.fetched if fetching else one.unpacked
    start = f"{digests.short(one.layer.digest)}  {'Downloading' if fetching else 'Unpacking':<11}"
    width = min(_BAR, columns - _BESIDE)
    if width < _SHORTEST:
        return f"{start}  {min(100, 100 * now // max(size, 1)):>3}%"
    full = width * now // max(size, 1)
    bar = ("=" * full)[: width - 1] + ">"
    return f"{start}  [{bar:<{width}}]  {text.size(now)} of {text.size(size)}"


def _summary(layers: list[LayerFetch], seconds: float) -> str:
    came = [one for one in layers if not one.present]
    here = len(layers) - len(came)
    if here and not came:
        return f"Nothing to fetch: {_layers(here)} {'was' if here == 1 else 'were'} here"
    known = f", {here} {'was' if here == 1 else 'were'} here" if here else ""
    resumed = sum(one.resumed for one in came)
    again = f", {text.size(resumed)} of it from before" if resumed else ""
    amount = sum(one.layer.size for one in came)
    return f"{_layers(len(came))} fetched{known}: {text.size(amount)} in {seconds:.1f} s{again}"


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
