"""Run each image on every installed storage x network pair and show what came of it, one line a container.

Started by `make demo`. The outer half starts a private host, runs the inner half in it, and looks afterwards
whether the machine is as it was. Exits with 1 if a container failed on drivers that say they are usable, or if
something was left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
IMAGES = CHECKOUT / ".cache" / "images"
PLUGRUN = str(CHECKOUT / ".venv" / "bin" / "plugrun")
PARTNER = "partner"  # a container whose network others share
HEADINGS = ("STORAGE", "NETWORK", "IMAGE", "START", "ADDRESS", "WHAT THE CONTAINER SAW", "RESULT")

# One fact a line; the first line is printed as soon as the container runs. For busybox's shell and Debian's.
LOOK = """
echo started
. /etc/os-release; echo "$PRETTY_NAME"
ip -o -4 address show | while read -r _ device _ address _; do [ "$device" = lo ] || echo "$address"; done | xargs
echo "uid $(id -u), $(ls -d /proc/[0-9]* | wc -l) processes, $(ls /sys/class/net | xargs)"
"""


# --- Outside: the private host, and a look at the machine before and after -----------------------------------


def outside() -> int:
    name = f"demo-{os.getpid()}"
    before = set(outside_files())
    command = [str(CHECKOUT / "scripts" / "private-host"), sys.executable, __file__, "--inside"]
    code = subprocess.run(command, check=False, env={**os.environ, "PRIVATE_HOST_NAME": name}).returncode
    left = [*leftovers(name), *sorted(set(outside_files()) - before)]
    if left:
        print("Left behind:", *left, sep="\n  ")
        return code or 1
    print("Left behind: nothing (looked for processes, mounts, control groups, files outside the checkout).")
    return code


def leftovers(name: str) -> Iterator[str]:
    """List what is still there of the private host with this name."""
    for entry in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):
            if f"plugrun-host-{name}" in entry.read_text():
                yield f"process {entry.parent.name}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if name in line:
            yield f"mount {line.split()[4]}"
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        yield from (f"control group {directory}/{one}" for one in names if name in one)
    if (CHECKOUT / ".cache" / "hosts" / name).exists():
        yield f"directory .cache/hosts/{name}"


def outside_files() -> Iterator[str]:
    """List files in the places where container engines, and this one, keep theirs."""
    for directory in ("/etc", "/run", "/var/lib", "/run/plugrun", "/var/lib/plugrun"):
        if os.path.isdir(directory):
            yield from (f"{directory}/{one}" for one in os.listdir(directory) if "plugrun" in directory + one)


# --- Inside --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Driver:
    """A row of `plugrun plugin ls`; ``reason`` is empty when it is usable."""

    name: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Sight:
    """What one container showed."""

    start: float  # seconds from the command to the container's first line
    address: str
    saw: str


def inside() -> int:
    images = [
        load(archive) for archive in (IMAGES / "busybox.docker.tar", IMAGES / "debian.oci.tar") if archive.exists()
    ]
    for storage in drivers("storage"):
        if storage.reason:
            make_pool(storage.name)
    storages, networks = drivers("storage"), drivers("network")
    for storage in storages:
        for image in images if not storage.reason else ():
            unpack(storage.name, image)
    ways = find_ways(networks, images)
    show = Table(storages, networks, images)
    failed = 0
    for storage in storages:
        for network in networks:
            reason = storage.reason or network.reason
            if reason:
                show.row(storage.name, network.name, "-", f"not usable: {reason}")
                continue
            for image in images:
                show.progress(storage, network, image)
                seen = run(storage.name, ways[network.name], image)
                if isinstance(seen, Sight):
                    start = f"{seen.start * 1000:.0f} ms"
                    show.row(storage.name, network.name, image, start, seen.address, seen.saw, "ok")
                else:
                    failed += 1
                    show.row(storage.name, network.name, image, f"FAILED: {seen}")
    print(f"\n{show.containers} containers, {failed} failed; START is the time from the command to its first line.")
    return 1 if failed or not show.containers else 0


def load(archive: Path) -> str:
    """Load an image and return its name, telling how long that took."""
    started = time.perf_counter()
    done = subprocess.run([PLUGRUN, "load", "-i", str(archive)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"demo: cannot load {archive.name}: {done.stderr.strip()}")
    name = done.stdout.split()[-1]
    print(f"Loaded {name} from {archive.name} in {time.perf_counter() - started:.1f} s", flush=True)
    return name


def make_pool(storage: str) -> None:
    """Give a driver that does not work on this disk a file system in a file; if it can use none, the table tells."""
    command = [PLUGRUN, "storage", "create", storage, "--size", "1G"]
    if subprocess.run(command, capture_output=True, check=False).returncode == 0:
        print(f"Made a pool of 1 GB for {storage}: a file system in a file", flush=True)


def unpack(storage: str, image: str) -> None:
    """Let a driver see an image for the first time, so that the table shows what every later start takes."""
    started = time.perf_counter()
    done = subprocess.run([PLUGRUN, "create", "--storage", storage, image], capture_output=True, text=True, check=False)
    if done.returncode == 0:  # else the table tells
        print(f"Unpacked {image} for {storage} in {time.perf_counter() - started:.1f} s", flush=True)


def find_ways(networks: list[Driver], images: list[str]) -> dict[str, str]:
    """Return a ``--net`` value for each driver: its name, or with a container for one that cannot do without."""
    ways = {network.name: network.name for network in networks}
    for image in images[:1]:
        subprocess.run(
            [PLUGRUN, "run", "-d", "--name", PARTNER, image, "sleep", "1000"], capture_output=True, check=False
        )
        for name in ways:
            alone = subprocess.run([PLUGRUN, "create", "--net", name, image], capture_output=True, check=False)
            if alone.returncode != 0:
                ways[name] = f"{name}:{PARTNER}"
    return ways


def drivers(kind: str) -> list[Driver]:
    done = subprocess.run([PLUGRUN, "plugin", "ls", "--format", "json"], capture_output=True, text=True, check=True)
    rows = map(json.loads, done.stdout.splitlines())
    reasons = {row["Name"]: row["Usable"] for row in rows if row["Kind"] == kind}
    return [Driver(name, kind, "" if reason == "yes" else reason) for name, reason in reasons.items()]


def run(storage: str, network: str, image: str) -> Sight | str:
    """Run one container; return what it saw, or why it did not."""
    command = [PLUGRUN, "--storage", storage, "--net", network, "run", "--rm", image, "sh", "-c", LOOK]
    began = time.perf_counter()
    # Unbuffered, so that communicate() gets all that readline() leaves.
    with subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        start = time.perf_counter() - began
        rest, errors = (stream.decode(errors="replace") for stream in process.communicate(timeout=120))
    lines = rest.splitlines()
    if process.returncode != 0 or first != b"started\n" or len(lines) != 3:
        return errors.strip().replace("\n", "; ") or f"exit code {process.returncode}, output {rest!r}"
    system, address, facts = lines
    return Sight(start, address or "lo only", f"{system}: {facts}")


class Table:
    """Prints rows as they come; on a terminal the row in the making too."""

    def __init__(self, storages: list[Driver], networks: list[Driver], images: list[str]) -> None:
        names = ([one.name for one in storages], [one.name for one in networks], images)
        widths = [max(map(len, [heading, *column])) for heading, column in zip(HEADINGS, names, strict=False)]
        self.widths = [*widths, 7, 16, 62]
        self.containers = 0
        print()
        print(self.line(HEADINGS))

    def line(self, cells: tuple[str, ...]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(cells[:-1], self.widths, strict=False)]
        return "  ".join([*padded, cells[-1]])

    def progress(self, storage: Driver, network: Driver, image: str) -> None:
        self.containers += 1
        if sys.stdout.isatty():
            print(self.line((storage.name, network.name, image, "...")), end="", flush=True)

    def row(self, *cells: str) -> None:
        erase = "\r\033[K" if sys.stdout.isatty() else ""
        print(erase + self.line(cells), flush=True)


if __name__ == "__main__":
    sys.exit(inside() if "--inside" in sys.argv else outside())
