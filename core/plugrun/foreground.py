"""A container in the foreground: its streams on ours, our signals to it, its exit code as the result."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

from plugrun import processes, terminal
from plugrun.errors import FailedPrecondition, PlugrunError
from plugrun.lifecycle.end import kill, stop, wait
from plugrun.lifecycle.start import start
from plugrun.lifecycle.watch import watching
from plugrun.oci import keys, monitor
from plugrun.tuples import NamedTuple
from plugrun.validate import signal_number

if TYPE_CHECKING:
    import socket

    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_SIGNALLED = 128  # plus the signal's number: what shells report


class Streams(NamedTuple):
    """How the caller's streams meet the container's.

    :param stdin: whether the caller's standard input goes to the container.
    :param detach_keys: what the user types to leave, in Docker's notation.
    :param forward_signals: whether signals to this process go to the container's first process instead.
    """

    stdin: bool
    detach_keys: str = keys.DEFAULT
    forward_signals: bool = True


def run_attached(engine: Engine, record: ContainerRecord, streams: Streams) -> int:
    """Start a container with its streams on ours and wait for its end.

    :return: its exit code; 0 if the user detached, and then it goes on without us.
    :raises FailedPrecondition: it runs already.
    """
    sequence = keys.parse(streams.detach_keys)
    lines: list[_Line] = []
    with watching(engine, record.id), contextlib.ExitStack() as stack:

        def connect(handle: monitor.MonitorHandle) -> None:
            lines.append(stack.enter_context(_line(engine, record, handle.monitor_pid)))

        started = start(engine, record.id, connect=connect, meanwhile=_import_the_rest)
        if not lines:
            raise FailedPrecondition(f"container {record.name} is already running", hint="use plugrun attach")
        return _follow(engine, started, lines[0], streams, sequence)


def _import_the_rest() -> None:
    """Import what is needed from now on, while the runtime is at work for some 20 ms."""
    import shutil  # noqa: F401

    from plugrun.oci import attach  # noqa: F401


def attach_to(engine: Engine, record: ContainerRecord, streams: Streams) -> int:
    """Attach to a running container until it ends or the user detaches; returns as :func:`run_attached`."""
    sequence = keys.parse(streams.detach_keys)
    if record.monitor_pid is None or not processes.alive(record.monitor_pid, record.monitor_start):
        raise FailedPrecondition(f"the monitor of container {record.name} was killed, so nobody can attach to it")
    with _line(engine, record, record.monitor_pid) as line:
        return _follow(engine, record, line, streams, sequence)


class _Line(NamedTuple):
    """A connection to a container's streams, and a pidfd of the monitor at its other end."""

    connection: socket.socket
    monitor: int


@contextlib.contextmanager
def _line(engine: Engine, record: ContainerRecord, monitor_pid: int) -> Iterator[_Line]:
    """Connect while the monitor certainly lives: what it sends before its end can then be read after it."""
    pidfd = os.pidfd_open(monitor_pid)
    try:
        with monitor.connect(engine.paths.run(record.id)) as connection:
            # Before the process runs, so that it never sees another size; attaching tells it again.
            if record.config.tty and (found := terminal.size(_STDOUT)):
                monitor.resize(engine.paths.run(record.id), *found)
            yield _Line(connection, pidfd)
    finally:
        os.close(pidfd)


def _follow(engine: Engine, record: ContainerRecord, line: _Line, streams: Streams, sequence: bytes) -> int:
    from plugrun.oci import attach

    config, bundle = record.config, engine.paths.run(record.id)

    def forward(number: int) -> None:
        with contextlib.suppress(PlugrunError):  # it has just ended: its exit code tells
            kill(engine, record, number)

    with terminal.raw(_STDIN) if config.tty and streams.stdin else contextlib.nullcontext():
        outcome = attach.attach(
            line.connection,
            stdin=_STDIN if streams.stdin and config.stdin_open else None,
            stdout=_STDOUT,
            stderr=_STDERR,
            tty=config.tty,
            detach_keys=sequence,
            ended=line.monitor,
            # As in Docker: with a terminal at both ends, keys are the way to send signals, and a hang-up is for us.
            forward_signal=forward if streams.forward_signals and not (config.tty and streams.stdin) else None,
            on_resize=(lambda rows, columns: monitor.resize(bundle, rows, columns)) if config.tty else None,
        )
    line.connection.close()  # unread, it would hold the monitor up
    if outcome is attach.Outcome.DETACHED:
        return 0
    if outcome is attach.Outcome.BROKEN:
        return _reader_left(engine, record)
    return wait(engine, record)


def _reader_left(engine: Engine, record: ContainerRecord) -> int:
    """End as a process does whose pipe broke; a container that was to be removed has nobody left to look at it."""
    if record.config.auto_remove:
        stop(engine, record, record.config.stop_timeout, signal_number(record.config.stop_signal))
    return _SIGNALLED + signal.SIGPIPE
