"""Measure `run --rm busybox true` of every installed engine side by side; started by `make bench`.

One private host, one run, rounds in which every engine takes its turn, so that whatever else the machine does
meets all of them alike. Each measurement is a whole process from start to end, as a user waits for it. One
round beforehand fills caches and does not count.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import page
from engines import Engine, installed, output

ARCHIVE = page.CHECKOUT / ".cache" / "images" / "busybox.docker.tar"
NETWORKS = ("none", "host", "bridge")
ROUNDS = int(os.environ.get("ROUNDS", "30"))


@dataclass(frozen=True)
class Row:
    """One engine on one network; times in milliseconds."""

    engine: str
    version: str
    network: str
    median: float
    p95: float
    fastest: float
    ratio: float  # of the median to plugrun's on the same network


def main() -> None:
    if os.environ.get("PLUGRUN_PRIVATE_HOST") != "1":
        sys.exit("bench: run `make bench`: the engines must not meet the machine's own network and containers")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what pip installs is compiled; the warm-up round compiles this
    with installed(Path(os.environ["TMPDIR"]), bridge=True) as engines:
        for engine in engines:
            output([*engine.argv, "load", "-i", str(ARCHIVE)])
        times = measure(engines)
    page.write("run", ROUNDS, {"rows": [vars(row) for row in summarize(engines, times)]})


def measure(engines: Sequence[Engine]) -> dict[tuple[str, str], list[float]]:
    """Return the milliseconds of every round, by engine and network."""
    times: dict[tuple[str, str], list[float]] = {(e.name, n): [] for e in engines for n in NETWORKS}
    for number in range(ROUNDS + 1):
        page.progress(f"run, round {number} of {ROUNDS}")
        for network in NETWORKS:
            # Another order in each round, so that nobody always follows the same neighbour.
            for offset in range(len(engines)):
                engine = engines[(number + offset) % len(engines)]
                elapsed = milliseconds(engine.run_true(network))
                if number > 0:
                    times[engine.name, network].append(elapsed)
    page.progress("")
    return times


def milliseconds(argv: list[str]) -> float:
    started = time.perf_counter()
    code = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode
    elapsed = time.perf_counter() - started
    if code != 0:
        sys.exit(f"bench: {' '.join(argv)}: exit code {code}")
    return elapsed * 1000


def summarize(engines: Sequence[Engine], times: dict[tuple[str, str], list[float]]) -> list[Row]:
    rows = []
    for network in NETWORKS:
        base = statistics.median(times["plugrun", network])
        for engine in engines:
            values = times[engine.name, network]
            median, p95 = statistics.median(values), statistics.quantiles(values, n=20)[-1]
            rows.append(Row(engine.name, engine.version, network, median, p95, min(values), median / base))
    return rows


if __name__ == "__main__":
    main()
