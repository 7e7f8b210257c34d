"""Cases: layers unpacked without their parents (:class:`plugrun.api.SupportsLayerDir`)."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import pytest

from plugrun.api import AlreadyExists, NotFound, StorageDriver, SupportsGC, SupportsLayerDir
from plugrun.images.unpack import Whiteouts
from plugrun.testing.processes import run_together
from plugrun.testing.storage_base import StorageCases, write
from plugrun.testing.storage_reference import import_layer, unpack
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

    def test_unpacked_alone_or_onto_its_parent_a_layer_is_the_same(self, layers: LayerDriver) -> None:
        """Directories that a layer has no entry for keep owner, permissions, attributes and time from below."""
        base = _tar([(".", 0o711, 0), ("tmp", 0o1777, 0), ("srv", 0o2750, 7), ("srv/a", 0o700, 8), ("opt", 0o700, 9)])
        top = _tar([("tmp/x", None, 5), ("srv/a/b/y", None, 5), ("opt", 0o755, 1), ("opt/z", None, 5), ("w", None, 0)])
        for name, form in (("alone", Whiteouts.OVERLAY), ("onto", Whiteouts.APPLY)):
            self.layer(layers, f"{name}-base", None, partial(unpack, base, form=Whiteouts.APPLY))
            if form is Whiteouts.APPLY:
                self.layer(layers, f"{name}-top", f"{name}-base", partial(unpack, top, form=form))
                continue
            import_layer(layers, f"{name}-top", f"{name}-base", top)
        seen = self.seen(layers, "alone-top")
        assert seen == self.seen(layers, "onto-top")
        modes = {path: (seen[path][0], seen[path][2]) for path in (".", "tmp", "srv", "srv/a", "srv/a/b", "opt")}
        assert modes == {
            ".": ("0o40711", 0),
            "tmp": ("0o41777", 0),
            "srv": ("0o42750", 7),
            "srv/a": ("0o40700", 8),
            "srv/a/b": ("0o40755", 0),
            "opt": ("0o40755", 1),
        }

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


def _tar(members: list[tuple[str, int | None, int]]) -> bytes:
    """Return a layer of empty files (mode ``None``) and directories, with a group each."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, mode, group in members:
            info = tarfile.TarInfo(name)
            info.type = tarfile.REGTYPE if mode is None else tarfile.DIRTYPE
            info.mode, info.gid, info.mtime = mode or 0o644, group, 1_000_000_000
            archive.addfile(info)
    return out.getvalue()
