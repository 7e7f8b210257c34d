"""The results as files: docs/bench/NAME.json for each benchmark, and docs/bench/README.md made of all of them."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import network_page
from engines import CRUN, output

CHECKOUT = Path(__file__).resolve().parent.parent
RESULTS = CHECKOUT / "docs" / "bench"

RUN = """# Benchmark: how long `run --rm busybox true` takes

Written by `make bench`: {about}. Every
engine with crun, overlay layers on one file system, the same image; whole processes from start to end, in turns, after
one warm-up round. Docker's daemon is already running when its measurements begin; plugrun and podman have none.

{table}
"""

PULL = """# Benchmark: how long `pull` takes

Written by `make bench`: {about}. One registry
(Debian's docker-registry, plain HTTP on loopback, its files in the page cache); whole processes from start to end, in
turns. Every round is on a new ext4 file system, with an empty store of each engine: a new root of plugrun and podman,
and a new daemon of docker on a new data root, which is already running. After a pull the layers are unpacked.

{images}
{table}

Seconds are those of the pull; "synced" are those with a sync of the file system after it. When plugrun's pull ends, the
layers are on the disk; podman and docker leave that to the kernel. MB are 10^6 bytes; "packed" are those transferred,
"unpacked" those of the tar archives; "files" counts directories too. "MB peak" is memory, in a round of its own: the
proportional set sizes of all processes, docker's daemons included, added up every 10 ms. The last two of each image are
no engines but programs that verify and record nothing, for the same bytes: they show what the machine allows.
"""

STORAGE = """# Benchmark: what copy-on-write storage is for

Written by `make bench`: {about}. Whole
processes from start to end, in turns, after one warm-up round. All overlay is on one ext4, all btrfs on one btrfs. A
commit is of a container that changed 10 files of an image with 50,000; all before it is on the disk.

{table}

![Commit](storage-commit.svg)

![Create and remove](storage-create.svg)

Snapshots, clones and rollbacks of containers, which the others do not have: milliseconds in the engine (no start of
a program), median and slowest, by what the container has written. Snapshots and clones are of a running container,
which stands still for the time under "paused"; a rollback is of a stopped one.

{operations}

![Snapshot, clone and rollback](storage-branches.svg)
"""

END = """
Every run of the machine differs: compare the columns of one run, and run it yourself.
"""


def progress(text: str) -> None:
    """Say on a terminal what is being measured; ``""`` removes it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{'bench: ' * bool(text)}{text}", end="", file=sys.stderr, flush=True)


def write(name: str, rounds: int, results: Mapping[str, Any]) -> None:
    """Print the results of one benchmark, and write them with those of the others that are there."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    data = {"machine": machine() | {"rounds": str(rounds)}, **results}
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=2) + "\n")
    print("\n\n".join(text for text in FIELDS[name](data).values() if str(text).startswith("|")))  # tables
    parts = []
    for kind, template in TEMPLATES.items():
        file = RESULTS / f"{kind}.json"
        if file.exists():
            parts.append(section(kind, template, json.loads(file.read_text())))
    (RESULTS / "README.md").write_text("\n".join(parts) + END)


def section(kind: str, template: str, data: Mapping[str, Any]) -> str:
    facts = data["machine"]
    about = "{system}, kernel {kernel}, {cpus} CPUs, Python {python}, crun {crun}, {rounds} rounds".format(**facts)
    return template.format(about=about, **FIELDS[kind](data))


def image_line(image: Mapping[str, Any]) -> str:
    packed, unpacked = image["packed"] / 1e6, image["unpacked"] / 1e6
    return f"- {image['name']}: {image['about']}; {packed:.0f} MB packed, {unpacked:.0f} MB unpacked\n"


def run_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| network | engine           | median ms | p95 ms | fastest ms | of plugrun's median |",
        "|---------|------------------|----------:|-------:|-----------:|--------------------:|",
    ]
    for row in rows:
        name = f"{row['engine']} {row['version']}"
        times = f"{row['median']:9.0f} | {row['p95']:6.0f} | {row['fastest']:10.0f}"
        lines.append(f"| {row['network']:7} | {name:16} | {times} | {row['ratio']:18.2f}x |")
    return "\n".join(lines)


PULL_COLUMNS = {
    "image": ":-----",
    "engine": ":----------------",
    "median s": "-------:",
    "fastest": "------:",
    "slowest": "------:",
    "of plugrun's": "-----------:",
    "synced": "-----:",
    "packed MB/s": "----------:",
    "unpacked": "-------:",
    "files/s": "------:",
    "MB peak": "------:",
}


def pull_table(rows: list[dict[str, Any]]) -> str:
    head = " | ".join(name.ljust(len(line)) for name, line in PULL_COLUMNS.items())
    lines = [f"| {head} |", f"| {' | '.join(PULL_COLUMNS.values())} |"]
    for row in rows:
        times = f"{row['median']:8.2f} | {row['fastest']:7.2f} | {row['slowest']:7.2f} | {row['ratio']:11.2f}x"
        times += f" | {row['synced']:6.2f}"
        rates = f"{row['packed_rate']:11.1f} | {optional(row['unpacked_rate'], 8)} | {optional(row['file_rate'], 7)}"
        lines.append(f"| {row['image']:6} | {row['engine']:17} | {times} | {rates} | {optional(row['memory'], 7)} |")
    return "\n".join(lines)


def optional(value: float | None, width: int) -> str:
    return " " * width if value is None else f"{value:{width}.0f}"


def storage_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| work          | engine           | storage | median ms | p95 ms | fastest ms | of plugrun's on the same |",
        "|---------------|------------------|---------|----------:|-------:|-----------:|-------------------------:|",
    ]
    for row in rows:
        times = f"{row['median']:9.0f} | {row['p95']:6.0f} | {row['fastest']:10.0f} | {row['ratio']:23.2f}x"
        lines.append(f"| {row['work']:13} | {row['engine']:16} | {row['storage']:7} | {times} |")
    return "\n".join(lines)


def operations_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| storage | files  | MB    | operation | median ms | slowest ms |",
        "|---------|-------:|------:|-----------|----------:|-----------:|",
    ]
    for row in rows:
        size = f"{row['files']:6} | {row['bytes'] / 1e6:5.0f}"
        times = f"{row['median']:9.1f} | {row['slowest']:10.1f}"
        lines.append(f"| {row['storage']:7} | {size} | {row['operation']:9} | {times} |")
    return "\n".join(lines)


TEMPLATES = {"run": RUN, "pull": PULL, "storage": STORAGE, "network": network_page.TEMPLATE}

# What a template has braces for.
FIELDS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "run": lambda data: {"table": run_table(data["rows"])},
    "pull": lambda data: {"table": pull_table(data["rows"]), "images": "".join(map(image_line, data["images"]))},
    "storage": lambda data: {
        "table": storage_table(data["rows"]),
        "operations": operations_table(data["operations"]),
    },
    "network": network_page.fields,
}


def machine() -> dict[str, str]:
    """Describe what the numbers depend on, and nothing that names the machine."""
    return {
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "kernel": platform.release().split("-")[0],
        "cpus": str(os.cpu_count()),
        "python": platform.python_version(),
        "crun": output([CRUN, "--version"]).split()[2],
    }
