"""The OCI runtime: which one to use, and its commands (OCI runtime-spec 1.0.2, "Runtime and Lifecycle").

Choosing reads a few files and starts nothing, so it costs microseconds on the way to every container.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from plugrun import programs
from plugrun.errors import (
    DriverError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PlugrunError,
    Unavailable,
)
from plugrun.oci.failures import failure
from plugrun.tuples import NamedTuple

KNOWN = ("crun", "runc")  # in order of preference: crun starts in a third of the time

# Older ones have published escapes: CVE-2026-47766 (crun), CVE-2025-31133 and CVE-2026-41579 (runc).
FLOORS = {"crun": (1, 28), "runc": (1, 3, 6)}

_TIMEOUT = 120.0
_CGROUP = "/sys/fs/cgroup"
_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")


class Runtime(NamedTuple):
    """An OCI runtime on this machine.

    :param path: absolute.
    """

    name: str
    path: str

    def argv(self, state_root: str) -> list[str]:
        """Return the start of a command line: the program and where it keeps its state."""
        return [self.path, "--root", state_root]


class RuntimeState(NamedTuple):
    """What a runtime says about one container.

    :param status: ``creating``, ``created``, ``running``, ``stopped``, or a runtime's own word such as ``paused``.
    :param pid: first process, 0 when there is none.
    """

    status: str
    pid: int


class Surveyed(NamedTuple):
    """A known runtime as this machine has it.

    :param path: ``None`` when it is not installed.
    :param reason: why it cannot be used, in one sentence; ``None`` when it can.
    :param version: ``"unknown"`` when it does not say.
    """

    name: str
    path: str | None
    reason: str | None
    version: str


def survey() -> list[Surveyed]:
    """Look at every runtime of :data:`KNOWN`. Starts those that are installed, so only for reports."""
    paths = {name: programs.find(name) for name in KNOWN}
    return [Surveyed(name, path, usable(name), version(path) if path else "unknown") for name, path in paths.items()]


def usable(name: str) -> str | None:
    """Say why a runtime cannot be used here, in one sentence; ``None`` when it can."""
    if programs.find(name) is None:
        return f"{name} is not installed"
    return _refusal(name)


def advice(found: Surveyed) -> str | None:
    """Warn of a runtime older than the first one without known escapes (:data:`FLOORS`); ``None`` when it is not."""
    floor = FLOORS.get(found.name)
    numbers = re.match(r"\d+(\.\d+)*", found.version)
    if floor is None or numbers is None or tuple(map(int, numbers[0].split("."))) >= floor:
        return None
    wanted = ".".join(map(str, floor))
    return f"{found.name} {found.version} has published security holes; {wanted} or later is advised"


def choose(wanted: str | None) -> Runtime:
    """Choose the runtime: the wanted one, else the first of :data:`KNOWN` that works here.

    :param wanted: a name, or an absolute path.
    :raises InvalidArgument: a relative path.
    :raises NotFound: no such program.
    :raises FailedPrecondition: the wanted one is installed but does not work on this host.
    :raises Unavailable: none was wanted and none works.
    """
    if wanted is None:
        return _first_usable()
    if "/" in wanted and not wanted.startswith("/"):
        raise InvalidArgument(f"runtime {wanted!r} is a relative path", hint="give a name or an absolute path")
    path = wanted if "/" in wanted else programs.find(wanted)
    if path is None or not programs.is_executable(path):
        raise NotFound(f"no OCI runtime {wanted!r} on this machine", hint=_installed())
    name = os.path.basename(path)
    if reason := _refusal(name):
        raise FailedPrecondition(f"runtime {wanted!r} does not work here: {reason}", hint=_installed())
    return Runtime(name, path)


def _first_usable() -> Runtime:
    reasons = []
    for name in KNOWN:
        path, reason = programs.find(name), usable(name)
        if path is not None and reason is None:
            return Runtime(name, path)
        reasons.append(str(reason))
    raise Unavailable(f"no usable OCI runtime: {'; '.join(reasons)}", hint="apt-get install crun runc")


def _installed() -> str:
    found = [(name, _refusal(name)) for name in KNOWN if programs.find(name)]
    words = [f"{name} (not usable: {reason})" if reason else name for name, reason in found]
    return f"installed: {', '.join(words)}" if words else "none is installed: apt-get install crun runc"


def _refusal(name: str) -> str | None:
    if name == "crun" and _hybrid_cgroups():
        return f"{_CGROUP}/unified has controllers beside cgroup v1, and crun refuses such a hybrid host; use runc"
    return None


def _hybrid_cgroups() -> bool:
    """Whether controllers are spread over cgroup v1 and v2; systemd's own "hybrid" has none in v2 and is fine."""
    if os.path.exists(f"{_CGROUP}/cgroup.controllers"):
        return False
    try:
        with open(f"{_CGROUP}/unified/cgroup.controllers", encoding="ascii") as stream:
            return bool(stream.read().strip())
    except OSError:
        return False


def version(path: str) -> str:
    """Ask a program for its version; ``"unknown"`` when it does not say. Starts it, so only for reports."""
    try:
        output = programs.run([path, "--version"], timeout=10).stdout
    except PlugrunError:
        return "unknown"
    match = re.search(r"version\s+v?(\S+)", output)
    return match[1] if match else "unknown"


class RuntimeClient(NamedTuple):
    """The commands of one runtime on the containers below one state root.

    :param state_root: the runtime's ``--root``.
    """

    runtime: Runtime
    state_root: str

    def state(self, container_id: str) -> RuntimeState | None:
        """Ask for a container's state; ``None`` when the runtime does not know it.

        :raises DriverError: the runtime failed.
        """
        if not self._known(container_id):
            return None
        done = self._run("state", container_id)
        if done.code != 0:
            if not self._known(container_id):  # deleted meanwhile
                return None
            raise failure(done.stderr, f"{self.runtime.name} cannot tell the state of container {container_id[:12]}")
        try:
            answer = json.loads(done.stdout)
            return RuntimeState(str(answer["status"]), int(answer.get("pid", 0)))
        except (ValueError, KeyError, TypeError) as error:
            raise DriverError(f"{self.runtime.name} state of {container_id[:12]} makes no sense: {error}") from error

    def start(self, container_id: str) -> None:
        """Let a created container's process run.

        :raises CommandNotFound: the command does not exist.
        :raises CommandNotExecutable: the command cannot be executed.
        :raises DriverError: the runtime failed otherwise.
        """
        done = self._run("start", container_id)
        if done.code != 0:
            raise failure(done.stderr, f"{self.runtime.name} cannot start container {container_id[:12]}")

    def kill(self, container_id: str, signal: int, *, all: bool = False) -> None:  # noqa: A002
        """Send a signal to the container's first process, or to all of its processes.

        :raises FailedPrecondition: it is not running.
        :raises DriverError: the runtime failed otherwise.
        """
        done = self._run("kill", *(("--all",) if all else ()), container_id, str(int(signal)))
        if done.code == 0:
            return
        state = self.state(container_id)
        if state is None or state.status == "stopped":
            raise FailedPrecondition(f"container {container_id[:12]} is not running")
        raise failure(done.stderr, f"{self.runtime.name} cannot signal container {container_id[:12]}")

    def delete(self, container_id: str, *, force: bool = False) -> None:
        """Make the runtime forget a container, with its cgroup; one it does not know is fine.

        :param force: kill it first when it runs.
        :raises DriverError: the runtime failed, e.g. because the container runs.
        """
        if not self._known(container_id):
            return
        done = self._run("delete", *(("--force",) if force else ()), container_id)
        if done.code != 0 and self._known(container_id):
            raise failure(done.stderr, f"{self.runtime.name} cannot delete container {container_id[:12]}")

    def _known(self, container_id: str) -> bool:
        """Whether the runtime has a state directory for it: crun, runc and runsc name it by the id."""
        if not _ID.match(container_id):
            raise InvalidArgument(f"{container_id!r} is not a container id")
        return Path(self.state_root, container_id).is_dir()

    def _run(self, command: str, *arguments: str) -> programs.Completed:
        return programs.run([*self.runtime.argv(self.state_root), command, *arguments], timeout=_TIMEOUT)
