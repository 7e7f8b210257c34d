"""Cases: images of every kind of entry, unpacked as the engine does it, against the same ones in a plain directory."""

from __future__ import annotations

import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from plugrun.api import StorageDriver, SupportsLayerDir
from plugrun.images.implied import inherit
from plugrun.images.unpack import Whiteouts, unpack_layer
from plugrun.rootfd import RootDir
from plugrun.testing.storage_base import StorageCases
from plugrun.testing.trees import describe, differences, mounted

_SEEDS = 8
_LAYERS = 4
_ENTRIES = 25


class ReferenceCases(StorageCases):
    """The reference is :func:`plugrun.images.unpack.unpack_layer` with ``Whiteouts.APPLY``, layer upon layer."""

    @pytest.mark.parametrize("seed", range(_SEEDS))
    def test_image_is_what_the_reference_unpacks(self, driver: StorageDriver, tmp_path: Path, seed: int) -> None:
        """Random layers, with whiteouts, opaque directories, types that change, links, devices, owners and times."""
        reference = tmp_path / "reference"
        reference.mkdir()
        dice = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        parent = None
        for number in range(_LAYERS):
            layer = random_layer(dice, reference)
            unpack(layer, reference, form=Whiteouts.APPLY)
            name = f"layer{number}"
            import_layer(driver, name, parent, layer)
            with mounted(driver.view("look", name)) as root:
                wrong = differences(reference, root)
                assert not wrong, f"{name} of seed {seed} differs from the reference at {sorted(wrong)}"
                assert describe(root) == describe(reference), f"{name} of seed {seed}: other hard links"
            driver.remove("look")
            parent = name


def import_layer(driver: StorageDriver, name: str, parent: str | None, layer: bytes) -> None:
    """Make a layer a committed snapshot as the engine does: on its own if the driver can, else onto its parent."""
    if isinstance(driver, SupportsLayerDir):
        place = driver.layer_dir("key")
        implied = unpack(layer, place, form=Whiteouts.OVERLAY)
        if parent is not None:
            with mounted(driver.view("below", parent)) as lower, RootDir.at(place) as own, RootDir.at(lower) as below:
                done = inherit(own.fd, below.fd, implied)
            driver.remove("below")
            assert done, "the layers of these cases lead through no symbolic link"
        driver.commit_layer(name, "key", parent)
        return
    with mounted(driver.prepare("key", parent)) as root:
        unpack(layer, root, form=Whiteouts.APPLY)
    driver.commit(name, "key")


def unpack(layer: bytes, root: Path, *, form: Whiteouts) -> list[bytes]:
    """Unpack a layer into a directory; return as :func:`plugrun.images.unpack.unpack_layer`."""
    with RootDir.at(root) as opened:
        return unpack_layer(io.BytesIO(layer), opened.fd, whiteouts=form)


def random_layer(dice: random.Random, below: Path) -> bytes:
    """Return a layer that fits on the tree ``below``, the same one for the same dice and tree."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _Layer(dice, below, archive).fill()
    return out.getvalue()


class _Layer:
    """Adds entries to an archive: whiteouts of what is below first, then what the layer brings."""

    def __init__(self, dice: random.Random, below: Path, archive: tarfile.TarFile) -> None:
        self._dice = dice
        self._archive = archive
        self._lower = sorted(str(path.relative_to(below)) for path in below.rglob("*"))
        directories = (name for name in self._lower if (below / name).is_dir() and not (below / name).is_symlink())
        self._directories = {".": True} | dict.fromkeys(directories, False)  # name → whether it is this layer's
        self._files: list[str] = []

    def fill(self) -> None:
        self._entry(".", tarfile.DIRTYPE)
        hidden: list[str] = []
        for name in self._dice.sample(self._lower, len(self._lower) // 6):
            if not any(other.startswith(f"{name}/") for other in hidden):  # no honest layer hides both
                self._whiteout(name)
                hidden.append(name)
        for number in range(_ENTRIES):
            kind = self._dice.choice([self._directory, self._file, self._file, self._other, self._link])
            kind(f"{self._parent()}/{self._dice.choice('abcdefgh')}{number % 5}".removeprefix("./"))

    def _whiteout(self, name: str) -> None:
        """Hide an entry, or what is in a directory."""
        if name in self._directories and self._dice.choice([True, False]):
            self._entry(name, tarfile.DIRTYPE)
            self._forget(name, itself=False)
            self._entry(f"{name}/.wh..wh..opq")
        elif os.path.dirname(name) in {"", *self._directories}:
            self._forget(name)
            self._entry(os.path.join(os.path.dirname(name), f".wh.{os.path.basename(name)}"))

    def _directory(self, name: str) -> None:
        self._files = [path for path in self._files if path != name]
        self._directories[name] = True
        self._entry(name, tarfile.DIRTYPE)

    def _file(self, name: str) -> None:
        self._forget(name)
        self._files.append(name)
        self._entry(name, content=self._dice.randbytes(self._dice.choice([0, 10, 5000])))

    def _other(self, name: str) -> None:
        """Add a symbolic link, a pipe or a device."""
        self._forget(name)
        self._entry(name, self._dice.choice([tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]), link="../nowhere")

    def _link(self, name: str) -> None:
        """Add another name of a file of this layer."""
        self._files = [path for path in self._files if path != name]
        if self._files:
            target = self._dice.choice(self._files)
            self._forget(name)
            self._entry(name, tarfile.LNKTYPE, link=target)

    def _forget(self, name: str, *, itself: bool = True) -> None:
        """Note that ``name`` is no directory any more, or only that nothing is below it."""
        self._directories = {
            path: own
            for path, own in self._directories.items()
            if not path.startswith(f"{name}/") and (path != name or not itself)
        }
        self._files = [path for path in self._files if not path.startswith(f"{name}/") and path != name]

    def _parent(self) -> str:
        return self._dice.choice(sorted(self._directories))

    def _entry(self, name: str, kind: bytes = tarfile.REGTYPE, *, content: bytes = b"", link: str = "") -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, len(content)
        info.mode = self._dice.choice([0o644, 0o600, 0o755, 0o4755, 0o1777])
        info.uid, info.gid = self._dice.randrange(3), self._dice.randrange(3)
        info.mtime = self._dice.randrange(2**31)
        info.devmajor, info.devminor = 1, 3
        if kind in {tarfile.REGTYPE, tarfile.DIRTYPE} and not os.path.basename(name).startswith(".wh."):
            info.pax_headers = {"SCHILY.xattr.user.note": str(self._dice.randrange(5))}
        self._archive.addfile(info, io.BytesIO(content))
