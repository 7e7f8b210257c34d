"""The storage drivers that have been used on an engine, each acted on whatever becomes of the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from plugrun.drivers import has_pool, state_dir
from plugrun.errors import PlugrunError
from plugrun.pools import record

if TYPE_CHECKING:
    from plugrun.api import StorageDriver
    from plugrun.engine import Engine

T = TypeVar("T")


def each(engine: Engine, act: Callable[[StorageDriver], T], complaint: str, *, mount: bool = True) -> dict[str, T]:
    """Act on every storage driver that has state here; one that fails is a warning.

    :param complaint: what follows the driver's name in the warning.
    :param mount: whether to mount a pool for that; else a driver whose pool is not mounted is left out.
    :return: what the action returned, by the driver's name.
    """
    found = {}
    for name in engine.plugins.storage:
        place = state_dir(engine.paths.root, "storage", name)
        if not place.exists():
            continue
        if not mount and record.find(engine.paths.root, name) and not os.path.ismount(place):
            continue
        try:
            found[name] = act(engine.storage(name, {}))
        except PlugrunError as error:
            engine.warn(f"storage driver {name} {complaint}: {error}")
    return found


def keeps_nothing(engine: Engine, name: str) -> bool:
    """Whether a storage driver has nothing on an engine: neither a pool nor anything in its state directory.

    So it is after a lost pool was given up; all that the records still name in it is gone.
    """
    place = state_dir(engine.paths.root, "storage", name)
    return not has_pool(engine.paths.root, name) and not (place.exists() and os.listdir(place))
