"""Space that storage drivers give back after images have been removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugrun import mounts, used_storage
from plugrun.orphans import remove_orphans
from plugrun.unneeded import remove_leftovers, remove_unused

if TYPE_CHECKING:
    from plugrun.api import StorageDriver
    from plugrun.engine import Engine


def free_layers(engine: Engine, *, measure: bool = False) -> int:
    """Remove what drivers have of images that are gone, and of crashes; a driver that cannot is only a warning.

    :param measure: whether to find out how much that frees, for which every file of it is looked at.
    :return: bytes that layers occupied which are gone; 0 if nobody measured.
    """
    locks, staging = engine.paths.root / "locks", engine.paths.run_root / "staging"

    def free(driver: StorageDriver) -> int:
        sizes: dict[str, int] = {}

        def note(name: str) -> None:
            if measure and name not in sizes:
                sizes[name] = driver.usage(name).size

        remove_leftovers(driver, lock_dir=locks, staging=staging, unmount=lambda at: mounts.unmount(str(at)))
        remove_orphans(engine, driver)
        removed = remove_unused(driver, engine.images.list, lock_dir=locks, measure=note)
        return sum(sizes.get(name, 0) for name in removed)

    return sum(used_storage.each(engine, free, "kept layers that nothing needs").values())
