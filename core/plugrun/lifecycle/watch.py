"""Who cleans up after a container: whoever waits for it, else its monitor.

The monitor's exit command is ``flock --nonblock WATCH plugrun container cleanup ID``. While somebody holds the watch
it costs one flock(1) instead of a Python start; when they die, the kernel drops the lock and the clean-up runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from plugrun import locks, programs

if TYPE_CHECKING:
    from plugrun.engine import Engine


@contextlib.contextmanager
def watching(engine: Engine, container_id: str) -> Iterator[None]:
    """Take the clean-up over from the monitor for the length of the block.

    If somebody else has it already, they keep it. An end that nobody cleaned up after in the block is cleaned up at its
    close: the monitor, which writes the exit file before it looks at the watch, has left it to us.
    """
    from plugrun.lifecycle.end import clean_up
    from plugrun.oci import monitor

    watch = locks.try_acquire(engine.paths.watch(container_id))
    if watch is None:
        yield
        return
    try:
        yield
    finally:
        os.close(watch)
        if monitor.exit_code(engine.paths.run(container_id), container_id) is not None:
            clean_up(engine, container_id)


def exit_command(engine: Engine, container_id: str) -> tuple[str, ...]:
    """Return what the monitor executes when the container has ended."""
    clean_up = (
        *(sys.executable, "-I", "-m", "plugrun"),
        *("--root", str(engine.paths.root), "--runroot", str(engine.paths.run_root)),
        *("container", "cleanup", container_id),
    )
    flock = programs.find("flock")
    return (flock, "--nonblock", str(engine.paths.watch(container_id)), *clean_up) if flock else clean_up
