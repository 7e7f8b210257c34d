"""A container in the foreground: its streams on ours, our signals to it, its exit code as the result."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import TYPE_CHECKING

from plugrun import locks, processes
from plugrun.lifecycle.end import is_running, kill, wait
from plugrun.lifecycle.start import start
from plugrun.oci import attach, monitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine

_STDIN, _STDOUT, _STDERR = 0, 1, 2


def run_attached(engine: Engine, record: ContainerRecord, *, detach_keys: str, forward_signals: bool = True) -> int:
    """Start a container with its streams on ours and wait for its end.

    :return: its exit code; 0 if the user detached, and then it goes on without us.
    """
    keys = attach.parse_detach_keys(detach_keys)
    run = engine.paths.run(record.id)
    connections: list[socket.socket] = []
    with _watching(engine, record), contextlib.ExitStack() as stack:
        started = start(
            engine,
            record.id,
            connect=lambda _: connections.append(stack.enter_context(monitor.connect(run, record.id))),
        )
        outcome = _attach(engine, started, connections[0], keys, forward_signals=forward_signals)
        if outcome is attach.Outcome.DETACHED:
            return 0
        return wait(engine, started)


def attach_to(engine: Engine, record: ContainerRecord, *, detach_keys: str, forward_signals: bool, stdin: bool) -> int:
    """Attach to a running container until it ends or the user detaches; returns as :func:`run_attached`."""
    keys = attach.parse_detach_keys(detach_keys)
    with monitor.connect(engine.paths.run(record.id), record.id) as connection:
        outcome = _attach(engine, record, connection, keys, forward_signals=forward_signals, stdin=stdin)
    return 0 if outcome is attach.Outcome.DETACHED else wait(engine, record)
