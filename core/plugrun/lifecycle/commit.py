"""Commit: an image of what a container's root file system is now."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plugrun.api import SupportsClone
from plugrun.errors import FailedPrecondition, NotFound
from plugrun.images import digest as digests
from plugrun.images import layer_tar
from plugrun.images.commit import CommitOptions, Draft, packing
from plugrun.lifecycle import diff, trees
from plugrun.lifecycle.pause import Pause, paused
from plugrun.lifecycle.state import is_running
from plugrun.openat2 import open_in_root
from plugrun.rootfd import RootDir
from plugrun.snapshots import STAGING_PREFIX, at_work
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine
    from plugrun.images.commit import Packed
    from plugrun.images.image import Image
    from plugrun.images.ingest import Ingest


_LITTLE_PLACES: Final = 1000
_LITTLE_BYTES: Final = 4 << 20  # measured: 2 ms a MiB to read and compress, 30 ms to copy and sync the least snapshot


class Committed(NamedTuple):
    """What a commit made.

    :param image_id: ``sha256:…``.
    :param paused: seconds for which the container stood still.
    """

    image_id: str
    paused: float


def commit(engine: Engine, record: ContainerRecord, options: CommitOptions) -> Committed:
    """Make an image of a container, running or not. Volumes and other mounts are not in it.

    :post: on an error the image store is as it was, and the container goes on.
    :raises NotFound: the container is gone.
    :raises InvalidArgument: an option makes no sense.
    :raises FailedPrecondition: its image is not in the store any more, or no image can hold what is in it.
    :raises Unavailable: no space is left, or the container cannot be paused.
    """
    engine.storage(record.storage, record.storage_options)  # loaded now, so that nothing stands still for it
    draft = Draft(engine.images.root, _base(engine, record), record.config, options)
    with engine.images.session() as work:
        layer, pause = _layer(engine, record.id, work, pause=options.pause)
        staged = draft.stage(work, layer)
        engine.images.publish(work, [staged])
    return Committed(staged.image_id, pause.seconds)


def _base(engine: Engine, record: ContainerRecord) -> Image:
    try:
        return engine.images.resolve(record.config.image_id)
    except NotFound as error:
        raise FailedPrecondition(
            f"image {digests.short(record.config.image_id)} ({record.config.image}), which container {record.name} was "
            "made from, has been removed, and the new image would need its layers",
            hint="load or pull it again, or make an image of all files: plugrun export CONTAINER | plugrun import -",
        ) from error


def _layer(engine: Engine, container_id: str, work: Ingest, *, pause: bool) -> tuple[Packed | None, Pause]:
    """Write what is different as a layer; ``None`` if nothing is.

    A running container in which much is different goes on as soon as it is copied, if its driver can do that.
    """
    stopped = Pause()
    with contextlib.ExitStack() as stack:
        with contextlib.ExitStack() as held:
            held.enter_context(engine.locked(container_id))
            record = engine.containers.get(container_id)
            if record is None:
                raise NotFound(f"container {container_id[:12]} has been removed")
            if pause:
                stopped = held.enter_context(paused(engine, record))
            copied = None
            if pause and is_running(record) and not _is_little(engine, record):
                copied = stack.enter_context(_copied(engine, record))
            if copied is None:  # it has to stand still, and stay, until all is read
                stack.enter_context(held.pop_all())
        source = diff.changes(engine, record, pause=False) if copied is None else _changes_of(engine, copied)
        found = stack.enter_context(source)
        if not found.changes:
            return None, stopped
        with packing(work) as layer:
            layer_tar.write(found.root, found.changes, layer.write)
    return layer.packed, stopped


def _is_little(engine: Engine, record: ContainerRecord) -> bool:
    """Whether reading what is different in a container that stands still takes no longer than copying it would."""
    own = engine.paths.rootfs(record.id)
    found = diff.places(engine, record, own)
    if found is None or len(found) > _LITTLE_PLACES or any(place.whole for place in found):
        return False
    total = 0
    with RootDir.at(own) as root:
        for place in found:
            with contextlib.suppress(OSError):  # it is gone, which is little
                descriptor = open_in_root(root.fd, place.path or b".", os.O_PATH | os.O_NOFOLLOW)
                total += os.fstat(descriptor).st_size
                os.close(descriptor)
    return total <= _LITTLE_BYTES


@contextlib.contextmanager
def _copied(engine: Engine, record: ContainerRecord) -> Iterator[ContainerRecord | None]:
    """Have a copy of a container's snapshot for a block, as the record's own; ``None`` if its driver makes none.

    A crash leaves it to the next clean-up of layers.
    """
    driver = engine.storage(record.storage, record.storage_options)
    if not isinstance(driver, SupportsClone):
        yield None
        return
    key = f"{STAGING_PREFIX}{os.urandom(8).hex()}"
    with at_work(engine.paths.root / "locks"):
        try:
            diff.sync(engine.paths.rootfs(record.id))
            driver.clone(key, record.snapshot)
            yield replace(record, snapshot=key)
        finally:
            with contextlib.suppress(NotFound):
                driver.remove(key)


@contextlib.contextmanager
def _changes_of(engine: Engine, copied: ContainerRecord) -> Iterator[diff.Changes]:
    driver = engine.storage(copied.storage, copied.storage_options)
    with trees.mounted(engine, driver.mounts(copied.snapshot)) as own:
        found = diff.places(engine, copied, own)
        with diff.compared(engine, copied, own, found) as answer:
            yield answer
