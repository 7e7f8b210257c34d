"""What the storage cases share: opening the driver, making layers, looking at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from plugrun.api import SnapshotInfo, StorageDriver, SupportsGC
from plugrun.testing.trees import Tree, describe, mounted

Fill = Callable[[Path], object]


class StorageCases:
    """Base of every group of cases.

    :cvar features: words for what a driver may or may not do; see :class:`plugrun.testing.StorageContract`.
    """

    features: ClassVar[frozenset[str]] = frozenset()

    def open(self, state: Path) -> StorageDriver:
        """Open the driver on a state directory, which exists and may hold what an earlier one left. Required."""
        raise NotImplementedError

    @pytest.fixture
    def state(self, tmp_path: Path) -> Path:
        """Return an empty state directory, mode 0700. Override it for a driver that needs a file system of its own."""
        state = tmp_path / "state"
        state.mkdir(mode=0o700)
        return state

    @pytest.fixture
    def driver(self, state: Path) -> Iterator[StorageDriver]:
        """Return a driver on the empty state directory."""
        driver = self.open(state)
        yield driver
        driver.close()

    def skip_without(self, state: Path, protocol: type) -> None:
        """Skip a case for drivers that do not declare an optional protocol."""
        place = state / "asking"
        place.mkdir(mode=0o700)
        driver = self.open(place)
        driver.close()
        if not isinstance(driver, protocol):
            pytest.skip(f"the driver does not declare {protocol.__name__}")

    @staticmethod
    def layer(driver: StorageDriver, name: str, parent: str | None, fill: Fill) -> Tree:
        """Make a committed snapshot as the engine imports a layer; return what it held when it was filled."""
        key = f"filling-{name}"[:100]
        with mounted(driver.prepare(key, parent)) as root:
            fill(root)
            tree = describe(root, times=True)
        driver.commit(name, key)
        return tree

    @staticmethod
    def seen(driver: StorageDriver, parent: str | None, *, times: bool = False) -> Tree:
        """Return what a view of a committed snapshot shows."""
        with mounted(driver.view("looking", parent)) as root:
            tree = describe(root, times=times)
        driver.remove("looking")
        return tree

    @staticmethod
    def known(driver: StorageDriver) -> dict[str, SnapshotInfo]:
        """Return what the driver knows, by name, each name once."""
        infos = list(driver.walk())
        by_name = {info.name: info for info in infos}
        assert len(by_name) == len(infos), f"walk() repeats itself: {infos}"
        return by_name

    @staticmethod
    def clean(driver: StorageDriver) -> None:
        """Have the driver remove its leftovers, if it can, with everything it shows being valid."""
        if isinstance(driver, SupportsGC):
            driver.gc(frozenset(info.name for info in driver.walk()))


def write(name: str, text: str = "text") -> Fill:
    """Return a filler that writes one file, making its directories."""

    def fill(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    return fill
