"""Control groups of a private host: made outside, mounted anew inside, removed afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kernel import MS_NODEV, MS_NOEXEC, MS_NOSUID, mount

CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Hierarchy:
    """One mounted control group hierarchy.

    :param point: where it is mounted below /sys/fs/cgroup.
    :param options: mount options that select it again; empty for cgroup v2.
    :param home: the directory in which the private host makes its own group.
    """

    point: Path
    options: str
    home: Path


def find_hierarchies() -> Iterator[Hierarchy]:
    """Read cgroup mounts, cgroups(7), and this process's place in each."""
    places = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, place = line.split(":", 2)
        places[frozenset(names.split(","))] = place
    seen = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        fstype, _, options = after.split(" ", 2)
        if not fstype.startswith("cgroup") or not Path(point).is_relative_to(CGROUP_ROOT) or point in seen:
            continue
        seen.add(point)
        if fstype == "cgroup2":
            # The root is the one v2 group that may hold processes and still hand out controllers.
            yield Hierarchy(Path(point), "", Path(point))
            continue
        known = {name for names in places for name in names}
        chosen = [option for option in options.split(",") if option in known]
        place = places.get(frozenset(chosen), "/").removeprefix(root if root != "/" else "")
        home = Path(point) / place.lstrip("/")
        yield Hierarchy(Path(point), ",".join(chosen), home if home.is_dir() else Path(point))


def make_cgroup(group: Path) -> None:
    group.mkdir()
    for name in ("cpuset.cpus", "cpuset.mems"):
        # A v1 cpuset starts empty, and nothing can run in an empty one.
        if (group / name).exists() and not (group / "cgroup.controllers").exists():
            (group / name).write_text((group.parent / name).read_text())


def remove_cgroup(group: Path, *, patience: float = 10.0) -> None:
    """Kill what is left in a group and remove it with all below it; give up after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while group.exists() and time.monotonic() < deadline:
        for directory, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                for pid in (Path(directory) / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        time.sleep(0.01)  # the kernel frees a dead process's group a little later


def mount_cgroups(hierarchies: list[Hierarchy]) -> None:
    """Mount each hierarchy anew, so that its root is the host's own group.

    Beside v1 controllers the v2 tree is left out, because crun refuses such "hybrid" machines.
    """
    if any(hierarchy.options for hierarchy in hierarchies):
        mount("tmpfs", str(CGROUP_ROOT), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755")
    for hierarchy in hierarchies:
        if hierarchy.options:
            mount_v1(hierarchy)
        elif hierarchy.point == CGROUP_ROOT:
            mount("cgroup2", str(CGROUP_ROOT), "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC)
            hand_out_controllers()


def mount_v1(hierarchy: Hierarchy) -> None:
    hierarchy.point.mkdir(parents=True)
    named = hierarchy.options.startswith("name=")
    options = f"none,{hierarchy.options}" if named else hierarchy.options
    mount("cgroup", str(hierarchy.point), "cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)
    names = hierarchy.options.split(",")
    for name in names if len(names) > 1 else ():  # cpu -> cpu,cpuacct, as everywhere
        with contextlib.suppress(FileExistsError):
            (CGROUP_ROOT / name).symlink_to(hierarchy.point.name)


def hand_out_controllers() -> None:
    """Let groups below the host's have controllers: a v2 group that holds processes itself may not."""
    (CGROUP_ROOT / "init").mkdir()
    (CGROUP_ROOT / "init" / "cgroup.procs").write_text("0")
    for name in (CGROUP_ROOT / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):
            (CGROUP_ROOT / "cgroup.subtree_control").write_text(f"+{name}")
