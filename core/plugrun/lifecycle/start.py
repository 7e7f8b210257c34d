"""Start: from a created or ended container to a running one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from plugrun import processes
from plugrun.container import ContainerRecord, Status
from plugrun.errors import FailedPrecondition, Unavailable
from plugrun.lifecycle import network
from plugrun.lifecycle.end import end_locked
from plugrun.lifecycle.state import is_running
from plugrun.lifecycle.steps import STEPS, Starting, Step
from plugrun.lifecycle.watch import watching
from plugrun.undo import Undo

if TYPE_CHECKING:
    from plugrun.engine import Engine
    from plugrun.oci.monitor import MonitorHandle


def start(
    engine: Engine,
    container_id: str,
    *,
    connect: Callable[[MonitorHandle], None] | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> ContainerRecord:
    """Start a container; one that runs already is left as it is.

    :param connect: called once the process exists and before it runs.
    :param meanwhile: see :class:`plugrun.lifecycle.steps.Starting`.
    :post: on failure nothing of the attempt is left but ``error`` in the record.
    :raises CommandNotFound: its command does not exist in its root file system.
    :raises CommandNotExecutable: its command cannot be executed.
    :raises FailedPrecondition: it is being removed, or its image must not be started.
    :raises Unavailable: the kernel refused something: no space is left, the run root is read-only.
    """
    from plugrun.api import Event

    with watching(engine, container_id), engine.locked(container_id):
        record = engine.containers.find(container_id)
        if is_running(record):
            return record
        if record.status in {Status.RUNNING, Status.STARTING}:
            end_locked(engine, record)
        if record.status not in {Status.CREATED, Status.EXITED}:
            raise FailedPrecondition(f"container {record.name} is {record.status}, it cannot be started")
        _bring_up(Starting(engine, record, connect, meanwhile))
        engine.notify(Event.STARTED, record)
    return record


def _bring_up(at: Starting) -> None:
    engine, record = at.engine, at.record
    before = record.status
    record.status, record.error = Status.STARTING, ""
    record.boot_id = processes.boot_id()
    engine.containers.update(record)
    undo = Undo(f"starting container {record.name}")
    try:
        with undo:
            for step in STEPS:
                undo.push(step.name, lambda step=step: step.release(at))  # type: ignore[misc]
                _acquire(step, at)
    except BaseException as error:
        record.error = str(error)
        if undo.complete:  # else it stays as it is, and the next command that changes something goes on undoing
            record.status = before
            record.pid = record.monitor_pid = None
        engine.containers.update(record)
        raise
    record.status, record.started = Status.RUNNING, time.time()
    record.finished, record.exit_code, record.oom_killed = 0.0, None, False
    engine.containers.update(record)
    network.tell_others(engine, record.endpoints)


def _acquire(step: Step, at: Starting) -> None:
    """Take one step; what the kernel refuses is said of the container and the step."""
    try:
        step.acquire(at)
    except OSError as error:
        reason = ": ".join(filter(None, (str(error.filename or ""), error.strerror or str(error))))
        raise Unavailable(f"cannot start container {at.record.name}: {step.name}: {reason}") from error
