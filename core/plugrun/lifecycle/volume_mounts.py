"""A container's volumes and images on the host: mounted where only the engine can get, to be bound into it.

Each is at ``mounts/NUMBER`` in the container's run directory. Of one that is mounted in part, the part is bound at
``mounts/NUMBER.part`` by a descriptor, so whoever else writes to the volume cannot lead the runtime elsewhere by
swapping a directory for a link (CVE-2017-1002101, CVE-2021-25741).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from plugrun import mounts, names, volumes
from plugrun.container import BindMount
from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound, PlugrunError
from plugrun.paths import ensure_private
from plugrun.rootfd import RootDir

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from plugrun.api import Mount
    from plugrun.container import ContainerRecord, ImageMount, VolumeMount
    from plugrun.engine import Engine


def acquire(engine: Engine, record: ContainerRecord) -> tuple[BindMount, ...]:
    """Mount a container's volumes and images, whose root file system is mounted already.

    :post: a volume that was empty, and that the container sees for the first time, has what the image has there.
    :return: what is to be bound into the container.
    :raises NotFound: a volume, an image, or the part of one that is asked for is gone.
    :raises Unavailable: a volume's storage driver does not work any more; no room is left.
    """
    place = engine.paths.mounts(record.id)
    ensure_private(place)
    found = []
    for number, volume in enumerate(record.config.volumes):
        source = _volume(engine, record, volume, place / str(number))
        found.append(BindMount(source, volume.destination, volume.read_only))
    for number, image in enumerate(record.config.images, len(found)):
        source = _image(engine, record, image, number)
        found.append(BindMount(source, image.destination, read_only=True))
    return tuple(found)


def release(engine: Engine, record: ContainerRecord) -> None:
    """Unmount what :func:`acquire` has mounted, all of it or some, also when there is nothing."""
    place = engine.paths.mounts(record.id)
    with contextlib.suppress(FileNotFoundError):
        for entry in sorted(os.listdir(place), reverse=True):  # a part before the whole
            mounts.unmount(str(place / entry))
            if stat.S_ISDIR(os.lstat(place / entry).st_mode):
                os.rmdir(place / entry)  # never a tree: what is still mounted must not be deleted
            else:
                os.unlink(place / entry)
        place.rmdir()
    first = len(record.config.volumes)
    for number in range(first, first + len(record.config.images)):
        with contextlib.suppress(NotFound):
            engine.storage(record.storage, record.storage_options).remove(names.image_key(record.id, number))


@contextlib.contextmanager
def sources(
    engine: Engine, record: ContainerRecord, root: RootDir, missing: Callable[[str, Exception], None]
) -> Iterator[tuple[BindMount, ...]]:
    """Have what a stopped container has mounted over its root file system within reach for a block, none on the other.

    A destination is as the user wrote it and has to be resolved in the root file system. A source can be opened by this
    process, and what is in it is the container's: links in there mean nothing on the host. A tmpfs is not among them:
    it is empty, and what would be written to it would be lost.

    :param root: the container's root file system, with nothing mounted in it yet.
    :param missing: told in words of one that cannot be had, and why; what it does not raise is left out.
    :pre: the caller holds the container's lock.
    :post: volumes have what the image has there, as after :func:`acquire`.
    """
    found = list(record.config.binds)
    with contextlib.ExitStack() as held:
        for volume in record.config.volumes:
            try:
                source = held.enter_context(_volume_source(engine, record, volume, root))
            except (PlugrunError, OSError) as error:
                missing(f"volume {volume.name} cannot be shown at {volume.destination}", error)
            else:
                found.append(BindMount(source, volume.destination, volume.read_only))
        for image in record.config.images:
            try:
                source = held.enter_context(_image_source(engine, record, image))
            except (PlugrunError, OSError) as error:
                missing(f"image {image.image} cannot be shown at {image.destination}", error)
            else:
                found.append(BindMount(source, image.destination, read_only=True))
        yield tuple(found)


@contextlib.contextmanager
def _volume_source(engine: Engine, record: ContainerRecord, mount: VolumeMount, root: RootDir) -> Iterator[str]:
    from plugrun.lifecycle import trees

    with contextlib.ExitStack() as held:
        with volumes.locked(engine, mount.name):
            point = held.enter_context(trees.mounted(engine, _mounts_of(engine, mount.name)))
            _fill(record, mount, point, root)
        yield _reach(point, mount.subpath, f"volume {mount.name}", held)


@contextlib.contextmanager
def _image_source(engine: Engine, record: ContainerRecord, mount: ImageMount) -> Iterator[str]:
    from plugrun.lifecycle import trees

    with contextlib.ExitStack() as held:
        with _top(engine, record, mount) as top:
            point = held.enter_context(trees.viewed(engine, record, top))
        yield _reach(point, mount.subpath, f"image {mount.image}", held)


def _volume(engine: Engine, record: ContainerRecord, mount: VolumeMount, point: Path) -> str:
    """Mount one volume; return the path of what is to be bound."""
    with volumes.locked(engine, mount.name):  # others may be filling it
        _mount(_mounts_of(engine, mount.name), point)
        with RootDir.at(engine.paths.rootfs(record.id)) as root:
            _fill(record, mount, point, root)
    return _part(point, mount.subpath, f"volume {mount.name}")


def _fill(record: ContainerRecord, mount: VolumeMount, point: Path, root: RootDir) -> None:
    """Settle an earlier copy-up; do the first one. The caller holds the volume's lock."""
    from plugrun.lifecycle import copy_up

    with RootDir.at(point) as volume:
        copy_up.finish(volume)
        if not (mount.nocopy or record.started):  # what a container has emptied later stays empty
            copy_up.fill(volume, root, mount.destination, f"volume {mount.name}")


def _mounts_of(engine: Engine, name: str) -> Sequence[Mount]:
    volume = engine.volumes.find(name)
    try:
        return volumes.opened(engine, volume).mounts(volume.key)
    except NotFound as error:
        raise NotFound(
            f"volume {name} is not in storage driver {volume.storage!r} any more",
            hint=f"if it cannot be brought back, forget it: plugrun volume rm {name}",
        ) from error


def _image(engine: Engine, record: ContainerRecord, mount: ImageMount, number: int) -> str:
    """Mount one image; return the path of what is to be bound.

    Not a view, which may be the layer itself: a privileged container can make what it has mounted writable.
    """
    driver = engine.storage(record.storage, record.storage_options)
    key, point = names.image_key(record.id, number), engine.paths.mounts(record.id) / str(number)
    with contextlib.suppress(NotFound):
        driver.remove(key)  # of a start that ended with the machine
    with _top(engine, record, mount) as top:
        _mount(driver.prepare(key, top), point)
    return _part(point, mount.subpath, f"image {mount.image}")


@contextlib.contextmanager
def _top(engine: Engine, record: ContainerRecord, mount: ImageMount) -> Iterator[str | None]:
    """Have an image unpacked for a block that stands on its top snapshot."""
    from plugrun.lifecycle.create import unpacked

    try:
        image = engine.images.resolve(mount.image_id)
    except NotFound as error:
        raise NotFound(
            f"image {mount.image}, which container {record.name} mounts at {mount.destination}, is gone",
            hint=f"fetch it again: plugrun pull {mount.image}",
        ) from error
    with unpacked(engine, image, engine.storage(record.storage, record.storage_options)) as top:
        yield top


def _mount(found: Sequence[Mount], point: Path) -> None:
    point.mkdir(mode=0o700)
    mounts.mount_all(found, str(point))


def _part(point: Path, subpath: str, what: str) -> str:
    """Bind a part of what is mounted at ``point`` beside it; return the path of what is to be bound."""
    if not subpath:
        return str(point)
    target = point.with_name(f"{point.name}.part")
    with _opened(point, subpath, what) as part:
        if stat.S_ISDIR(os.fstat(part).st_mode):
            target.mkdir(mode=0o700)
        else:
            target.touch(mode=0o600, exist_ok=False)
        mounts.bind(part, str(target))
    return str(target)


def _reach(point: Path, subpath: str, what: str, held: contextlib.ExitStack) -> str:
    if not subpath:
        return str(point)
    return f"/proc/self/fd/{held.enter_context(_opened(point, subpath, what))}"


@contextlib.contextmanager
def _opened(point: Path, subpath: str, what: str) -> Iterator[int]:
    """Have a part of a tree open, found without leaving the tree whatever links are in it."""
    with RootDir.at(point) as root:
        try:
            part = root.open(subpath, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"{what} has no {subpath!r}", hint="mount all of it once to make that") from error
        except OSError as error:
            raise InvalidArgument(f"{what} cannot be mounted from {subpath!r}: {error.strerror}") from error
    try:
        mode = os.fstat(part).st_mode
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise FailedPrecondition(f"{subpath!r} of {what} is neither a directory nor a regular file")
        yield part
    finally:
        os.close(part)
