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
from plugrun.lifecycle import trees, volume_mounts
from plugrun.lifecycle.end import end_locked
from plugrun.lifecycle.state import is_running
from plugrun.rootfd import RootDir

if TYPE_CHECKING:
    from plugrun.container import BindMount, ContainerRecord
    from plugrun.engine import Engine


@contextlib.contextmanager
def seen_by(engine: Engine, record: ContainerRecord, *, writing: bool) -> Iterator[RootDir]:
    """Have a container's root directory open for a block.

    A container that does not run is kept from starting meanwhile; one that runs may do what it likes, stop too.

    :param writing: refuse a container whose view cannot be had completely; else such parts are warned about.
    :raises NotFound: it has been removed.
    :raises FailedPrecondition: a volume, or something else that it has mounted, is gone, and it is to be written to.
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
    def missing(what: str, error: Exception) -> None:
        message = f"{what}: {error.strerror if isinstance(error, OSError) else error}"
        if writing:
            raise FailedPrecondition(message) from error
        engine.warn(message)

    with (
        trees.own(engine, record) as point,
        RootDir.at(point) as root,
        volume_mounts.sources(engine, record, root, missing) as found,
    ):
        for mount in sorted(found, key=lambda one: one.destination.count("/")):  # what lies deeper later
            try:
                _attach(root, mount)
            except (PlugrunError, OSError) as error:
                missing(f"{mount.source} of this host cannot be shown at {mount.destination}", error)
        if record.config.read_only:
            mounts.make_read_only(str(point))
        yield root


def _attach(root: RootDir, mount: BindMount) -> None:
    """Mount what the container would find there; its own links stay inside it."""
    with contextlib.ExitStack() as opened:
        source = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
        opened.callback(os.close, source)
        if stat.S_ISDIR(os.fstat(source).st_mode):
            target = root.ensure_dir(mount.destination)
        else:
            root.ensure_file(mount.destination)
            target = root.open(mount.destination, os.O_PATH)
        opened.callback(os.close, target)
        mounts.attach(source, target, read_only=mount.read_only, recursive=mount.recursive)
