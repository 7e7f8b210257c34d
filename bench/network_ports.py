"""Publishing a range of ports: how much longer a container takes to start for it."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import page
from run import milliseconds

if TYPE_CHECKING:
    from engines import Engine

SIZES = (1, 100, 1_000, 10_000)
FIRST = 10_000
ROUNDS = int(os.environ.get("PORT_ROUNDS", "7"))
TOO_LONG = 60_000  # milliseconds that a start may take to be waited for
SLOW = 5_000  # milliseconds from which on one round is enough


def measure(engines: Sequence[Engine]) -> list[dict[str, Any]]:
    """Return a row for each engine and size; times in milliseconds.

    ``more`` is what a start takes with the ports less what it takes without, medians of the same rounds. Both are null
    where a start would take too long: ten times the ports are taken to last ten times as long, as they do where it
    is slow.
    """
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        for engine in engines:
            times = _rounds(engine, size) if _is_bearable(engine, size, rows) else {"start": None, "more": None}
            rows.append({"engine": engine.title, "ports": size, **times})
    return rows


def _is_bearable(engine: Engine, size: int, rows: Sequence[dict[str, Any]]) -> bool:
    before = [row for row in rows if row["engine"] == engine.title]
    if not before:
        return True
    last = before[-1]
    return last["more"] is not None and last["more"] * size / last["ports"] < TOO_LONG


def _rounds(engine: Engine, size: int) -> dict[str, Any]:
    ports = f"{FIRST}-{FIRST + size - 1}" if size > 1 else f"{FIRST}"
    without, published = [], []
    for number in range(ROUNDS + 1):
        page.progress(f"{size} ports, round {number} of {ROUNDS}, {engine.name}")
        plain = milliseconds(engine.run_sleeper())
        engine.remove_all()
        with_ports = milliseconds(engine.run_sleeper("-p", f"{ports}:{ports}"))
        engine.remove_all()
        if number > 0 or with_ports > SLOW:
            without.append(plain)
            published.append(with_ports)
        if with_ports > SLOW:
            break
    start = statistics.median(published)
    return {"start": start, "more": start - statistics.median(without), "rounds": len(published)}
