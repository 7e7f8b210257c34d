"""The image that containers to be committed are made from: busybox, and above it a layer of 50,000 files."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import IO, cast

from pull_images import Source, fill_many_files

NAME = "bench-commit"
FILES = 50_000
TOUCHED = [f"package{number}/module1/source3.txt" for number in range(10)]


class Tree:
    """A tar archive, as :class:`pull_images.Layer` without its packing."""

    def __init__(self, place: IO[bytes]) -> None:
        self._tar = tarfile.TarFile(fileobj=place, mode="w", format=tarfile.PAX_FORMAT)

    def directory(self, name: str) -> None:
        self._add(name, tarfile.DIRTYPE, 0o755, b"")

    def file(self, name: str, data: bytes) -> None:
        self._add(name, tarfile.REGTYPE, 0o644, data)

    def close(self) -> None:
        self._tar.close()

    def _add(self, name: str, kind: bytes, mode: int, data: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.size, entry.mtime = kind, mode, len(data), 1_700_000_000
        self._tar.addfile(entry, io.BytesIO(data))


def make(place: Path, busybox: Path) -> Path:
    """Return a docker-archive of the image, which is made when it is not there.

    :param busybox: docker-archive of the image below it.
    """
    archive = place / "commit.docker.tar"
    if not archive.exists():
        place.mkdir(parents=True, exist_ok=True)
        unfinished = archive.with_suffix(".new")
        _write(unfinished, busybox)
        unfinished.rename(archive)
    return archive


def _write(target: Path, busybox: Path) -> None:
    with tarfile.open(busybox) as base:
        manifest = json.loads(_read(base, "manifest.json"))[0]
        config = json.loads(_read(base, manifest["Config"]))
        lower = _read(base, manifest["Layers"][0])
    files = io.BytesIO()
    tree = Tree(files)
    fill_many_files(Source("commit"), cast("object", tree))  # type: ignore[arg-type]
    tree.close()
    layers = {"lower.tar": lower, "files.tar": files.getvalue()}
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers.values()]
    config = {key: config[key] for key in ("architecture", "os", "config") if key in config}
    config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    entry = {"Config": "config.json", "RepoTags": [f"{NAME}:latest"], "Layers": list(layers)}
    with target.open("wb") as stream:
        archive = Tree(stream)
        for name, data in {
            **layers,
            "config.json": json.dumps(config).encode(),
            "manifest.json": json.dumps([entry]).encode(),
        }.items():
            archive.file(name, data)
        archive.close()


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    return cast("IO[bytes]", archive.extractfile(name)).read()
