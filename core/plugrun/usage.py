"""What containers occupy: what each has written, and what it stands on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from plugrun.errors import NotFound, PlugrunError
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.api import StorageDriver
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine


class Sizes(NamedTuple):
    """Bytes that one container occupies.

    :param own: of its writable layer alone, Docker's ``SizeRw``.
    :param whole: together with the layers of its image, which others may share: Docker's ``SizeRootFs``.
    """

    own: int
    whole: int


def measure(engine: Engine, records: Iterable[ContainerRecord]) -> dict[str, Sizes]:
    """Look at the files of containers, and once at those of each layer that they stand on.

    :return: by container id; without those that cannot be measured, which is a warning.
    """
    layers: dict[tuple[str, str], int] = {}
    found = {}
    for record in records:
        try:
            driver = engine.storage(record.storage, record.storage_options)
            own = driver.usage(record.snapshot).size
            found[record.id] = Sizes(own, own + _below(driver, record, layers))
        except NotFound:  # removed meanwhile, or not made yet
            continue
        except PlugrunError as error:
            engine.warn(f"the size of container {record.name} is unknown: {error}")
    return found


def _below(driver: StorageDriver, record: ContainerRecord, layers: dict[tuple[str, str], int]) -> int:
    """Return what the layers that a container stands on occupy.

    :param layers: what is known of layers already, by driver and name.
    """
    total = 0
    parent = driver.stat(record.snapshot).parent
    while parent is not None:
        at = (record.storage, parent)
        if at not in layers:
            layers[at] = driver.usage(parent).size
        total += layers[at]
        parent = driver.stat(parent).parent
    return total
