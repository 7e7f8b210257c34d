"""Snapshots, rollbacks and clones of containers in which little, more and much has been written."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
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
    times: dict[str, list[float]] = {"snapshot": [], "paused": [], "clone": [], "rollback": []}
    try:
        with compared.opened(engine) as opened:
            _fill(opened.paths.rootfs(opened.containers.find("full").id), files, size)
            for _ in range(ROUNDS):
                _while_it_runs(opened, engine, times)
            output([*engine.argv, "stop", "-t", "0", "full"])
            for _ in range(ROUNDS):
                _when_stopped(opened, engine, times)
    finally:
        output([*engine.argv, "rm", "-f", *output([*engine.argv, "ps", "-aq"]).split()])
    return times


def _while_it_runs(opened: Any, engine: Engine, times: dict[str, list[float]]) -> None:
    from plugrun.lifecycle import clone, snapshot

    record = opened.containers.find("full")
    with _timed(engine, times["snapshot"]):
        _, pause = snapshot.create(opened, record, "saved")
    times["paused"].append(pause.seconds * 1000)
    with _timed(engine, times["clone"]):
        clone.clone(opened, record, "copy")
    output([*engine.argv, "rm", "copy"])
    snapshot.remove(opened, record, "saved")


def _when_stopped(opened: Any, engine: Engine, times: dict[str, list[float]]) -> None:
    from plugrun.lifecycle import rollback, snapshot

    record = opened.containers.find("full")
    snapshot.create(opened, record, "saved")
    with _timed(engine, times["rollback"]):
        record = rollback.rollback(opened, record, "saved")
    snapshot.remove(opened, record, "saved")


@contextlib.contextmanager
def _timed(engine: Engine, times: list[float]) -> Iterator[None]:
    """Time a block, in milliseconds; what was done before is on the disk."""
    subprocess.run(["sync", "-f", str(engine.store)], check=True)
    started = time.perf_counter()
    yield
    times.append((time.perf_counter() - started) * 1000)


def _fill(root: Path, files: int, size: int) -> None:
    block = os.urandom(size // files)
    for number in range(files):
        if number % 100 == 0:
            directory = root / f"data{number // 100}"
            directory.mkdir()
        (directory / f"file{number}").write_bytes(block)
