"""Measure `run --rm busybox true` of every installed engine side by side; started by `make bench`.

One private host, one run, rounds in which every engine takes its turn, so that whatever else the machine does
meets all of them alike. Each measurement is a whole process from start to end, as a user waits for it. One
round beforehand fills caches and does not count.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engines import CRUN, Engine, installed, output

CHECKOUT = Path(__file__).resolve().parent.parent
ARCHIVE = CHECKOUT / ".cache" / "images" / "busybox.docker.tar"
RESULTS = CHECKOUT / "docs" / "bench"
NETWORKS = ("none", "host")
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
    with installed(Path(os.environ["TMPDIR"]), ARCHIVE) as engines:
        times = measure(engines)
    rows = summarize(engines, times)
    print(table(rows))
    write_results(rows)


def measure(engines: Sequence[Engine]) -> dict[tuple[str, str], list[float]]:
    """Return the milliseconds of every round, by engine and network."""
    times: dict[tuple[str, str], list[float]] = {(e.name, n): [] for e in engines for n in NETWORKS}
    for number in range(ROUNDS + 1):
        if sys.stderr.isatty():
            print(f"\rbench: round {number} of {ROUNDS} ", end="", file=sys.stderr)
        for network in NETWORKS:
            # Another order in each round, so that nobody always follows the same neighbour.
            for offset in range(len(engines)):
                engine = engines[(number + offset) % len(engines)]
                elapsed = milliseconds(engine.run_true(network))
                if number > 0:
                    times[engine.name, network].append(elapsed)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
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


def table(rows: Sequence[Row]) -> str:
    """Return the results as Markdown, which reads well on a terminal too."""
    lines = [
        "| network | engine           | median ms | p95 ms | fastest ms | of plugrun's median |",
        "|---------|------------------|----------:|-------:|-----------:|--------------------:|",
    ]
    for row in rows:
        name = f"{row.engine} {row.version}"
        times = f"{row.median:9.0f} | {row.p95:6.0f} | {row.fastest:10.0f}"
        lines.append(f"| {row.network:7} | {name:16} | {times} | {row.ratio:18.2f}x |")
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """Describe what the numbers depend on, and nothing that names the machine."""
    crun = output([CRUN, "--version"]).split()[2]
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return {
        "system": system,
        "kernel": platform.release().split("-")[0],
        "cpus": str(os.cpu_count()),
        "python": platform.python_version(),
        "crun": crun,
        "rounds": str(ROUNDS),
    }


PAGE = """# Benchmark: how long `run --rm busybox true` takes

Written by `make bench`: {about}. Every engine with crun, overlay
layers on one file system, the same image; whole processes from start to end, in turns, after one warm-up round.
Docker's daemon is already running when its measurements begin; plugrun and podman have none.

{table}

Every run of the machine differs: compare the columns of one run, and run it yourself.
"""


def write_results(rows: Sequence[Row]) -> None:
    facts = machine()
    RESULTS.mkdir(parents=True, exist_ok=True)
    data = {"machine": facts, "rows": [vars(row) for row in rows]}
    (RESULTS / "run.json").write_text(json.dumps(data, indent=2) + "\n")
    about = "{system}, kernel {kernel}, {cpus} CPUs, Python {python}, crun {crun}, {rounds} rounds".format(**facts)
    (RESULTS / "README.md").write_text(PAGE.format(about=about, table=table(rows)))


if __name__ == "__main__":
    main()
