"""Snapshots, rollbacks and clones of containers in which little, more and much has been written."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import disk
import engines as compared
import page
from engines import Engine, output

ARCHIVE = page.CHECKOUT / ".cache" / "images" / "busybox.docker.tar"
ROUNDS = int(os.environ.get("BRANCH_ROUNDS", "5"))
SIZES = ((500, 10_000_000), (5_000, 100_000_000), (50_000, 1_000_000_000))  # files, and bytes of all of them
FILE_SYSTEM = {"overlay": "ext4", "btrfs": "btrfs"}


def measure(work: Path) -> list[dict[str, Any]]:
    """Return a row for each driver, size and operation; times in milliseconds."""
    rows = []
    for storage, kind in FILE_SYSTEM.items():
        for files, size in SIZES:
            with disk.new(work / f"{storage}{files}", kind) as place:
                engine = compared.plugrun(place, storage)
                page.progress(f"snapshots on {storage}, {files} files")
                for operation, values in _one(engine, files, size).items():
                    rows.append(
                        {
                            "storage": storage,
                            "files": files,
                            "bytes": size,
                            "operation": operation,
                            "median": statistics.median(values),
                            "slowest": max(values),
                        }
                    )
    return rows


def _one(engine: Engine, files: int, size: int) -> dict[str, list[float]]:
    output([*engine.argv, "load", "-i", str(ARCHIVE)])
    command = (engine.network_option, "none", "--name", "full", "busybox", "sleep", "3600")
    output([*engine.argv, "run", "-d", *command])
    times: dict[str, list[float]] = {}
    try:
        with _opened(engine) as opened:
            _fill(opened.paths.rootfs(opened.containers.find("full").id), files, size)
            subprocess.run(["sync", "-f", str(engine.store)], check=True)
            for number in range(ROUNDS):
                for operation, act in _operations(opened, number).items():
                    started = time.perf_counter()
                    paused = act()
                    times.setdefault(operation, []).append((time.perf_counter() - started) * 1000)
                    if paused is not None:
                        times.setdefault("paused", []).append(paused * 1000)
    finally:
        names = output([*engine.argv, "ps", "-aq"]).split()
        output([*engine.argv, "rm", "-f", *names])
    return times


def _operations(opened: Any, number: int) -> dict[str, Callable[[], float | None]]:
    """Return what is timed, in order: of a container that runs, and of the stopped clone of it."""
    raise NotImplementedError


def _fill(root: Path, files: int, size: int) -> None:
    block = os.urandom(size // files)
    for number in range(files):
        if number % 100 == 0:
            directory = root / f"data{number // 100}"
            directory.mkdir()
        (directory / f"file{number}").write_bytes(block)


@contextlib.contextmanager
def _opened(engine: Engine) -> Iterator[Any]:
    from plugrun.engine import Engine as Opened
    from plugrun.paths import Paths

    run_root = engine.argv[engine.argv.index("--runroot") + 1]
    opened = Opened(Paths(engine.store, Path(run_root)))
    try:
        yield opened
    finally:
        opened.close()
