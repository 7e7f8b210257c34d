"""Starts of containers on one bridge: many at once, and one more beside many."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import page
from engines import Engine, output
from run import milliseconds

AT_ONCE = int(os.environ.get("AT_ONCE", "64"))
ROUNDS = int(os.environ.get("PARALLEL_ROUNDS", "3"))
MANY = int(os.environ.get("GROWTH", "500"))
PATIENCE = float(os.environ.get("GROWTH_SECONDS", "240"))  # for the starts of one engine
AROUND = 2  # so many starts before and after one make its median


def parallel(engines: Sequence[Engine]) -> list[dict[str, Any]]:
    """Start containers at the same moment; return a row for each engine, times in milliseconds.

    ``all`` is from the first start to the end of the last command, ``median`` and ``p95`` are of single commands.
    """
    walls: dict[str, list[float]] = {engine.name: [] for engine in engines}
    singles: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for number in range(ROUNDS + 1):
        for offset in range(len(engines)):
            engine = engines[(number + offset) % len(engines)]
            page.progress(f"{AT_ONCE} starts at once, round {number} of {ROUNDS}, {engine.name}")
            wall, times = _at_once(engine)
            engine.remove_all()
            if number > 0:
                walls[engine.name].append(wall)
                singles[engine.name] += times
    base = statistics.median(walls["plugrun"])
    return [
        {
            "engine": engine.title,
            "containers": AT_ONCE,
            "all": statistics.median(walls[engine.name]),
            "slowest": max(walls[engine.name]),
            "median": statistics.median(singles[engine.name]),
            "p95": statistics.quantiles(singles[engine.name], n=20)[-1],
            "ratio": statistics.median(walls[engine.name]) / base,
        }
        for engine in engines
    ]


def _at_once(engine: Engine) -> tuple[float, list[float]]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        started = time.perf_counter()
        times = list(pool.map(milliseconds, [engine.run_sleeper() for _ in range(AT_ONCE)]))
        return (time.perf_counter() - started) * 1000, times


def growth(engines: Sequence[Engine]) -> list[dict[str, Any]]:
    """Start containers one after another; return for each engine how long some of them took, in milliseconds."""
    rows = []
    for engine in engines:
        output(engine.run_sleeper())  # fills caches, and makes the bridge where it is made on demand
        engine.remove_all()
        times: list[float] = []
        began = time.monotonic()
        while len(times) < MANY + AROUND and time.monotonic() - began < PATIENCE:
            page.progress(f"{engine.name}, start {len(times) + 1} of {MANY}")
            times.append(milliseconds(engine.run_sleeper()))
        seconds = time.monotonic() - began
        page.progress(f"{engine.name}, removing {len(times)}")
        engine.remove_all()
        rows.append({"engine": engine.title, "started": len(times), "seconds": seconds, "points": _points(times)})
    return rows


def _points(times: Sequence[float]) -> list[tuple[int, float]]:
    """Return how many containers there are with the new one, and the median of the starts around that one."""
    wanted = [1, 10, *range(25, len(times) + 1, 25)]
    return [(n, statistics.median(times[max(0, n - 1 - AROUND) : n + AROUND])) for n in wanted if n <= len(times)]
