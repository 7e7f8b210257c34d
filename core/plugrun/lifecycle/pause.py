"""A container held still for a moment, so that what is read or copied of it is of one moment.

By its control group, without its runtime, which would take as long to start as the whole copy. A process that is
killed meanwhile leaves a mark, by which the next command that changes something lets the container go on.

Sources: kernel documentation, cgroup-v1/freezer-subsystem.rst and cgroup-v2.rst, "cgroup.freeze".
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from plugrun.errors import Unavailable
from plugrun.lifecycle.state import is_running

if TYPE_CHECKING:
    from pathlib import Path

    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine

_SECONDS = 10.0
_CGROUP = "/sys/fs/cgroup"


class Pause:
    """How long a container stood still.

    :ivar seconds: 0 for one that did not run.
    """

    seconds = 0.0


@contextlib.contextmanager
def paused(engine: Engine, record: ContainerRecord) -> Iterator[Pause]:
    """Keep a container's processes from running for the length of a block; one that does not run is fine.

    :pre: the caller holds the container's lock.
    :raises Unavailable: the kernel could not stop them in ten seconds; they go on.
    """
    pause = Pause()
    if not is_running(record):
        yield pause
        return
    mark = mark_of(engine, record)
    mark.touch(mode=0o600)
    began = time.monotonic()
    try:
        _freeze(record)
        yield pause
    finally:
        thaw(record)
        pause.seconds = time.monotonic() - began
        mark.unlink(missing_ok=True)


def mark_of(engine: Engine, record: ContainerRecord) -> Path:
    """Return the file that is there while a container is held."""
    return engine.paths.run(record.id) / "paused"


def let_go(engine: Engine, record: ContainerRecord) -> None:
    """Let a running container go on that a killed process has held. The caller holds its lock."""
    mark = mark_of(engine, record)
    if mark.exists():
        thaw(record)
        mark.unlink(missing_ok=True)


def thaw(record: ContainerRecord) -> None:
    """Let the processes go on; that they do already, or have ended, is fine."""
    with _unless_ended(record):
        _Freezer(record).write(frozen=False)


@contextlib.contextmanager
def _unless_ended(record: ContainerRecord) -> Iterator[None]:
    """Take it for no failure that there is nothing to hold any more: the container may end at any moment."""
    try:
        yield
    except (OSError, Unavailable):
        if is_running(record):
            raise


def _freeze(record: ContainerRecord) -> None:
    with _unless_ended(record):
        _hold(record)


def _hold(record: ContainerRecord) -> None:
    freezer = _Freezer(record)
    freezer.write(frozen=True)
    deadline, pause = time.monotonic() + _SECONDS, 0.0002
    while not freezer.is_frozen():
        if time.monotonic() > deadline:
            raise Unavailable(f"container {record.name} could not be paused in {_SECONDS:.0f} seconds")
        time.sleep(pause)
        pause = min(pause * 2, 0.01)


class _Freezer:
    """The control group of a container, in whichever hierarchy freezes.

    :raises Unavailable: this machine has none.
    """

    def __init__(self, record: ContainerRecord) -> None:
        with open(f"/proc/{record.pid}/cgroup", encoding="utf-8", errors="surrogateescape") as stream:
            lines = [line.rstrip("\n").split(":", 2) for line in stream]
        groups = {name: path for _, names, path in lines for name in names.split(",")}
        self._legacy = "freezer" in groups
        root = f"{_CGROUP}/freezer" if self._legacy else _CGROUP
        self._file = (
            f"{root}{groups.get('freezer', groups.get(''))}/{'freezer.state' if self._legacy else 'cgroup.freeze'}"
        )
        if not os.path.exists(self._file) and os.path.exists(f"/proc/{record.pid}"):
            raise Unavailable(
                f"container {record.name} cannot be paused: this machine has no freezer control group",
                hint="stop it first",
            )

    def write(self, *, frozen: bool) -> None:
        words = ("THAWED", "FROZEN") if self._legacy else ("0", "1")
        with open(self._file, "w", encoding="ascii") as stream:
            stream.write(words[frozen])

    def is_frozen(self) -> bool:
        if self._legacy:
            with open(self._file, encoding="ascii") as stream:
                return stream.read().strip() == "FROZEN"
        with open(f"{os.path.dirname(self._file)}/cgroup.events", encoding="ascii") as stream:
            return "frozen 1" in stream.read().splitlines()
