"""Measure networks side by side: starts, published ports, packets; started by `make bench`.

One private host. First the packets, for which each engine is alone with its own rules: they pass those of every engine
that has run before, so plugrun's are measured before podman's and docker's are there, and each engine's beside plain
veth pairs in the same rounds. Then, with all engines there: starts in parallel, starts among many others, and ports.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import network_paths
import network_ports
import network_single
import network_starts
import page
from engines import Engine, one_by_one, output

ARCHIVE = page.CHECKOUT / ".cache" / "images" / "busybox.docker.tar"
ROUNDS = int(os.environ.get("ROUNDS", "7"))


def main() -> None:
    if os.environ.get("PLUGRUN_PRIVATE_HOST") != "1":
        sys.exit("bench: run `make bench`: the engines must not meet the machine's own network and containers")
    for program in ("iperf3", "sockperf"):
        if not shutil.which(program):
            sys.exit(f"bench: {program}: not installed; `make bench-deps` does that")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with contextlib.ExitStack() as stack:
        results = measure(stack, Path(os.environ["TMPDIR"]))
    page.write("network", ROUNDS, results)


def measure(stack: contextlib.ExitStack, work: Path) -> dict[str, Any]:
    engines: list[Engine] = []
    paths: list[dict[str, Any]] = []
    network_paths.be_a_router()
    for engine in one_by_one(stack, work, "overlay", bridge=True):
        output([*engine.argv, "load", "-i", str(ARCHIVE)])
        engines.append(engine)
        paths += network_paths.measure(engine, ROUNDS)
    try:
        return {
            "settings": {
                "parallel_rounds": network_starts.ROUNDS,
                "too_long": network_ports.TOO_LONG / 1000,
                "seconds": network_paths.SECONDS,
                "rounds": ROUNDS,
            },
            "paths": paths,
            "parallel": network_starts.parallel(engines),
            "growth": network_starts.growth(engines),
            "ports": network_ports.measure(engines),
            "single": network_single.measure(engines[0]),
        }
    finally:
        page.progress("")


if __name__ == "__main__":
    main()
