"""How much memory a tree of processes takes at most, by looking at it again and again."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Self

INTERVAL = 0.01  # seconds


class Peak:
    """Watches processes and their descendants in a thread of its own while a ``with`` block runs.

    What is added up is the proportional set size, which counts a page that several processes share once in all.
    A peak shorter than the interval is missed, and looking slows down what is looked at: do not time it.

    :ivar bytes: the largest sum seen.
    """

    def __init__(self, *roots: int) -> None:
        self.bytes = 0
        self._roots = roots
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.bytes = max(self.bytes, sum(proportional_size(pid) for pid in family(self._roots)))
            self._stop.wait(INTERVAL)


def family(roots: Collection[int]) -> Iterator[int]:
    """Yield the processes and all their descendants that there are now."""
    parents = {pid: parent_of(pid) for name in os.listdir("/proc") if name.isdigit() and (pid := int(name))}
    for pid in parents:
        above: int | None = pid
        while above and above not in roots:
            above = parents.get(above)
        if above:
            yield pid


def parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[1])
    except OSError:  # ended
        return 0


def proportional_size(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as rollup:
            return next((int(line.split()[1]) * 1024 for line in rollup if line.startswith(b"Pss:")), 0)
    except OSError:
        return 0
