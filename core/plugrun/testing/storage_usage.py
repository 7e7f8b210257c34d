"""Cases: what a snapshot takes, and what is left when it is gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plugrun.api import NotFound, StorageDriver, SupportsClone, SupportsLayerDir
from plugrun.mounts import mount_points
from plugrun.testing.storage_base import StorageCases, write
from plugrun.testing.trees import mounted, sync

_MIB = 2**20


class UsageCases(StorageCases):
    """Space is counted for whom it belongs to, and comes back; nothing else is kept either."""

    def test_usage_is_the_snapshot_s_own(self, driver: StorageDriver) -> None:
        """A mebibyte in the parent is not the child's; two hard links are one inode."""
        self.layer(driver, "image", None, write("large", "x" * 2**20))
        with mounted(driver.prepare("web", "image")) as root:
            empty = driver.usage("web")
            write("own", "y" * 2**18)(root)
            (root / "twin").hardlink_to(root / "own")
        own = driver.usage("web")
        assert driver.usage("image").size >= 2**20
        assert empty.size < 2**16
        assert 2**18 <= own.size - empty.size < 2**19
        assert own.inodes - empty.inodes == 1
        with pytest.raises(NotFound):
            driver.usage("unknown")

    def test_usage_follows_what_is_written_and_deleted(self, driver: StorageDriver) -> None:
        """It grows with a snapshot, and shrinks again to what it was, a little for directories apart."""
        self.layer(driver, "image", None, write("large", "x" * _MIB))
        with mounted(driver.prepare("web", "image")) as root:
            sizes = [self.measured(driver, root)]
            for number in range(2):
                (root / f"file{number}").write_bytes(os.urandom(_MIB))
                sizes.append(self.measured(driver, root))
            for number in range(2):
                (root / f"file{number}").unlink()
                sizes.append(self.measured(driver, root))
        empty, one, two, one_again, empty_again = sizes
        assert _MIB <= one - empty < 1.5 * _MIB
        assert _MIB <= two - one < 1.5 * _MIB
        assert abs(one_again - one) < _MIB // 8
        assert abs(empty_again - empty) < _MIB // 8

    def test_usage_of_holes_is_nothing(self, driver: StorageDriver) -> None:
        """A file of a gibibyte that was never written takes no space: bytes allocated count, not sizes."""
        with mounted(driver.prepare("web", None)) as root:
            write("disk")(root)
            os.truncate(root / "disk", 1024 * _MIB)
            assert self.measured(driver, root) < _MIB

    @staticmethod
    def measured(driver: StorageDriver, root: Path) -> int:
        """Return the size of ``web``, mounted at ``root``, with everything on the device."""
        sync(root)
        return driver.usage("web").size

    # --- Leaks ----------------------------------------------------------------------------------------------------

    def test_nothing_is_left_of_what_was_removed(self, driver: StorageDriver, state: Path) -> None:
        """After a life with every method, an empty driver's state directory has the entries it had at the start."""
        self.live_and_remove(driver)
        self.clean(driver)
        before = sorted(state.rglob("*"))
        for _ in range(2):
            self.live_and_remove(driver)
        self.clean(driver)
        assert self.known(driver) == {}
        assert sorted(state.rglob("*")) == before

    def test_no_descriptor_and_no_mount_is_left(self, driver: StorageDriver, state: Path) -> None:
        """A driver that is closed holds nothing open, and left nothing mounted in its state directory."""

        def held() -> tuple[int, list[str]]:
            return len(os.listdir("/proc/self/fd")), sorted(
                point for point in mount_points() if Path(point).is_relative_to(state.resolve())
            )

        before = held()
        for _ in range(2):
            other = self.open(state)
            self.live_and_remove(other)
            with pytest.raises(NotFound):
                other.mounts("web")
            other.close()
        assert held() == before
        assert self.known(driver) == {}

    def live_and_remove(self, driver: StorageDriver) -> None:
        """Use what the driver has, and remove all of it."""
        self.layer(driver, "image", None, write("d/e/f"))
        with mounted(driver.prepare("web", "image")) as root:
            write("d/e/own")(root)
            (root / "d/e/f").unlink()
            sync(root)
        driver.view("look", "image")
        keys = ["web", "look"]
        if isinstance(driver, SupportsClone):
            driver.clone("copy", "web")
            keys.append("copy")
        if isinstance(driver, SupportsLayerDir):
            for name, parent in (("layer", "image"), ("staged", None)):
                write("d/other")(driver.layer_dir(name if parent is None else "key"))
                if parent is not None:
                    driver.commit_layer(name, "key", parent)
                keys.append(name)
        driver.prepare("more", "image")
        driver.commit("derived", "more")
        for key in (*keys, "derived", "image"):
            driver.remove(key)
