"""Cases: which keys and names work, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugrun.api import InvalidArgument, NotFound, StorageDriver, SupportsClone, SupportsLayerDir
from plugrun.testing.storage_base import StorageCases, write
from plugrun.testing.trees import mounted

_BAD = ["", ".", "..", "../x", "a/b", "/etc", "a/../b", "./a", "a/"]


class NameCases(StorageCases):
    """The core chooses keys and names; a driver that trusts them is one mistake away from the host's files."""

    @pytest.mark.parametrize("name", ["0", "a.b_c-d", "x" * 100, "f" * 64, "active", "committed", "fs", "lock", "work"])
    def test_names_are_path_components(self, driver: StorageDriver, name: str) -> None:
        """Whatever the alphabet allows works as key and as name, also the driver's own words."""
        self.layer(driver, name, None, write("a"))
        other = "k" + name[1:] if len(name) > 1 else "k"
        with mounted(driver.prepare(other, name)) as root:
            assert (root / "a").read_text() == "text"
        assert set(self.known(driver)) == {name, other}
        driver.remove(other)
        driver.remove(name)
        assert self.known(driver) == {}

    @pytest.mark.parametrize("key", _BAD)
    def test_key_that_is_no_path_component_is_refused(self, driver: StorageDriver, state: Path, key: str) -> None:
        """Nothing is made of it, looked up by it or removed by it, inside the state directory or out of it."""
        beside = state.parent / "x"
        beside.mkdir(exist_ok=True)
        write("precious")(beside)
        self.layer(driver, "image", None, write("a"))
        driver.prepare("web", None)
        known, around = self.known(driver), sorted(state.parent.iterdir())
        for make in (driver.prepare, driver.view):
            with pytest.raises(InvalidArgument):
                make(key, None)
        with pytest.raises(InvalidArgument):
            driver.commit(key, "web")
        for use in (driver.mounts, driver.stat, driver.usage, driver.remove, lambda bad: driver.commit("new", bad)):
            with pytest.raises((InvalidArgument, NotFound)):
                use(key)
        with pytest.raises((InvalidArgument, NotFound)):
            driver.prepare("new", key)
        assert self.known(driver) == known
        assert sorted(state.parent.iterdir()) == around
        assert (beside / "precious").read_text() == "text"

    @pytest.mark.parametrize("key", _BAD)
    def test_optional_methods_refuse_it_too(self, driver: StorageDriver, key: str) -> None:
        """As :meth:`test_key_that_is_no_path_component_is_refused`, for what a driver may do besides."""
        driver.prepare("web", None)
        if isinstance(driver, SupportsClone):
            with pytest.raises(InvalidArgument):
                driver.clone(key, "web")
            with pytest.raises((InvalidArgument, NotFound)):
                driver.clone("copy", key)
        if isinstance(driver, SupportsLayerDir):
            with pytest.raises(InvalidArgument):
                driver.layer_dir(key)
            driver.layer_dir("staged")
            with pytest.raises(InvalidArgument):
                driver.commit_layer(key, "staged", None)
            with pytest.raises((InvalidArgument, NotFound)):
                driver.commit_layer("image", "staged", key)
        assert set(self.known(driver)) == {"web"}
