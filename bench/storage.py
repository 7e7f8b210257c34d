"""Measure what copy-on-write storage is for, side by side; started by `make bench`.

Containers made and removed, and committed after a small change in a large image: whole processes, engines in turns.
Snapshots, rollbacks and clones, which only plugrun has: the time in the engine, on each of its storage drivers, for
containers in which little, more and much has been written. All overlay layers are on one ext4 and all btrfs subvolumes
on one btrfs; both are new files on the same disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import branches
import commit_image
import disk
import engines as compared
import page
from engines import Engine, output
from run import milliseconds

ARCHIVE = page.CHECKOUT / ".cache" / "images" / "busybox.docker.tar"
CREATE_ROUNDS = int(os.environ.get("ROUNDS", "20"))
COMMIT_ROUNDS = int(os.environ.get("COMMIT_ROUNDS", "5"))
CHANGE = "for f in {}; do echo changed $(cat /proc/uptime) >> $f; done".format(
    " ".join(f"/{name}" for name in commit_image.TOUCHED)
)

Times = dict[tuple[str, str], list[float]]  # by what is done and by whom: milliseconds


@dataclass(frozen=True)
class Row:
    """How long one thing took an engine; times in milliseconds.

    :param ratio: of the median to that of plugrun on the same storage.
    """

    work: str
    engine: str
    storage: str
    median: float
    p95: float
    fastest: float
    ratio: float


def main() -> None:
    if os.environ.get("PLUGRUN_PRIVATE_HOST") != "1":
        sys.exit("bench: run `make bench`: the engines must not meet the machine's own network and containers")
    if not shutil.which("mkfs.btrfs"):
        sys.exit("bench: mkfs.btrfs: not installed; `make setup` does that")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    image = commit_image.make(page.CHECKOUT / ".cache" / "bench", ARCHIVE)
    work = Path(os.environ["TMPDIR"])
    times: Times = defaultdict(list)
    with installed(work) as engines:
        for engine in engines:
            for archive in (ARCHIVE, image):
                output([*engine.argv, "load", "-i", str(archive)])
        creating(engines, times)
        committing(engines, times)
    operations = branches.measure(work)
    page.progress("")
    rows = [vars(row) for row in summarize(engines, times)]
    page.write("storage", CREATE_ROUNDS, {"commit_rounds": COMMIT_ROUNDS, "rows": rows, "operations": operations})


@contextlib.contextmanager
def installed(work: Path) -> Iterator[list[Engine]]:
    """Yield every engine on overlay, and every one on btrfs."""
    with contextlib.ExitStack() as held:
        engines: list[Engine] = []
        for storage, kind in branches.FILE_SYSTEM.items():
            place = held.enter_context(disk.new(work / storage, kind))
            engines += held.enter_context(compared.installed(place, storage))
        yield engines


def in_turns(engines: Sequence[Engine], number: int) -> Iterator[Engine]:
    """Yield the engines in another order in each round, so that nobody always follows the same neighbour."""
    yield from (engines[(number + offset) % len(engines)] for offset in range(len(engines)))


def creating(engines: Sequence[Engine], times: Times) -> None:
    for number in range(CREATE_ROUNDS + 1):
        page.progress(f"create and remove, round {number} of {CREATE_ROUNDS}")
        for engine in in_turns(engines, number):
            name = f"made{number}"
            made = milliseconds(
                [*engine.argv, "create", engine.network_option, "none", "--name", name, "busybox", "true"]
            )
            removed = milliseconds([*engine.argv, "rm", name])
            if number > 0:
                times["create", key(engine)].append(made)
                times["rm", key(engine)].append(removed)
                times["create and rm", key(engine)].append(made + removed)


def committing(engines: Sequence[Engine], times: Times) -> None:
    """Time the commit of a container that changed ten files of 50,000 once more."""
    for engine in engines:
        arguments = (
            "create",
            engine.network_option,
            "none",
            "--name",
            "changed",
            commit_image.NAME,
            "sh",
            "-c",
            CHANGE,
        )
        output([*engine.argv, *arguments])
    for number in range(COMMIT_ROUNDS + 1):
        page.progress(f"commit, round {number} of {COMMIT_ROUNDS}")
        for engine in in_turns(engines, number):
            output([*engine.argv, "start", "-a", "changed"])
            subprocess.run(["sync", "-f", str(engine.store)], check=True)
            elapsed = milliseconds([*engine.argv, "commit", "changed", f"committed:{number}"])
            if number > 0:
                times["commit", key(engine)].append(elapsed)
    for engine in engines:
        check_commit(engine)


def check_commit(engine: Engine) -> None:
    """Insist that what was committed is what the container had."""
    run = [*engine.argv, "run", "--rm", engine.network_option, "none", f"committed:{COMMIT_ROUNDS}"]
    found = output([*run, "grep", "-c", "changed", f"/{commit_image.TOUCHED[-1]}"])
    if int(found) != COMMIT_ROUNDS + 1:
        sys.exit(f"bench: {engine.title} committed {found.strip()} of {COMMIT_ROUNDS + 1} changes")


def key(engine: Engine) -> str:
    return f"{engine.name} {engine.storage}"


def summarize(engines: Sequence[Engine], times: Times) -> list[Row]:
    rows = []
    for work in dict.fromkeys(work for work, _ in times):
        for engine in engines:
            base = statistics.median(times[work, f"plugrun {engine.storage}"])
            values = times[work, key(engine)]
            median, p95 = statistics.median(values), statistics.quantiles(values, n=20)[-1]
            rows.append(Row(work, engine.title, engine.storage, median, p95, min(values), median / base))
    return rows


if __name__ == "__main__":
    main()
