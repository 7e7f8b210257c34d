"""The engine: one object that holds what a command needs, each part made when first used."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING

from plugrun import locks
from plugrun.reserve import Reserve
from plugrun.state.containers import ContainerStore
from plugrun.state.database import Database
from plugrun.state.snapshots import SnapshotStore

if TYPE_CHECKING:
    from plugrun.api import ContainerView, Event, NetworkDriver, StorageDriver
    from plugrun.container import ContainerRecord
    from plugrun.images.store import ImageStore
    from plugrun.manager import Plugins
    from plugrun.oci.runtime import RuntimeClient
    from plugrun.paths import Paths
    from plugrun.state.networks import NetworkStore
    from plugrun.state.volumes import VolumeStore


def _warn(message: str) -> None:
    print(f"plugrun: warning: {message}", file=sys.stderr)


class Engine:
    """Everything that works on one pair of directories. Cheap to make; close it when done.

    :param warn: called with one line about something that does not stop the operation.
    """

    def __init__(self, paths: Paths, *, plugins: Plugins | None = None, warn: Callable[[str], None] = _warn) -> None:
        self.paths = paths
        self.warn = warn
        self._plugins = plugins
        self._storage: dict[tuple[str, frozenset[tuple[str, str]]], StorageDriver] = {}  # by name and options
        self._network: dict[tuple[str, frozenset[tuple[str, str]]], NetworkDriver] = {}
        self._pools: dict[str, int] = {}  # what keeps the pools of open drivers from being removed
        self._reserve = Reserve(paths.reserve)
        self.room = self._reserve.spent  # for drivers, which write down what they undo
        self._database = Database(paths.database, room=self.room)
        self.containers = ContainerStore(self._database)
        self.snapshots = SnapshotStore(self._database)

    def close(self) -> None:
        """Let go of the database and the drivers."""
        for name in {name for name, _ in self._storage}:
            self.close_storage(name)
        while self._network:
            self._network.popitem()[1].close()
        self._database.close()

    @cached_property
    def plugins(self) -> Plugins:
        """The installed plugins, found when first asked for."""
        if self._plugins is not None:
            return self._plugins
        from plugrun.manager import load

        return load()

    @cached_property
    def images(self) -> ImageStore:
        """The content store."""
        from plugrun.images.store import ImageStore

        return ImageStore(self.paths.images, room=self.room)

    @cached_property
    def volumes(self) -> VolumeStore:
        """The records of volumes."""
        from plugrun.state.volumes import VolumeStore

        return VolumeStore(self._database)

    @cached_property
    def networks(self) -> NetworkStore:
        """The records of networks."""
        from plugrun.state.networks import NetworkStore

        return NetworkStore(self._database)

    def unready_volumes(self) -> list[str]:
        """Return the names of volumes that are being made or removed, or were when a process died.

        Asked by every command that changes something, so without loading what knows about volumes.
        """
        return [row[0] for row in self._database.query("SELECT name FROM volumes WHERE NOT ready")]

    def storage(self, name: str, options: Mapping[str, str]) -> StorageDriver:
        """Return the storage driver ``name``, opened once with the same options.

        :raises NotFound: no installed plugin declares it.
        :raises Unavailable: it does not work here; says why.
        :raises InvalidArgument: it has no such option.
        """
        wanted = name, frozenset(options.items())
        if wanted not in self._storage:
            pool = self._use_pool(name)
            try:
                declared = self.plugins.select_storage(name, self.paths.root)
                self._storage[wanted] = self.plugins.open_storage(declared, self.paths.root, options)
            except BaseException:
                if pool is not None:
                    os.close(pool)
                raise
            if pool is not None:
                self._pools[name] = pool
        return self._storage[wanted]

    def _use_pool(self, name: str) -> int | None:
        """Keep the pool of a driver, if it has one, from being removed while the driver is open."""
        from plugrun.drivers import has_pool

        if name in self._pools or not has_pool(self.paths.root, name):
            return None
        from plugrun.pools import record

        return record.use(self.paths.root, name)

    def close_storage(self, name: str) -> None:
        """Let go of one storage driver, and of its pool; of one that is not open, nothing."""
        for opened in [opened for opened in self._storage if opened[0] == name]:
            self._storage.pop(opened).close()
        if (pool := self._pools.pop(name, None)) is not None:
            os.close(pool)

    def tenants(self, storage: str) -> dict[str, list[str]]:
        """Return the names of what is recorded as kept in a storage driver: containers, their snapshots, volumes."""
        containers = sorted(record.name for record in self.containers.all() if record.storage == storage)
        found = {"container": containers}
        for kind in ("snapshot", "volume"):
            query = f"SELECT name FROM {kind}s WHERE storage = ? AND ready ORDER BY name"  # noqa: S608 - ours
            found[kind] = [name for (name,) in self._database.query(query, (storage,))]
        return {kind: names for kind, names in found.items() if names}

    def network(self, name: str, options: Mapping[str, str]) -> NetworkDriver:
        """Return the network driver ``name``, opened once with the same options; raises as :meth:`storage`."""
        wanted = name, frozenset(options.items())
        if wanted not in self._network:
            declared = self.plugins.select_network(name, self.paths.root)
            self._network[wanted] = self.plugins.open_network(declared, self.paths.root, options)
        return self._network[wanted]

    def runtime(self, record: ContainerRecord) -> RuntimeClient:
        """Return the OCI runtime that a container was made with."""
        from plugrun.oci.runtime import Runtime, RuntimeClient

        name = record.runtime.rpartition("/")[2]
        return RuntimeClient(Runtime(name, record.runtime), str(self.paths.runtime_state))

    def locked(self, container_id: str) -> AbstractContextManager[int]:
        """Hold the lock of one container: every change of its state happens inside."""
        return locks.held(self.paths.lock(container_id), what=f"container {container_id[:12]}")

    def notify(self, event: Event, record: ContainerRecord) -> None:
        """Tell plugins what happened; one that fails is a warning."""
        self.plugins.notify(event, view(record))


def view(record: ContainerRecord) -> ContainerView:
    """Return the copy of a record that plugins see."""
    from plugrun.api import ContainerView

    return ContainerView(
        id=record.id,
        name=record.name,
        image=record.config.image,
        storage=record.storage,
        network=record.network,
        labels=dict(record.config.labels),
        pid=record.pid,
        exit_code=record.exit_code,
    )
