"""Measure `pull` of every installed engine side by side; started by `make bench`.

One registry, one private host, one run; in each round every engine has an empty store of its own and the engines take
turns, image by image. The registry's files are in the page cache for all. Between measurements what was written goes
to the disk, so that nobody waits for another's data. One round beforehand fills caches, checks that the images
are there and unpacked afterwards, and finds how much memory the engines take; it is not timed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import by_hand
import disk
import page
import pull_images
from engines import Engine, installed, output
from memory import Peak
from pull_images import Image
from registries import NAMESPACE, serving

LAYOUT = page.CHECKOUT / ".cache" / "bench"
ROUNDS = int(os.environ.get("PULL_ROUNDS", "5"))
PROGRAMS = ("docker-registry", "skopeo", "curl")

Times = dict[tuple[str, str], list[float]]  # seconds by image and engine


@dataclass(frozen=True)
class Row:
    """One engine with one image; times in seconds.

    :param ratio: of the median to plugrun's.
    :param packed_rate: MB/s of what is transferred; ``unpacked_rate`` of what is stored.
    :param file_rate: files and directories per second.
    :param memory: MB of all its processes at most.
    """

    image: str
    engine: str
    median: float
    fastest: float
    slowest: float
    ratio: float
    packed_rate: float
    unpacked_rate: float | None
    file_rate: float | None
    memory: float | None


def main() -> None:
    if os.environ.get("PLUGRUN_PRIVATE_HOST") != "1":
        sys.exit("bench: run `make bench`: the engines must not meet the machine's own network and containers")
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        sys.exit(f"bench: {', '.join(missing)}: not installed; `make bench-deps` does that")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    images = pull_images.make(LAYOUT)
    work = Path(os.environ["TMPDIR"])
    with serving(work / "registry", LAYOUT, images) as host:
        memory = warm_up(work / "warm-up", host, images)
        times: Times = defaultdict(list)
        for number in range(ROUNDS):
            page.progress(f"pull, round {number + 1} of {ROUNDS}")
            one_round(work / f"round{number}", host, images, times, number)
    page.progress("")
    rows = [vars(summary(image, engine, times, memory)) for image in images for engine in engines_of(images[0], times)]
    page.write("pull", {"rounds": ROUNDS, "images": [about(image) for image in images], "rows": rows})


# --- Rounds -------------------------------------------------------------------------------------------------


def warm_up(place: Path, host: str, images: Sequence[Image]) -> dict[tuple[str, str], int]:
    """Return the bytes of memory that each engine took, by image and engine."""
    memory = {}
    with cold(place) as engines:
        for image in images:
            for engine in engines:
                page.progress(f"pull, memory of {engine.name} for {image.name}")
                memory[image.name, engine.title] = watched(engine, name_of(image, host), image)
            for argv in by_hand.commands(place, host, image).values():
                run(argv)
    return memory


def watched(engine: Engine, name: str, image: Image) -> int:
    if engine.has(name):
        sys.exit(f"bench: {engine.name} has {name} before it pulls")
    before = files_below(engine.store)
    process = subprocess.Popen(engine.pull(name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with process, Peak(process.pid, *([engine.daemon] if engine.daemon else [])) as peak:
        code = process.wait()
    new = files_below(engine.store) - before
    if code != 0 or not engine.has(name) or new < image.entries:
        sys.exit(f"bench: {engine.name} pull {name}: exit code {code}, {new} of {image.entries} files")
    return peak.bytes


def one_round(place: Path, host: str, images: Sequence[Image], times: Times, number: int) -> None:
    with cold(place) as engines:
        for image in images:
            turns = {engine.title: engine.pull(name_of(image, host)) for engine in engines}
            turns |= by_hand.commands(place, host, image)
            for offset in range(len(turns)):
                # Another order in each round, so that nobody always follows the same neighbour.
                name = [*turns][(number + offset) % len(turns)]
                os.sync()
                times[image.name, name].append(run(turns[name]))


@contextlib.contextmanager
def cold(place: Path) -> Iterator[list[Engine]]:
    """Start every engine with an empty store, which is removed at the end."""
    with disk.new(place):
        try:
            os.environ["TMPDIR"] = str(place)  # podman downloads to there
            with installed(place) as engines:
                for engine in engines:
                    output([*engine.argv, "images"])  # makes the store, as the start of the daemon does
                yield engines
        finally:
            unmount_below(place)
            for runtime in Path("/run").glob("bench-*"):
                if runtime.is_dir():
                    shutil.rmtree(runtime)


def unmount_below(place: Path) -> None:
    """Unmount what podman leaves mounted over its store."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(points):
        if point.startswith(f"{place}/"):
            output(["umount", point])


def run(argv: Sequence[str]) -> float:
    """Return the seconds that a command took."""
    started = time.perf_counter()
    done = subprocess.run(
        argv, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    elapsed = time.perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(argv)}: exit code {done.returncode}\n{done.stderr.decode(errors='replace')}")
    return elapsed


def files_below(place: Path) -> int:
    return sum(len(files) + len(below) for _, below, files in os.walk(place))


def name_of(image: Image, host: str) -> str:
    return f"{host}/{NAMESPACE}/{image.name}"


# --- What came out ------------------------------------------------------------------------------------------


def summary(image: Image, engine: str, times: Times, memory: Mapping[tuple[str, str], int]) -> Row:
    values = times[image.name, engine]
    median = statistics.median(values)
    plugrun = next(name for name in engines_of(image, times) if name.startswith("plugrun"))
    unpacks = engine != by_hand.DOWNLOAD
    peak = memory.get((image.name, engine))
    return Row(
        image=image.name,
        engine=engine,
        median=median,
        fastest=min(values),
        slowest=max(values),
        ratio=median / statistics.median(times[image.name, plugrun]),
        packed_rate=image.packed / median / 1e6,
        unpacked_rate=image.unpacked / median / 1e6 if unpacks else None,
        file_rate=image.entries / median if unpacks else None,
        memory=None if peak is None else peak / 1e6,
    )


def engines_of(image: Image, times: Times) -> list[str]:
    return [engine for name, engine in times if name == image.name]


def about(image: Image) -> dict[str, object]:
    return {name: value for name, value in vars(image).items() if name != "layers"} | {"layers": len(image.layers)}


if __name__ == "__main__":
    main()
