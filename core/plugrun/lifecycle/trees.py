"""The trees of a container as the host sees them: its own, and its image's, which it began as.

Volumes and bind mounts are not in them: those are mounted in the container's own mount namespace only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from plugrun import mounts, quota
from plugrun.container import Status
from plugrun.errors import NotFound, Unavailable
from plugrun.lifecycle import keys
from plugrun.lifecycle.end import end_locked
from plugrun.lifecycle.state import is_running
from plugrun.snapshots import STAGING_PREFIX, at_work

if TYPE_CHECKING:
    from pathlib import Path

    from plugrun.api import Mount
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine


@contextlib.contextmanager
def own(engine: Engine, record: ContainerRecord) -> Iterator[Path]:
    """Have a container's root file system mounted for a block: where it runs, else somewhere of its own.

    :pre: the caller holds the container's lock, unless it runs: one writable tree must not be mounted twice.
    :raises NotFound: the driver has no such snapshot.
    """
    if is_running(record):
        yield engine.paths.rootfs(record.id)
        return
    if record.status in {Status.RUNNING, Status.STARTING}:
        end_locked(engine, record)  # before its monitor has: its tree may be mounted still
    driver = engine.storage(record.storage, record.storage_options)
    with keys.kept(record):
        found = driver.mounts(record.snapshot)
    with mounted(engine, found) as point:
        with contextlib.suppress(Unavailable):  # as at each start; most callers only read
            quota.apply(driver, record.snapshot, record.config.storage_size)
        yield point


@contextlib.contextmanager
def parent(engine: Engine, record: ContainerRecord) -> Iterator[Path]:
    """Have the tree that a container began as, that of its image, mounted read-only for a block."""
    driver = engine.storage(record.storage, record.storage_options)
    with viewed(engine, record, driver.stat(record.snapshot).parent) as point:
        yield point


@contextlib.contextmanager
def viewed(engine: Engine, record: ContainerRecord, name: str | None) -> Iterator[Path]:
    """Have a committed snapshot in a container's storage driver mounted read-only for a block; none is empty."""
    driver = engine.storage(record.storage, record.storage_options)
    key = f"{STAGING_PREFIX}{os.urandom(8).hex()}"
    with at_work(engine.paths.root / "locks"):  # what begins like that looks left behind when nobody is at work
        found = driver.view(key, name)
        try:
            with mounted(engine, found) as point:
                yield point
        finally:
            with contextlib.suppress(NotFound):
                driver.remove(key)


@contextlib.contextmanager
def mounted(engine: Engine, found: Sequence[Mount]) -> Iterator[Path]:
    """Have a driver's mounts somewhere for a block; a crash leaves them to the next clean-up of layers."""
    with at_work(engine.paths.root / "locks"):
        point = engine.paths.run_root / "staging" / os.urandom(8).hex()
        point.mkdir(mode=0o700)
        try:
            mounts.mount_all(found, str(point))
            yield point
        finally:
            mounts.unmount(str(point))
            point.rmdir()
