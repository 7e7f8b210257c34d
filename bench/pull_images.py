"""Three images to pull, each made to cost something else: many layers, many files, many bytes.

Written as one OCI layout, entry by entry from seeded random numbers, so that every machine measures the same content.
Text is words of the frequencies of a language, slices of one pool longer than gzip's window: it packs about three to
one. Random bytes do not pack at all.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import random
import shutil
import string
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

RECIPE = 1  # raise to have them made again
LEVEL = 6  # of gzip, as most builders pack
MEDIA = "application/vnd.oci.image."
REF_NAME = "org.opencontainers.image.ref.name"
BLOCK = 1 << 16


@dataclass(frozen=True)
class Image:
    """One image; sizes in bytes of all layers together, ``entries`` counts files and directories."""

    name: str
    about: str
    layers: tuple[str, ...]  # digests of the packed layers
    packed: int
    unpacked: int
    entries: int


class Source:
    """Seeded content."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        words = [
            "".join(self.random.choices(string.ascii_lowercase, k=self.random.randint(2, 11))) for _ in range(4000)
        ]
        weights = [1 / rank for rank in range(1, len(words) + 1)]  # Zipf's law
        self.pool = " ".join(self.random.choices(words, weights, k=400_000)).encode()

    def text(self, size: int) -> bytes:
        start = self.random.randrange(len(self.pool) - size)
        return self.pool[start : start + size]

    def blocks(self, size: int) -> Iterator[bytes]:
        """Yield a third of random bytes among text: about two to one when packed, as programs are."""
        for _ in range(size // BLOCK):
            yield self.random.randbytes(BLOCK) if self.random.random() < 0.27 else self.text(BLOCK)


class Layer:
    """A layer that is packed and hashed while it is written."""

    def __init__(self, place: BinaryIO) -> None:
        self.packed = _Counted(place)
        # Neither time nor name in the gzip header: the same every time.
        self._gzip = gzip.GzipFile(
            filename="", mode="wb", compresslevel=LEVEL, fileobj=cast("IO[bytes]", self.packed), mtime=0
        )
        self.plain = _Counted(self._gzip)
        self._tar = tarfile.TarFile(fileobj=cast("IO[bytes]", self.plain), mode="w", format=tarfile.PAX_FORMAT)
        self.entries = 0

    def directory(self, name: str) -> None:
        self._add(name, tarfile.DIRTYPE, 0o755, 0, io.BytesIO())

    def file(self, name: str, data: bytes) -> None:
        self._add(name, tarfile.REGTYPE, 0o644, len(data), io.BytesIO(data))

    def stream(self, name: str, size: int, blocks: Iterator[bytes]) -> None:
        self._add(name, tarfile.REGTYPE, 0o755, size, cast("IO[bytes]", _Blocks(blocks)))

    def close(self) -> None:
        self._tar.close()
        self._gzip.close()

    def _add(self, name: str, kind: bytes, mode: int, size: int, content: IO[bytes]) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.size, entry.mtime = kind, mode, size, 1_700_000_000
        self._tar.addfile(entry, content)
        self.entries += 1


class _Counted(io.RawIOBase):
    """Passes on, counts and hashes what is written."""

    def __init__(self, place: Any) -> None:
        self._place, self._hash, self.size = place, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._hash.update(data)
        self.size += len(data)
        self._place.write(data)
        return len(data)

    def tell(self) -> int:
        return self.size

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


class _Blocks(io.RawIOBase):
    """Reads what an iterator yields."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, b""

    def read(self, size: int = -1) -> bytes:
        while len(self._rest) < size:
            self._rest += next(self._blocks)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


# --- The images ---------------------------------------------------------------------------------------------


def small_layers(source: Source) -> Iterator[Callable[[Layer], None]]:
    """60 layers of 10 files, 50 to 200 kB each."""
    for number in range(60):
        yield lambda layer, number=number: _small_layer(source, layer, number)  # type: ignore[misc]


def _small_layer(source: Source, layer: Layer, number: int) -> None:
    size = source.random.randint(5_000, 20_000)
    layer.directory("app")
    layer.directory(f"app/layer{number}")
    for file in range(10):
        layer.file(f"app/layer{number}/file{file}", source.text(size))


def many_files(source: Source) -> Iterator[Callable[[Layer], None]]:
    """One layer of 50,000 files in 2,500 directories, 2 kB each on average."""
    yield lambda layer: fill_many_files(source, layer)


def fill_many_files(source: Source, layer: Layer) -> None:
    for top in range(50):
        layer.directory(f"package{top}")
        for below in range(49):
            layer.directory(f"package{top}/module{below}")
            for file in range(20 if below else 40):
                size = min(int(source.random.expovariate(1 / 2048)), 60_000)
                layer.file(f"package{top}/module{below}/source{file}.txt", source.text(size))


def large_files(source: Source) -> Iterator[Callable[[Layer], None]]:
    """One layer of 500 MB in five files."""
    yield lambda layer: _large_files(source, layer)


def _large_files(source: Source, layer: Layer) -> None:
    size = 100_000_000 // BLOCK * BLOCK
    for number in range(5):
        layer.stream(f"library{number}.so", size, source.blocks(size))


IMAGES = {"layers": small_layers, "files": many_files, "bytes": large_files}


# --- The layout ---------------------------------------------------------------------------------------------


def make(directory: Path) -> list[Image]:
    """Return the images of the layout at ``directory``, which is made when it is not there."""
    index = directory / "bench.json"
    if not index.exists() or json.loads(index.read_text())["recipe"] != RECIPE:
        shutil.rmtree(directory, ignore_errors=True)
        (directory / "blobs" / "sha256").mkdir(parents=True)
        made = {name: _write_image(directory, name) for name in IMAGES}
        manifests = [descriptor for _, descriptor in made.values()]
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
        index.write_text(json.dumps({"recipe": RECIPE, "images": [vars(image) for image, _ in made.values()]}))
    return [Image(**{**one, "layers": tuple(one["layers"])}) for one in json.loads(index.read_text())["images"]]


def _write_image(directory: Path, name: str) -> tuple[Image, dict[str, Any]]:
    layers = [_write_layer(directory, fill) for fill in IMAGES[name](Source(name))]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    config = {
        "architecture": machine,
        "os": "linux",
        "config": {"Cmd": ["/none"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.plain.digest for layer in layers]},
    }
    packed = [_described("layer.v1.tar+gzip", layer.packed.digest, layer.packed.size) for layer in layers]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MEDIA + "manifest.v1+json",
        "config": _write_json(directory, "config.v1+json", config),
        "layers": packed,
    }
    descriptor = _write_json(directory, "manifest.v1+json", manifest) | {"annotations": {REF_NAME: name}}
    image = Image(
        name=name,
        about=(IMAGES[name].__doc__ or "").rstrip(".").replace("One", "one", 1),
        layers=tuple(layer.packed.digest for layer in layers),
        packed=sum(layer.packed.size for layer in layers),
        unpacked=sum(layer.plain.size for layer in layers),
        entries=sum(layer.entries for layer in layers),
    )
    return image, descriptor


def _write_layer(directory: Path, fill: Callable[[Layer], None]) -> Layer:
    new = directory / "blobs" / "new"
    with new.open("wb") as stream:
        layer = Layer(stream)
        fill(layer)
        layer.close()
    os.rename(new, blob(directory, layer.packed.digest))
    return layer


def _write_json(directory: Path, kind: str, value: Any) -> dict[str, Any]:
    data = json.dumps(value).encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    blob(directory, digest).write_bytes(data)
    return _described(kind, digest, len(data))


def blob(directory: Path, digest: str) -> Path:
    return directory / "blobs" / digest.replace(":", "/")


def _described(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": MEDIA + kind, "digest": digest, "size": size}


if __name__ == "__main__":
    for made in make(Path(__file__).resolve().parent.parent / ".cache" / "bench"):
        print(made)
