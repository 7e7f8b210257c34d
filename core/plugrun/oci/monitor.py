"""The monitor: one conmon per container, which keeps its log, terminal and exit status while no plugrun runs.

When the container has ended, conmon writes the exit file, runs the exit command, and goes.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from plugrun import programs
from plugrun.errors import DriverError, FailedPrecondition, Unavailable
from plugrun.oci import conmon
from plugrun.oci.failures import failure
from plugrun.oci.runtime import Runtime, RuntimeClient
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_END_TIMEOUT = 10.0  # seconds
_MAX_SIZE = 1000  # conmon refuses larger terminals


class MonitorRequest(NamedTuple):
    """One container to create under a monitor.

    :param bundle: the OCI bundle; the attach socket and the control fifo go there too.
    :param runtime_root: the runtime's state directory.
    :param run_dir: for pid files, the exit file and the OOM mark; may be the bundle. Only root may enter it.
    :param log_path: made 0600 if absent, else appended to; without ``:``, which conmon splits at.
    :param stdin_open: the container has a standard input that attached clients feed.
    :param stdin_once: that input ends when the first client that fed it ends or leaves; otherwise never.
    :param exit_command: what the monitor runs after the end, and after a failed create; absolute program path first.
    """

    container_id: str
    name: str
    bundle: Path
    runtime: Runtime
    runtime_root: str
    run_dir: Path
    log_path: Path
    tty: bool
    stdin_open: bool
    stdin_once: bool = True
    exit_command: tuple[str, ...] = ()


class MonitorHandle(NamedTuple):
    """A created container.

    :param monitor_pid: conmon.
    :param pid: the container's first process, waiting for ``start``.
    """

    monitor_pid: int
    pid: int


def create(request: MonitorRequest, *, meanwhile: Callable[[], None] | None = None) -> MonitorHandle:
    """Start a monitor and let it create the container, which then waits for :meth:`RuntimeClient.start`.

    :param meanwhile: called once while they work.
    :raises CommandNotFound: the container's command does not exist.
    :raises CommandNotExecutable: it cannot be executed.
    :raises Unavailable: conmon is not installed.
    :raises DriverError: conmon or the runtime failed. After any of these nothing is left but the log file.
    """
    program = programs.require("conmon", package="conmon")
    _forget(request)
    _make_log(request.log_path)
    sync = conmon.SyncPipe()
    answer = 0
    try:
        with conmon.Console(request.run_dir, tty=request.tty) as console:
            argv = [program, *_arguments(request), *console.arguments]
            conmon.launch(argv, sync, cwd=str(request.run_dir), env=console.env)
            if meanwhile is not None:
                meanwhile()
            answer, message = sync.receive(conmon.CREATE_TIMEOUT)
            monitor_pid = _started(request, answer, console.complaint(message))
    except BaseException:
        _undo(request, reported=answer < 0)
        raise
    finally:
        sync.close()
    return MonitorHandle(monitor_pid, answer)


def _started(request: MonitorRequest, answer: int, message: str) -> int:
    if answer <= 0:
        what = f"{request.runtime.name} cannot create container {request.container_id[:12]}"
        raise failure(message, what, command=_command(request.bundle))
    return int((request.run_dir / "conmon.pid").read_text())


def _command(bundle: Path) -> str | None:
    import json

    try:
        return str(json.loads((bundle / "config.json").read_bytes())["process"]["args"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None  # then this is what the runtime complained about


def exit_code(run_dir: Path, container_id: str) -> int | None:
    """Return the container's exit code, 128 + N after signal N; ``None`` while there is none.

    conmon writes it by rename, so it is never seen in part.
    """
    try:
        return int((run_dir / container_id).read_text())
    except (FileNotFoundError, ValueError):
        return None


def oom_killed(run_dir: Path) -> bool:
    """Whether the kernel killed one of the container's processes because its memory was used up."""
    return (run_dir / "oom").exists()


def connect(bundle: Path) -> socket.socket:
    """Connect to the attach socket: output from now on arrives there, and what is sent is the container's input.

    :raises FailedPrecondition: nobody listens, because the container has ended.
    """
    import socket

    # The name of a unix socket is at most 107 bytes long; a descriptor stands for however long a path.
    directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        client.connect(f"/proc/self/fd/{directory}/attach")
    except (FileNotFoundError, ConnectionRefusedError) as error:
        client.close()
        raise FailedPrecondition("the container is not running: nobody listens on its attach socket") from error
    except BaseException:
        client.close()
        raise
    finally:
        os.close(directory)
    return client


def resize(bundle: Path, rows: int, columns: int) -> None:
    """Tell the container's terminal its size in characters; nothing happens when the container has ended."""
    try:
        fifo = os.open(bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, OSError):  # OSError: ENXIO, nobody reads
        return
    try:
        os.write(fifo, b"1 %d %d\n" % (min(rows, _MAX_SIZE), min(columns, _MAX_SIZE)))
    except (BlockingIOError, BrokenPipeError):
        pass  # a monitor that busy or gone does not miss one resize
    finally:
        os.close(fifo)


def _arguments(request: MonitorRequest) -> list[str]:
    arguments = conmon.common_arguments(
        container_id=request.container_id,
        session=request.container_id,
        runtime=request.runtime,
        runtime_root=request.runtime_root,
        run_dir=request.run_dir,
    )
    arguments += ["--name", request.name, "--bundle", str(request.bundle), "--exit-dir", str(request.run_dir)]
    # the log survives a crash of anything but the machine without fsync(2), and Docker does not sync it either
    arguments += ["--log-path", f"k8s-file:{request.log_path}", "--no-sync-log"]
    if request.stdin_open and not request.tty:  # a terminal is its own input, which a leaving client does not end
        arguments += ["--stdin"] if request.stdin_once else ["--stdin", "--leave-stdin-open"]
    return arguments + conmon.exit_arguments(request.exit_command)


def _make_log(path: Path) -> None:
    """Make the log before conmon would, so that its mode and kind are ours to choose.

    :raises Unavailable: it cannot be made, or something that is no file is there.
    """
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise Unavailable(f"cannot open container log {path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unavailable(f"container log {path} is not a regular file")
    finally:
        os.close(descriptor)


_RUN_FILES = ("conmon.pid", "pidfile", "oom", "runtime.log")
_BUNDLE_FILES = ("attach", "ctl", "winsz")


def _forget(request: MonitorRequest) -> None:
    """Remove what an earlier run of the same container left, above all its exit code."""
    paths = [request.run_dir / name for name in (request.container_id, *_RUN_FILES)]
    paths += [request.bundle / name for name in _BUNDLE_FILES]
    for path in (*paths, *request.run_dir.glob("conmon-term.*")):  # a console socket nobody connected to
        path.unlink(missing_ok=True)


def _undo(request: MonitorRequest, *, reported: bool) -> None:
    """Remove a container that was created in part, and its monitor: one that has reported failure ends by itself."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        conmon.end(int((request.run_dir / "conmon.pid").read_text()), patience=_END_TIMEOUT if reported else 0)
    with contextlib.suppress(DriverError):  # the first error is the one to tell
        RuntimeClient(request.runtime, request.runtime_root).delete(request.container_id, force=True)
    _forget(request)
