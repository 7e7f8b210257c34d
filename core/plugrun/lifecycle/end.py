"""End: a container's process has ended, or must; what it held is released and its exit code kept."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING

from plugrun import processes
from plugrun.container import ContainerRecord, Status
from plugrun.errors import FailedPrecondition
from plugrun.lifecycle import network
from plugrun.lifecycle.pause import let_go
from plugrun.lifecycle.state import is_running
from plugrun.lifecycle.steps import STEPS, Starting, exit_code
from plugrun.lifecycle.watch import watching
from plugrun.undo import run_all

if TYPE_CHECKING:
    from plugrun.engine import Engine

UNKNOWN_EXIT_CODE = 255
_KILL_SECONDS = 10.0


def wait(engine: Engine, record: ContainerRecord) -> int:
    """Wait until a container has ended and everything it held is released.

    :return: its exit code; :data:`UNKNOWN_EXIT_CODE` if its monitor was killed.
    """
    if record.boot_id == processes.boot_id():
        processes.wait_ended(record.monitor_pid, record.monitor_start)
        processes.wait_ended(record.pid, record.pid_start)  # only outlives a monitor that was killed
    return clean_up(engine, record.id)


def clean_up(engine: Engine, container_id: str) -> int:
    """Release what an ended container holds and store its exit code; remove it if it was made to be.

    Whoever notices the end may call this, and several may at once: the first does the work.

    :return: the exit code.
    """
    from plugrun.lifecycle.remove import remove_ended

    if engine.containers.get(container_id) is not None:
        with engine.locked(container_id):
            record = engine.containers.get(container_id)
            if record is not None and record.status is Status.RUNNING:
                if is_running(record):
                    raise FailedPrecondition(f"container {record.name} is running")
                end_locked(engine, record)
                if record.config.auto_remove:
                    remove_ended(engine, record)
    return _exit_code_of(engine, container_id)


def _exit_code_of(engine: Engine, container_id: str) -> int:
    """Return the exit code of a container that does not run: 0 if it never ran, as in Docker."""
    record = engine.containers.get(container_id)
    if record is None:
        code = engine.containers.last_exit(container_id)
    elif record.finished:
        code = record.exit_code
    else:
        code = 0
    return UNKNOWN_EXIT_CODE if code is None else code


def end_locked(engine: Engine, record: ContainerRecord) -> None:
    """Bring a container down that is running, starting, or was before a crash. The caller holds its lock.

    :post: nothing of the running container is left and its status is ``exited``, or ``created`` if it never ran.
    :raises ExceptionGroup: some of it could not be released; the status says so by staying as it was.
    """
    from plugrun.api import Event

    let_go(engine, record)
    ran = record.status is Status.RUNNING
    if ran:
        _note_exit(engine, record)
    at = Starting(engine, record)
    failures = run_all((step.name, lambda step=step: step.release(at)) for step in reversed(STEPS))  # type: ignore[misc]
    if failures:
        raise ExceptionGroup(f"container {record.name} ended, but not all it held could be released", failures)
    record.pid = record.monitor_pid = None
    record.status = Status.EXITED if ran or record.finished else Status.CREATED
    if ran and (left := network.joined(engine, record)):
        engine.warn(
            f"{', '.join(left)} shared the network of container {record.name}, which has ended, and reach nothing now"
        )
    if ran:
        engine.containers.ended(record)
        engine.notify(Event.DIED, record)
    else:
        engine.containers.update(record)
    network.tell_others(engine, record.endpoints)


def _note_exit(engine: Engine, record: ContainerRecord) -> None:
    from plugrun.oci import monitor

    run = engine.paths.run(record.id)
    record.exit_code = exit_code(engine, record)
    record.oom_killed = monitor.oom_killed(run)
    record.finished = time.time()
    if record.exit_code is None:
        record.error = "its monitor was killed or the machine went down: the exit code is unknown"


def kill(engine: Engine, record: ContainerRecord, number: int) -> None:
    """Send a signal to the container's first process.

    :raises FailedPrecondition: it is not running.
    """
    if not is_running(record):
        raise FailedPrecondition(f"container {record.name} is not running")
    engine.runtime(record).kill(record.id, number)


def stop(engine: Engine, record: ContainerRecord, timeout: float, number: int) -> None:
    """End a container: its stop signal, then SIGKILL.

    :param timeout: seconds between the two; negative waits for ever.
    :post: it has ended and is cleaned up; one that was not running stays as it is.
    """
    with watching(engine, record.id):
        _end(engine, record, timeout, number)
        clean_up(engine, record.id)


def _end(engine: Engine, record: ContainerRecord, timeout: float, number: int) -> None:
    if is_running(record):
        with contextlib.suppress(FailedPrecondition):  # it has just ended, by itself or by somebody else's hand
            engine.runtime(record).kill(record.id, number)
            if not processes.wait_ended(record.pid, record.pid_start, None if timeout < 0 else timeout):
                engine.runtime(record).kill(record.id, signal.SIGKILL, all=True)
                processes.wait_ended(record.pid, record.pid_start, _KILL_SECONDS)
    processes.wait_ended(record.monitor_pid, record.monitor_start, _KILL_SECONDS)
