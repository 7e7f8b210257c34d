"""A container's file system as the container itself sees it, volumes included, whether it runs or not."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from plugrun import mounts
from plugrun.container import Status
from plugrun.errors import FailedPrecondition, NotFound, PlugrunError
from plugrun.lifecycle import trees
from plugrun.lifecycle.end import end_locked
from plugrun.lifecycle.state import is_running
from plugrun.rootfd import RootDir
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine


class HostPath(NamedTuple):
    """A file or directory of the host that a container has somewhere."""

    source: str
    destination: str
    read_only: bool


def host_paths(record: ContainerRecord) -> list[HostPath]:
    """Return what of the host a container has mounted, what lies deeper later."""
    found = [HostPath(bind.source, bind.destination, bind.read_only) for bind in record.config.binds]
    return sorted(found, key=lambda one: one.destination.count("/"))


@contextlib.contextmanager
def seen_by(engine: Engine, record: ContainerRecord, *, writing: bool) -> Iterator[RootDir]:
    """Have a container's root directory open for a block.

    A container that does not run is kept from starting meanwhile; one that runs may do what it likes, stop too.

    :param writing: refuse a container whose view cannot be had completely; else such parts are warned about.
    :raises NotFound: it has been removed.
    :raises FailedPrecondition: something of the host that it has mounted is gone, and it is to be written to.
    """
    running = _running_root(record)
    if running is not None:
        with running:
            yield running
        return
    with engine.locked(record.id):
        current = engine.containers.get(record.id)
        if current is None:
            raise NotFound(f"container {record.name} has been removed")
        running = _running_root(current)  # since a moment ago
        if running is None:
            if current.status in {Status.RUNNING, Status.STARTING}:
                end_locked(engine, current)  # before its monitor has: its tree may be mounted still
            with _mounted(engine, current, writing=writing) as root:
                yield root
            return
    with running:
        yield running


def _running_root(record: ContainerRecord) -> RootDir | None:
    """Open the root directory of a container's first process; ``None`` if it does not run."""
    if not is_running(record):
        return None
    try:
        root = RootDir.at(f"/proc/{record.pid}/root")
    except PlugrunError:
        if not is_running(record):
            return None
        raise
    if is_running(record):  # so the number was still this process's when its root was opened
        return root
    root.close()
    return None


@contextlib.contextmanager
def _mounted(engine: Engine, record: ContainerRecord, *, writing: bool) -> Iterator[RootDir]:
    with trees.own(engine, record) as point, RootDir.at(point) as root:
        for path in host_paths(record):
            try:
                _attach(root, path)
            except (PlugrunError, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                message = f"{path.source} of this host cannot be shown at {path.destination}: {reason}"
                if writing:
                    raise FailedPrecondition(message) from error
                engine.warn(message)
        if record.config.read_only:
            mounts.make_read_only(str(point))
        yield root


def _attach(root: RootDir, path: HostPath) -> None:
    """Mount what the container would find there; its own links stay inside it."""
    with contextlib.ExitStack() as opened:
        source = os.open(path.source, os.O_PATH | os.O_CLOEXEC)
        opened.callback(os.close, source)
        if stat.S_ISDIR(os.fstat(source).st_mode):
            target = root.ensure_dir(path.destination)
        else:
            root.ensure_file(path.destination)
            target = root.open(path.destination, os.O_PATH)
        opened.callback(os.close, target)
        mounts.attach(source, target, read_only=path.read_only)
