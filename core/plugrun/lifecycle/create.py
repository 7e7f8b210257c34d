"""Create: from a request to a recorded container with its own writable layer."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from plugrun import mounts, names, quota
from plugrun.container import ContainerRecord, Status
from plugrun.errors import AlreadyExists
from plugrun.lifecycle.remove import remove_locked
from plugrun.paths import ensure_private
from plugrun.request import ContainerRequest, merge
from plugrun.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from plugrun.api import StorageDriver
    from plugrun.container import ContainerConfig
    from plugrun.engine import Engine
    from plugrun.images.store import Image
    from plugrun.snapshots import Layers

_NAME_ATTEMPTS = 5


def create(
    engine: Engine,
    request: ContainerRequest,
    *,
    find_image: Callable[[str], Image] | None = None,
    progress: Callable[..., None] | None = None,
) -> ContainerRecord:
    """Make a container; it is not started.

    :param find_image: returns the image of a name, which it may have to fetch; else it must be in the store.

    :post: on success the container is ``created``; on failure nothing of it is left.
    :raises NotFound: no such image, driver, network or runtime.
    :raises AlreadyExists: the name is taken.
    :raises InvalidArgument: an unknown capability, an unusable seccomp profile.
    :raises FailedPrecondition: the image is for another machine.
    :raises Unavailable: a driver does not work here, or the storage driver cannot limit the size.
    """
    from plugrun.api import Event, Host
    from plugrun.images import platform
    from plugrun.lifecycle import endpoints, naming
    from plugrun.oci import runtime, spec

    plugins, root = engine.plugins, engine.paths.root
    storage = plugins.select_storage(request.storage, root)
    chosen_runtime = runtime.choose(request.runtime)
    if request.name is not None:
        names.check(request.name)
    spec.check(request.security)
    image = (find_image or engine.images.resolve)(request.image)
    platform.check_runs(image.config.platform, f"image {request.image}")
    container_id = os.urandom(32).hex()
    connected, namespace = endpoints.plan(engine, request)
    naming.check(request, namespace)
    on_host = isinstance(namespace, Host)
    hostname = os.uname().nodename if on_host else container_id[:12]
    config = _shaped(engine, request, merge(request, image, hostname=hostname))
    plan = None
    if request.has_mounts_to_plan or image.config.volumes:
        from plugrun.lifecycle import mount_plan

        plan = mount_plan.plan(engine, request, image, config, find_image or engine.images.resolve)
        config = plan.config
    driver = engine.storage(storage.spec.name, request.storage_options)
    quota.check(driver, config.storage_size)
    with unpacked(engine, image, driver, progress=progress) as parent:
        record = ContainerRecord(
            id=container_id,
            name=request.name or names.suggest(),
            config=config,
            storage=storage.spec.name,
            storage_api=str(storage.spec.api),
            storage_options=dict(request.storage_options),
            endpoints=connected,
            ports=tuple(request.ports),
            runtime=chosen_runtime.path,
            created=time.time(),
        )
        with engine.locked(container_id), Undo(f"creating container {record.name}") as undo:
            undo.push("its lock", lambda: engine.paths.lock(container_id).unlink(missing_ok=True))
            _add(engine, record, fixed=request.name is not None)
            undo.push("the container's record and layer", lambda: remove_locked(engine, record))
            endpoints.check(engine, record)
            ensure_private(engine.paths.container(container_id))
            if plan is not None:
                mount_plan.provide(engine, plan, storage.spec.name)
            driver.prepare(record.snapshot, parent)
            quota.apply(driver, record.snapshot, config.storage_size)
            record.status = Status.CREATED
            engine.containers.update(record)
    engine.notify(Event.CREATED, record)
    return record


def unpacked(
    engine: Engine,
    image: Image,
    driver: StorageDriver,
    *,
    source: Layers | None = None,
    give_up: Callable[[], None] = lambda: None,
    progress: Callable[..., None] | None = None,
) -> AbstractContextManager[str | None]:
    """Have an image in a storage driver for a block that stands on its top snapshot: ``None`` for an empty image.

    :param source: has the layers, if the content store does not yet.
    :param give_up: see :func:`snapshots.unpacked`.
    """
    from plugrun import snapshots

    return snapshots.unpacked(
        source or engine.images,
        image,
        driver,
        lock_dir=engine.paths.root / "locks",
        mount=lambda what, where: mounts.mount_all(what, str(where)),
        unmount=lambda where: mounts.unmount(str(where)),
        staging=engine.paths.run_root / "staging",
        give_up=give_up,
        progress=progress,
    )


def _shaped(engine: Engine, request: ContainerRequest, config: ContainerConfig) -> ContainerConfig:
    """Let plugins change the draft of a configuration."""
    from plugrun.api import ContainerDraft

    draft = ContainerDraft(
        name=request.name or "",
        image=request.image,
        args=list(config.args),
        env=list(config.env),
        labels=dict(config.labels),
        hostname=config.hostname,
        workdir=config.workdir,
        user=config.user,
    )
    engine.plugins.prepare_config(draft)
    return config._replace(
        args=tuple(draft.args),
        env=tuple(draft.env),
        labels=draft.labels,
        hostname=draft.hostname,
        workdir=draft.workdir,
        user=draft.user,
    )


def _add(engine: Engine, record: ContainerRecord, *, fixed: bool) -> None:
    """Record the container; a suggested name that is taken is replaced by another."""
    for _ in range(_NAME_ATTEMPTS):
        try:
            return engine.containers.add(record)
        except AlreadyExists:
            if fixed:
                raise
            record.name = names.suggest()
    record.name = f"{names.suggest()}_{record.short_id[:4]}"
    return engine.containers.add(record)
