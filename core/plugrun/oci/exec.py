"""Exec: another process in a running container, under a monitor of its own.

A second conmon runs ``runtime exec --process FILE`` and gives it pipes or a terminal, never the caller's own: a process
in a container that holds a host terminal can type into it (TIOCSTI), and one that holds a host file can open it anew
through ``/proc/self/fd``. The session outlives the caller, so one can detach from it, and cleans up after itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugrun import programs, terminal
from plugrun.errors import CommandNotExecutable, CommandNotFound, DriverError, FailedPrecondition, PlugrunError
from plugrun.oci import conmon, monitor
from plugrun.oci.failures import failure
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    import socket

    from plugrun.oci.runtime import Runtime

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_REPORT_TIMEOUT = 10.0  # seconds from the end of the output to the exit code
_BROKEN = 128 + signal.SIGPIPE


class ExecUser(NamedTuple):
    """Who the process runs as, by number: a runtime's own look-up trusts the image (CVE-2026-30892)."""

    uid: int
    gid: int
    additional_gids: tuple[int, ...] = ()


class ExecRequest(NamedTuple):
    """One process to start in a running container.

    :param bundle: the container's OCI bundle: the process gets what ``process`` of its ``config.json`` says, but for
        what is given here.
    :param run_dir: where the session's directory is made.
    :param env: ``NAME=value`` strings over the container's; with another user this should say ``HOME``.
    :param cwd: ``None`` for the container's, as with ``user``.
    :param stdin_open: the caller's standard input goes to the process.
    """

    container_id: str
    bundle: Path
    run_dir: Path
    runtime: Runtime
    runtime_root: str
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str | None = None
    user: ExecUser | None = None
    tty: bool = False
    stdin_open: bool = False


def exec_foreground(request: ExecRequest, *, detach_keys: bytes = b"") -> int:
    """Run a process with our standard streams on its own, and wait for its end.

    Signals to us go to the process, unless it has a terminal, whose keys do that.

    :param detach_keys: see :func:`plugrun.oci.keys.parse`; they count only with a terminal.
    :return: its exit code, 128 + N after signal N; 0 if the user detached; 141 if our standard output broke.
    :raises CommandNotFound: the command does not exist in the container.
    :raises CommandNotExecutable: it cannot be executed.
    :raises FailedPrecondition: the container is not running.
    :raises DriverError: conmon or the runtime failed, or what the process left behind goes on writing.
    """
    with _session(request) as session, contextlib.ExitStack() as stack:
        pid, sock = session.start_attached(stack)
        code = _follow(request, session, sock, pid, detach_keys)
        if code == _BROKEN:
            _abandon(session.directory)
        return code


def _follow(request: ExecRequest, session: _Session, sock: socket.socket, pid: int, detach_keys: bytes) -> int:
    from plugrun.oci.attach import Outcome, attach

    with contextlib.ExitStack() as stack:
        process = None
        with contextlib.suppress(ProcessLookupError):  # it may have ended by now
            process = os.pidfd_open(pid)
            stack.callback(os.close, process)

        def forward(number: int) -> None:
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, number)

        if request.tty and request.stdin_open:
            stack.enter_context(terminal.raw(_STDIN))
        outcome = attach(
            sock,
            stdin=_STDIN if request.stdin_open else None,
            stdout=_STDOUT,
            stderr=_STDERR,
            tty=request.tty,
            detach_keys=detach_keys,
            ended=session.sync.read_end,  # readable with the exit code, which conmon sends after the last output
            forward_signal=None if request.tty else forward,
            on_resize=(lambda rows, columns: monitor.resize(session.directory, rows, columns)) if request.tty else None,
            process=process,
        )
    if outcome is Outcome.EXITED:
        return session.exit_code()
    return 0 if outcome is Outcome.DETACHED else _BROKEN


def exec_detached(request: ExecRequest) -> int:
    """Start a process and leave it; nobody reads its output.

    :return: its process id on the host. Raises as :func:`exec_foreground`, but with a terminal a missing command may go
        unnoticed under crun.
    """
    with _session(request) as session:
        return session.start()


def process_spec(config: Mapping[str, Any], request: ExecRequest) -> dict[str, Any]:
    """Return the ``process`` object (OCI runtime-spec 1.0.2, "Process") of a session.

    :param config: the container's ``config.json``: what it forbids, the session is forbidden too.
    """
    process = dict(config["process"])
    process.pop("consoleSize", None)
    process["args"] = list(request.args)
    process["terminal"] = request.tty
    names = {variable.partition("=")[0] for variable in request.env}
    kept = [variable for variable in process.get("env", ()) if variable.partition("=")[0] not in names]
    process["env"] = [*kept, *request.env]
    if request.tty and not any(variable.startswith("TERM=") for variable in process["env"]):
        process["env"].append("TERM=xterm")
    if request.tty and (size := terminal.size(_STDOUT)):
        process["consoleSize"] = {"height": size[0], "width": size[1]}
    if request.cwd is not None:
        process["cwd"] = request.cwd
    if request.user is not None:
        _become(process, request.user)
    return process


def _become(process: dict[str, Any], user: ExecUser) -> None:
    """Change the user, and with it the capabilities: root has those of the bounding set, others have none."""
    before = process.get("user", {}).get("uid", 0)
    process["user"] = {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.additional_gids)}
    if user.uid != before and "capabilities" in process:
        bounding = process["capabilities"].get("bounding", [])
        held = list(bounding) if user.uid == 0 else []
        process["capabilities"] = {"bounding": list(bounding), "effective": held, "permitted": list(held)}


@contextlib.contextmanager
def _session(request: ExecRequest) -> Iterator[_Session]:
    """Make a session; on an error remove it, else its monitor does so at the end."""
    config = _config(request)
    directory = request.run_dir / "exec" / os.urandom(8).hex()
    directory.mkdir(mode=0o700, parents=True)
    try:
        with open(os.open(directory / "process.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump(process_spec(config, request), stream)
        with conmon.Console(directory, tty=request.tty) as console, contextlib.closing(conmon.SyncPipe()) as sync:
            yield _Session(request, directory, console, sync)
    except BaseException:
        _abandon(directory)
        raise


def _abandon(directory: Path) -> None:
    """Kill a session's monitor, which breaks the pipes of whoever still writes, and do its clean-up."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        conmon.end(int((directory / "conmon.pid").read_text()), patience=0)
    with contextlib.suppress(FileNotFoundError):  # its exit command may be at it too
        for name in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(directory / name)
        os.rmdir(directory)


def _config(request: ExecRequest) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((request.bundle / "config.json").read_bytes())
    except FileNotFoundError as error:
        raise FailedPrecondition(f"container {request.container_id[:12]} is not running") from error
    return config


class _Session:
    """A monitor for one process, and the directory it works in until its end."""

    def __init__(self, request: ExecRequest, directory: Path, console: conmon.Console, sync: conmon.SyncPipe) -> None:
        self.sync = sync
        self.directory = directory
        self._request = request
        self._console = console

    def start(self) -> int:
        """Start the process; return its id."""
        self._launch(env={}, pass_fds=())
        return self._started()

    def start_attached(self, stack: contextlib.ExitStack) -> tuple[int, socket.socket]:
        """Start the process once we are connected, so that no output is missed; return its id and the socket.

        :param stack: closes the socket.
        """
        ready = conmon.SyncPipe()
        start_read, start_write = os.pipe2(os.O_CLOEXEC)
        try:
            os.write(start_write, b"\n")  # the first read of conmon; its second one ends when we close
            env = {"_OCI_ATTACHPIPE": str(ready.write_end), "_OCI_STARTPIPE": str(start_read)}
            fds = (ready.write_end, start_read)
            self._launch("--exec-attach", env=env, pass_fds=fds)
            ready.close_write_end()
            if ready.receive(conmon.CREATE_TIMEOUT)[0] == 0:
                sock = stack.enter_context(monitor.connect(self.directory))
            os.close(start_write)
            start_write = -1
            return self._started(), sock
        finally:
            ready.close()
            os.close(start_read)
            if start_write >= 0:
                os.close(start_write)

    def exit_code(self) -> int:
        """Wait for conmon's report of the end.

        crun may take a process with a terminal for started and only then find that it cannot be; its log tells.
        """
        answer, message = self.sync.receive(_REPORT_TIMEOUT)
        if answer < 0:
            raise DriverError(f"the exit code is unknown: {message}")
        error = self._failure("")
        if answer != 0 and isinstance(error, (CommandNotFound, CommandNotExecutable)):
            raise error
        return answer

    def _launch(self, *options: str, env: Mapping[str, str], pass_fds: Sequence[int]) -> None:
        program = programs.require("conmon", package="conmon")
        argv = [program, *self._arguments(), *options, *self._console.arguments]
        env = {**env, **self._console.env}
        conmon.launch(argv, self.sync, cwd=str(self.directory), env=env, pass_fds=pass_fds)

    def _arguments(self) -> list[str]:
        request = self._request
        arguments = conmon.common_arguments(
            container_id=request.container_id,
            session=self.directory.name,
            runtime=request.runtime,
            runtime_root=request.runtime_root,
            run_dir=self.directory,
        )
        arguments += ["--exec", "--exec-process-spec", f"{self.directory}/process.json"]
        arguments += ["--bundle", str(self.directory), "--log-path", "none"]
        if request.stdin_open and not request.tty:
            arguments.append("--stdin")
        remove = programs.require("rm", package="coreutils")
        return arguments + conmon.exit_arguments((remove, "-rf", "--", str(self.directory)))

    def _started(self) -> int:
        """Wait until the process runs; return its id."""
        answer, message = self.sync.receive(conmon.CREATE_TIMEOUT)
        if answer <= 0:
            raise self._failure(message)
        return answer

    def _failure(self, message: str) -> PlugrunError:
        request = self._request
        what = f"cannot execute {request.args[0]!r} in container {request.container_id[:12]}"
        return failure(self._console.complaint(message), what, command=request.args[0])
