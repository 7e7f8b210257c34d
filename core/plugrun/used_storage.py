"""The storage drivers that have been used on an engine, each acted on whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from plugrun.errors import PlugrunError

if TYPE_CHECKING:
    from plugrun.api import StorageDriver
    from plugrun.engine import Engine

T = TypeVar("T")


def each(engine: Engine, act: Callable[[StorageDriver], T], complaint: str) -> dict[str, T]:
    """Act on every storage driver that has state here; one that fails is a warning.

    :param complaint: what follows the driver's name in the warning.
    :return: what the action returned, by the driver's name.
    """
    found = {}
    for name in engine.plugins.storage:
        if not (engine.paths.root / "storage" / name).exists():
            continue
        try:
            found[name] = act(engine.storage(name, {}))
        except PlugrunError as error:
            engine.warn(f"storage driver {name} {complaint}: {error}")
    return found
