"""A container held still for a moment, so that what is read or copied of it is of one moment.

By its control group, without its runtime, which would take as long to start as the whole copy. A process that is
killed meanwhile leaves a mark, by which the next command that changes something lets the container go on.

Sources: kernel documentation, cgroup-v1/freezer-subsystem.rst and cgroup-v2.rst, "cgroup.freeze".
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from plugrun.errors import Unavailable
from plugrun.lifecycle.state import is_running
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine

_SECONDS = 10.0
_CGROUP = "/sys/fs/cgroup"
_LEGACY_FILE = "freezer.state"  # of cgroup v1


class Pause:
    """How long a container stood still.

    :ivar seconds: 0 for one that did not run.
    """

    seconds = 0.0


@contextlib.contextmanager
def paused(engine: Engine, record: ContainerRecord) -> Iterator[Pause]:
    """Keep a container's processes from running for the length of a block; one that does not run is fine.

    :pre: the caller holds the container's lock.
    :raises Unavailable: the kernel could not stop them in ten seconds, and they go on; or this machine cannot do it.
    """
    pause = Pause()
    freezer = _freezer(record) if is_running(record) else None
    if freezer is None:
        yield pause
        return
    mark = mark_of(engine, record)
    mark.write_text(freezer.file)
    began = time.monotonic()
    try:
        freezer.freeze(f"container {record.name}")
        yield pause
    finally:
        freezer.write(frozen=False)
        pause.seconds = time.monotonic() - began
        mark.unlink(missing_ok=True)


def mark_of(engine: Engine, record: ContainerRecord) -> Path:
    """Return the file that is there while a container is held, and says by what."""
    return engine.paths.run(record.id) / "paused"


def let_go(engine: Engine, record: ContainerRecord) -> None:
    """Let a container go on that a killed process has held. The caller holds its lock.

    Also one that has ended meanwhile: until then what is left of it cannot even be killed (cgroup v1).
    """
    mark = mark_of(engine, record)
    try:
        held_by = mark.read_text()
    except FileNotFoundError:
        return
    if held_by:  # else it was killed before it held anything
        Freezer(held_by).write(frozen=False)
    mark.unlink(missing_ok=True)


class Freezer(NamedTuple):
    """What stops all processes of a control group.

    :param file: the group's file to write to, in whichever hierarchy freezes. When it is gone, so are the processes.
    """

    file: str

    @property
    def _legacy(self) -> bool:
        return self.file.endswith(_LEGACY_FILE)

    def freeze(self, what: str) -> None:
        """Stop them.

        :raises Unavailable: that takes longer than ten seconds.
        """
        self.write(frozen=True)
        deadline, pause = time.monotonic() + _SECONDS, 0.0002
        while not self.is_frozen():
            if time.monotonic() > deadline:
                raise Unavailable(f"{what} could not be paused in {_SECONDS:.0f} seconds")
            time.sleep(pause)
            pause = min(pause * 2, 0.01)

    def write(self, *, frozen: bool) -> None:
        """Have them stopped, or go on."""
        words = ("THAWED", "FROZEN") if self._legacy else ("0", "1")
        with _unless_gone(), open(self.file, "w", encoding="ascii") as stream:
            stream.write(words[frozen])

    def is_frozen(self) -> bool:
        """Whether nothing in the group can run."""
        file = self.file if self._legacy else f"{os.path.dirname(self.file)}/cgroup.events"
        with _unless_gone(), open(file, encoding="ascii") as stream:
            lines = stream.read().splitlines()
            return "FROZEN" in lines or "frozen 1" in lines
        return True


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """Pass over that the group has been removed, before its file was opened or since."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENODEV}:
            raise


def _freezer(record: ContainerRecord) -> Freezer | None:
    """Return what stops a running container; ``None`` if it has just ended.

    :raises Unavailable: there is nothing that stops it and nobody else.
    """
    try:
        groups, ours = _groups(f"{record.pid}"), _groups("self")
    except (FileNotFoundError, ProcessLookupError):
        return None
    if not is_running(record):
        # What was read may be wrong: a zombie is shown in the root group (cgroup-v1), and freezing that would stop us.
        return None
    name = "freezer" if "freezer" in groups else ""
    file = f"{_CGROUP}/freezer{groups[name]}/{_LEGACY_FILE}" if name else f"{_CGROUP}{groups.get(name)}/cgroup.freeze"
    shared = f"{ours.get(name)}/".startswith(f"{groups.get(name, '').rstrip('/')}/")
    if shared or not os.path.exists(file):
        reason = (
            "it shares the control group of this command" if shared else "this machine has no freezer control group"
        )
        raise Unavailable(f"container {record.name} cannot be paused: {reason}", hint="stop it first")
    return Freezer(file)


def _groups(process: str) -> dict[str, str]:
    """Return the control groups of a process by controller, that of cgroup v2 as ``""``: proc_pid_cgroup(5)."""
    with open(f"/proc/{process}/cgroup", encoding="utf-8", errors="surrogateescape") as stream:
        lines = [line.rstrip("\n").split(":", 2) for line in stream]
    return {name: path for _, names, path in lines for name in names.split(",")}
