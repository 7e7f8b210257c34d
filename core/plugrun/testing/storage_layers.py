"""Cases: layers unpacked without their parents (:class:`plugrun.api.SupportsLayerDir`)."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol, runtime_checkable

import pytest

from plugrun.api import AlreadyExists, NotFound, StorageDriver, SupportsGC, SupportsLayerDir
from plugrun.testing.processes import run_together
from plugrun.testing.storage_base import StorageCases, write
from plugrun.testing.trees import mounted

_LAYERS = 6


@runtime_checkable
class LayerDriver(StorageDriver, SupportsLayerDir, Protocol):
    """A storage driver that also unpacks layers on their own."""


class LayerCases(StorageCases):
    """Skipped for drivers that do not declare it."""

    @pytest.fixture
    def layers(self, driver: StorageDriver) -> LayerDriver:
        """Return the driver if it can do this."""
        if not isinstance(driver, LayerDriver):
            pytest.skip("the driver does not declare SupportsLayerDir")
        return driver

    def test_layer_dir_is_an_empty_root_directory(self, layers: LayerDriver) -> None:
        """It is empty, a container's ``/`` in mode and owner, and not a snapshot yet."""
        place = layers.layer_dir("key")
        assert list(place.iterdir()) == []
        assert (oct(place.stat().st_mode & 0o7777), place.stat().st_uid) == ("0o755", 0)
        assert "key" not in self.known(layers)
        with pytest.raises(AlreadyExists):
            layers.layer_dir("key")
        with pytest.raises(AlreadyExists):
            layers.prepare("key", None)

    def test_layers_may_be_filled_in_any_order(self, layers: LayerDriver) -> None:
        """All staged at once, committed from the bottom up; the stack shows every layer."""
        places = [layers.layer_dir(f"key{number}") for number in range(_LAYERS)]
        for number in reversed(range(_LAYERS)):
            write(f"d/file{number}", str(number))(places[number])
            write("d/same", str(number))(places[number])
        parent = None
        for number in range(_LAYERS):
            layers.commit_layer(f"layer{number}", f"key{number}", parent)
            parent = f"layer{number}"
            assert layers.stat(parent).parent == (f"layer{number - 1}" if number else None)
        with mounted(layers.prepare("web", parent)) as root:
            assert (root / "d/same").read_text() == str(_LAYERS - 1)
            assert len(list((root / "d").iterdir())) == _LAYERS + 1

    def test_layers_may_come_from_several_processes(self, layers: LayerDriver, state: Path) -> None:
        """Processes stage, fill and commit different layers on one base at the same time."""
        layers.layer_dir("key")
        layers.commit_layer("base", "key", None)

        def unpack(number: int) -> None:
            driver = self.open(state)
            assert isinstance(driver, SupportsLayerDir)
            write("f", str(number))(driver.layer_dir(f"key{number}"))
            driver.commit_layer(f"layer{number}", f"key{number}", "base")

        outcomes = run_together([lambda number=number: unpack(number) for number in range(_LAYERS)])  # type: ignore[misc]
        assert set(outcomes) == {"ok"}
        assert len(self.known(layers)) == _LAYERS + 1

    def test_whiteouts_hide_what_is_below(self, layers: LayerDriver) -> None:
        """A device 0:0 hides one entry, an opaque directory everything of the same directory below."""
        below = layers.layer_dir("below")
        for name in ("gone", "kept", "opaque/old"):
            write(name)(below)
        above = layers.layer_dir("above")
        os.mknod(above / "gone", stat.S_IFCHR, os.makedev(0, 0))
        write("opaque/new")(above)
        os.setxattr(above / "opaque", "trusted.overlay.opaque", b"y")
        layers.commit_layer("lower", "below", None)
        layers.commit_layer("upper", "above", "lower")
        assert set(self.seen(layers, "upper")) == {".", "kept", "opaque", "opaque/new"}
        assert set(self.seen(layers, "lower")) == {".", "gone", "kept", "opaque", "opaque/old"}

    def test_commit_layer_to_a_taken_name_leaves_the_key(self, layers: LayerDriver) -> None:
        """The staged layer stays, with its content, and can be committed under another name."""
        for key in ("one", "two"):
            write(key)(layers.layer_dir(key))
        layers.commit_layer("image", "one", None)
        with pytest.raises(AlreadyExists):
            layers.commit_layer("image", "two", None)
        layers.commit_layer("other", "two", None)
        assert set(self.seen(layers, "other")) == {".", "two"}

    def test_commit_layer_needs_key_and_parent(self, layers: LayerDriver) -> None:
        """An unknown key or parent is not found, nothing is committed, and the key stays."""
        layers.layer_dir("key")
        layers.prepare("active", None)
        for key, parent in (("unknown", None), ("active", None), ("key", "unknown"), ("key", "active")):
            with pytest.raises(NotFound):
                layers.commit_layer("image", key, parent)
        layers.commit_layer("image", "key", None)

    def test_staged_layer_can_be_removed(self, layers: LayerDriver) -> None:
        """An unpacking that failed is undone by removing its key."""
        write("d/f")(layers.layer_dir("key"))
        layers.remove("key")
        with pytest.raises(NotFound):
            layers.remove("key")
        assert list(layers.layer_dir("key").iterdir()) == []

    def test_gc_takes_staged_layers_that_nobody_wants(self, layers: LayerDriver) -> None:
        """A staged layer survives if its key is valid, and goes if it is not."""
        if not isinstance(layers, SupportsGC):
            pytest.skip("the driver does not declare SupportsGC")
        wanted, unwanted = layers.layer_dir("wanted"), layers.layer_dir("unwanted")
        layers.gc(frozenset({"wanted"}))
        assert wanted.is_dir()
        assert not unwanted.exists()
        layers.commit_layer("image", "wanted", None)
