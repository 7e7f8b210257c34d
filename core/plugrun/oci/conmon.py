"""Starting conmon and hearing from it: what a container's monitor and an exec session have in common.

conmon's interface (conmon(8), source 2.1.6 and later): it forks into the background, runs the runtime, answers on the
*sync pipe* with one JSON line, and listens on the socket ``attach`` and the fifo ``ctl`` in its bundle.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from plugrun import programs
from plugrun.errors import DriverError
from plugrun.oci.failures import clean

if TYPE_CHECKING:
    from plugrun.oci.runtime import Runtime

CREATE_TIMEOUT = 240.0  # seconds; a loaded machine is slow, a hanging runtime is for ever
_KILL_TIMEOUT = 10.0
_MESSAGE_LIMIT = 65536


class SyncPipe:
    """The pipe on which conmon reports: JSON lines, preceded by plain text if it fails before it can make any."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        self._pending = b""

    def close_write_end(self) -> None:
        """Let the pipe end when conmon ends."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def close(self) -> None:
        """Close both ends."""
        self.close_write_end()
        os.close(self.read_end)

    def receive(self, timeout: float) -> tuple[int, str]:
        """Wait for one report.

        :param timeout: seconds.
        :return: number (a process id, an exit code; ≤ 0 is a failure) and message; -1 and the plain text when conmon
            ended without a report.
        :raises DriverError: none came in time.
        """
        deadline = time.monotonic() + timeout
        text: list[str] = []
        while (line := self._line(deadline)) is not None:
            if (report := _decode(line)) is not None:
                return report
            text.append(line.decode("utf-8", "replace"))
        return -1, clean("\n".join(text)) or "the monitor ended without a word"

    def _line(self, deadline: float) -> bytes | None:
        """Return the next line, or what is left at the end, or ``None`` after it."""
        poll = select.poll()
        poll.register(self.read_end, select.POLLIN)
        while b"\n" not in self._pending and len(self._pending) < _MESSAGE_LIMIT:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise DriverError("the container monitor did not answer in time")
            chunk = os.read(self.read_end, _MESSAGE_LIMIT)
            if not chunk:
                rest, self._pending = self._pending, b""
                return rest or None
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line


def _decode(line: bytes) -> tuple[int, str] | None:
    try:
        # conmon copies a runtime's bytes into the JSON as they are, also those that are no UTF-8
        report: Any = json.loads(line.decode("utf-8", "replace"), strict=False)
        return int(report["data"]), str(report.get("message", ""))
    except (ValueError, KeyError, TypeError):
        return None


def launch(
    argv: Sequence[str], sync: SyncPipe, *, cwd: str, env: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> None:
    """Start conmon and wait until it is in the background.

    Its working directory matters: it marks an OOM kill by a file ``oom`` there.
    """
    # standard error too: what conmon says before it can report goes the same way, later it is /dev/null
    environment = {"_OCI_SYNCPIPE": str(sync.write_end), **env}
    kept = (sync.write_end, *pass_fds)
    pid = programs.spawn(argv, stderr=sync.write_end, pass_fds=kept, cwd=cwd, env=environment)
    sync.close_write_end()
    os.waitpid(pid, 0)


class Console:
    """What conmon needs while it makes a terminal, as a context that lasts at least until the process is created.

    *A place for the console socket*: else it goes to ``/tmp``, which everybody can write. conmon cuts the path at 107
    bytes and hands it on to the runtime, so it leads through a descriptor of ours, which both can follow.

    *A log for the runtime*: crun's last words would go to the terminal it has just made, where nobody listens yet.
    It is open from the start, because on failure conmon's exit command may remove its directory before we read.
    """

    def __init__(self, directory: Path, *, tty: bool) -> None:
        self.env: dict[str, str] = {}
        self.arguments: list[str] = []
        self._directory = directory
        self._tty = tty
        self._stack = contextlib.ExitStack()
        self._log: BinaryIO | None = None

    def __enter__(self) -> Self:
        if self._tty:
            descriptor = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._stack.callback(os.close, descriptor)
            self.env["TMPDIR"] = f"/proc/{os.getpid()}/fd/{descriptor}"
            path = f"{self._directory}/runtime.log"
            self._log = self._stack.enter_context(open(path, "x+b"))
            self.arguments += ["--terminal", "--runtime-arg", "--log", "--runtime-arg", path]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def complaint(self, message: str) -> str:
        """Add what the runtime wrote into its log to what conmon reported."""
        logged = os.pread(self._log.fileno(), _MESSAGE_LIMIT, 0) if self._log else b""
        return f"{message}\n{logged.decode('utf-8', 'replace')}"


def common_arguments(
    *, container_id: str, session: str, runtime: Runtime, runtime_root: str, run_dir: Path
) -> list[str]:
    """Return conmon's options that a container and an exec session have in common."""
    return [
        *("--api-version", "1", "--cid", container_id, "--cuuid", session, "--full-attach"),
        *("--runtime", runtime.path, "--runtime-arg", "--root", "--runtime-arg", runtime_root),
        *("--container-pidfile", f"{run_dir}/pidfile", "--conmon-pidfile", f"{run_dir}/conmon.pid"),
    ]


def exit_arguments(command: Sequence[str]) -> list[str]:
    """Return conmon's options for the command it runs at the end."""
    if not command:
        return []
    return ["--exit-command", command[0], *(f"--exit-command-arg={argument}" for argument in command[1:])]


def end(monitor_pid: int, *, patience: float) -> None:
    """Wait for a conmon that is about to end; kill it, with the runtime it waits for, if it does not.

    :param patience: seconds.
    """
    try:
        descriptor = os.pidfd_open(monitor_pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(patience * 1000):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            poll.poll(_KILL_TIMEOUT * 1000)
    finally:
        os.close(descriptor)
