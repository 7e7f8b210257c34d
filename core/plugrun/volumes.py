"""Volumes: directories that outlive containers, each an active snapshot without a parent in a storage driver.

So whatever a driver can do with a container's layer it can do with a volume: limit its size, copy it in no time.
Every change of a volume happens under its lock. A container's lock is taken before those of its volumes.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from plugrun import linux, locks, names, quota
from plugrun.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PlugrunError, Unavailable
from plugrun.state.volumes import Volume
from plugrun.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable

    from plugrun.api import StorageDriver
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine

_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}\Z"
_ATTEMPTS = 10
_USUAL = "local"  # Docker's only driver, which compose files name: here, whichever is the default


def check_name(name: str) -> str:
    """Return ``name`` if it can name a volume: one component of a path, whatever is done with it.

    :raises InvalidArgument: it cannot; says which characters may.
    """
    if not re.match(_NAME, name):
        raise InvalidArgument(
            f"{name!r} cannot be a volume name",
            hint="use 2 to 128 of a-z A-Z 0-9 _ . - and begin with a letter or digit; a host directory begins with '/'",
        )
    return name


def create(
    engine: Engine,
    name: str | None,
    *,
    storage: str | None = None,
    default: str | None = None,
    options: Mapping[str, str] = MappingProxyType({}),
    labels: Mapping[str, str] = MappingProxyType({}),
    anonymous: bool = False,
) -> Volume:
    """Make a volume; one that is there already is fine if it is what was asked for.

    :param name: ``None`` for one that nobody names.
    :param storage: the storage driver it has to be in; ``local`` is Docker's word for any.
    :param default: the storage driver to make it in if ``storage`` does not say.
    :param options: of the driver, or ``size``.
    :post: a new one is empty, its root directory 0755 and root's; it survives a power cut.
    :raises AlreadyExists: there is one in another driver, or with other options.
    :raises InvalidArgument: the name or an option makes no sense.
    :raises Unavailable: the driver does not work here, or cannot limit the size.
    """
    if name is None:
        name, anonymous = os.urandom(32).hex(), True
    if storage == _USUAL and _USUAL not in engine.plugins.storage:
        storage = None
    with locked(engine, check_name(name)):
        existing = engine.volumes.get(name)
        if existing is not None:
            return _same(existing, storage, options)
        _clean(engine, name)
        storage = engine.plugins.select_storage(storage or default, engine.paths.root).spec.name
        size, own = quota.take(options)
        driver = engine.storage(storage, own)
        quota.check(driver, size)
        volume = Volume(name, names.volume_key(), storage, dict(options), dict(labels), time.time(), anonymous)
        _make(engine, volume, driver, lambda: driver.prepare(volume.key, None))
    return volume


def clone(engine: Engine, source: str, name: str) -> Volume:
    """Make a volume that begins as a copy of another one; containers that write to that stand still meanwhile.

    :post: the two are independent, and the copy has the same limit.
    :raises NotFound: there is no volume ``source``.
    :raises AlreadyExists: ``name`` is taken.
    :raises FailedPrecondition: the storage driver cannot copy.
    """
    from plugrun.api import SupportsClone
    from plugrun.lifecycle import trees

    original = engine.volumes.find(source)
    driver = opened(engine, original)
    if not isinstance(driver, SupportsClone):
        raise FailedPrecondition(
            f"volume {source} cannot be cloned: storage driver {original.storage!r} does not copy snapshots",
            hint="'plugrun plugin ls' shows which drivers can clone",
        )
    if check_name(name) == source:
        raise AlreadyExists(f"there is a volume {name} already", hint="choose another name")
    with _still(engine, source, name):
        original = engine.volumes.find(source)
        if engine.volumes.get(name) is not None:
            raise AlreadyExists(f"there is a volume {name} already", hint="choose another name")
        _clean(engine, name)
        volume = original._replace(name=name, key=names.volume_key(), created=time.time(), anonymous=False)

        def copy() -> None:
            with trees.mounted(engine, driver.mounts(original.key)) as point:
                linux.syncfs(str(point))
            driver.clone(volume.key, original.key)

        _make(engine, volume, driver, copy)
    return volume


def remove(engine: Engine, name: str, *, force: bool = False, but: str = "") -> None:
    """Remove a volume and what is in it.

    :param force: none of this name is fine, and one whose driver is gone, or has lost its pool, is forgotten.
    :param but: id of a container that may use it.
    :raises NotFound: there is none.
    :raises FailedPrecondition: a container uses it.
    :raises Unavailable: its storage driver cannot be used.
    """
    volume = engine.volumes.get(name) if name.isprintable() else None
    if volume is None:
        if force:
            return
        engine.volumes.find(name)
    with locked(engine, name):
        volume = engine.volumes.find(name)
        _reach(engine, volume, forget=force)  # or it would be half gone
        engine.volumes.unmade(name, but=but)
        _clean(engine, name, forget=force)


def remove_anonymous(engine: Engine, record: ContainerRecord, *, force: bool = False) -> None:
    """Remove the volumes that nobody named and only this container uses as :func:`remove` does; or warn of them."""
    for mount in record.config.volumes:
        volume = engine.volumes.get(mount.name)
        if volume is None or not volume.anonymous:
            continue
        try:
            remove(engine, mount.name, force=force, but=record.id)
        except (FailedPrecondition, NotFound):  # another container has it by --volumes-from; or just removed
            continue
        except PlugrunError as error:
            engine.warn(f"volume {mount.name} of container {record.name} stays: {error}")


def prune(engine: Engine, unwanted: Callable[[Volume], bool]) -> tuple[list[str], int]:
    """Remove the volumes that no container uses. One that cannot be removed is a warning.

    :param unwanted: which of them.
    :return: the names of those removed, and the bytes that they occupied.
    """
    removed, size, used = [], 0, engine.volumes.users()
    for volume in engine.volumes.all():
        if volume.name in used or not unwanted(volume):
            continue
        try:
            driver, occupied = opened(engine, volume), 0
            with contextlib.suppress(NotFound):  # its files are gone, with a pool that was given up
                occupied = driver.usage(volume.key).size
            remove(engine, volume.name)
        except (FailedPrecondition, NotFound):  # used, or removed, since
            continue
        except PlugrunError as error:
            engine.warn(f"volume {volume.name} stays: {error}")
        else:
            removed.append(volume.name)
            size += occupied
    return removed, size


def settle(engine: Engine, name: str) -> None:
    """Remove what a killed process was making or removing. Nothing while another one is at it."""
    path = engine.paths.volume_lock(name)
    lock = locks.try_acquire(path)
    if lock is None:
        return
    try:
        _clean(engine, name, forget=True)  # nobody wants it
        path.unlink(missing_ok=True)
    finally:
        os.close(lock)


def opened(engine: Engine, volume: Volume) -> StorageDriver:
    """Return the storage driver that a volume is in.

    :raises Unavailable: it is not installed, or does not work here; says which volume needs it.
    """
    try:
        return engine.storage(volume.storage, quota.take(volume.options)[1])
    except PlugrunError as error:
        raise Unavailable(f"volume {volume.name} cannot be reached: {error}", hint=error.hint) from error


def directory(engine: Engine, volume: Volume) -> str:
    """Return where a volume's files are on the host; ``""`` if they can be seen only while it is mounted."""
    try:
        found = opened(engine, volume).mounts(volume.key)
    except PlugrunError:
        return ""
    return found[0].source if len(found) == 1 and found[0].type == "bind" else ""


def _make(engine: Engine, volume: Volume, driver: StorageDriver, fill: Callable[[], object]) -> None:
    """Record a volume, make it, and acknowledge it. The caller holds its lock."""
    with Undo(f"making volume {volume.name}") as undo:
        undo.push("its record and its snapshot", lambda: _clean(engine, volume.name))
        engine.volumes.add(volume)
        fill()
        quota.apply(driver, volume.key, quota.take(volume.options)[0])
        if not volume.anonymous:  # those are worth as much as their container's own layer
            linux.syncfs(str(engine.paths.root / "storage" / volume.storage))
        engine.volumes.made(volume.name)


def _clean(engine: Engine, name: str, *, forget: bool = False) -> None:
    """Remove what there is of a volume that is not ready, as :func:`_reach` says. The caller holds its lock."""
    volume = engine.volumes.left(name)
    if volume is None:
        return
    if (driver := _reach(engine, volume, forget=forget)) is not None:
        with contextlib.suppress(NotFound):
            driver.remove(volume.key)
    engine.volumes.forget(name)


def _reach(engine: Engine, volume: Volume, *, forget: bool) -> StorageDriver | None:
    """Return the storage driver that a volume is to be removed from.

    :param forget: return ``None`` if it is not installed, or cannot be used and keeps nothing any more.
    :raises Unavailable: it cannot be used.
    """
    try:
        return opened(engine, volume)
    except Unavailable:
        from plugrun.used_storage import keeps_nothing  # not where all is well

        if forget and (volume.storage not in engine.plugins.storage or keeps_nothing(engine, volume.storage)):
            return None
        raise


def _same(volume: Volume, storage: str | None, options: Mapping[str, str]) -> Volume:
    if storage not in {None, volume.storage}:
        otherwise = f"in storage driver {volume.storage!r} and not {storage!r}"
    elif options and dict(options) != dict(volume.options):
        has = ", ".join(f"{key}={value}" for key, value in volume.options.items()) or "none"
        otherwise = f"with other options: {has}"
    else:
        return volume
    raise AlreadyExists(
        f"there is a volume {volume.name} already, {otherwise}",
        hint=f"choose another name, or remove it: plugrun volume rm {volume.name}",
    )


@contextlib.contextmanager
def locked(engine: Engine, name: str) -> Iterator[None]:
    """Hold a volume's lock, whose file goes when there is no such volume in the end."""
    path = engine.paths.volume_lock(name)
    with locks.held(path, what=f"volume {name}"):
        try:
            yield
        finally:
            if engine.volumes.get(name) is None and engine.volumes.left(name) is None:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _still(engine: Engine, source: str, name: str) -> Iterator[None]:
    """Hold two volumes' locks, and those of all containers that use the first, which are paused."""
    from plugrun.lifecycle.pause import paused

    for _ in range(_ATTEMPTS):
        users = sorted(engine.volumes.users().get(source, ()))
        with contextlib.ExitStack() as held:
            for user in users:
                held.enter_context(engine.locked(user))
            for volume in sorted((source, name)):
                held.enter_context(locked(engine, volume))
            if sorted(engine.volumes.users().get(source, ())) != users:
                continue  # a new one may be on its way up, and we do not hold it
            for user in users:
                record = engine.containers.get(user)
                if record is not None:
                    held.enter_context(paused(engine, record))
            yield
            return
    raise Unavailable(f"volume {source} gets new containers faster than it can be copied", hint="try again")
