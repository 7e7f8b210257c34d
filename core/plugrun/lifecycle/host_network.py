"""What network drivers keep on the host: brought back when others removed it, removed when nobody needs it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from plugrun import locks, namespaces
from plugrun.container import Status
from plugrun.errors import PlugrunError

if TYPE_CHECKING:
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine


def reload(engine: Engine, records: Iterable[ContainerRecord], *, force: bool = False) -> dict[str, bool]:
    """Have drivers bring back what is missing for running containers, as after a firewall's restart.

    A driver that cannot is a warning.

    :param records: the running containers.
    :param force: see :meth:`plugrun.api.SupportsReload.reload`.
    :return: whether something was missing, by driver.
    """
    from plugrun.api import SupportsReload

    found = {}
    for name in dict.fromkeys(endpoint.driver for record in records for endpoint in record.endpoints):
        try:
            driver = engine.network(name, {})
            if isinstance(driver, SupportsReload):
                with engine.room():
                    found[name] = driver.reload(force=force)
        except (PlugrunError, OSError) as error:
            engine.warn(f"network driver {name} cannot see to its rules: {error}")
    return found


def collect(engine: Engine) -> None:
    """Have every driver remove what it has of containers that do not run, and remove their namespaces' pins.

    A driver that cannot is a warning. Nothing is set up meanwhile (:func:`setting_up`), so that whatever a driver finds
    has its record by then.
    """
    with _in_use(engine, shared=False), engine.room():
        alive = engine.containers.all(Status.STARTING, Status.RUNNING)
        valid = frozenset(record.id for record in alive)
        for name, declared in engine.plugins.network.items():
            try:
                if declared.reason(engine.paths.root / "network" / name) is None:
                    engine.network(name, {}).gc(valid)
            except (PlugrunError, OSError) as error:
                engine.warn(f"network driver {name} cannot collect what is left: {error}")
        for name in set(os.listdir(engine.paths.run_root / "netns")) - valid:
            namespaces.delete(engine.paths.netns(name))


def setting_up(engine: Engine) -> AbstractContextManager[int]:
    """Hold off :func:`collect` while an endpoint is set up; others may set up theirs. Its record comes first."""
    return _in_use(engine, shared=True)


def _in_use(engine: Engine, *, shared: bool) -> AbstractContextManager[int]:
    return locks.held(engine.paths.network_use_lock, what="what containers have on networks", shared=shared)
