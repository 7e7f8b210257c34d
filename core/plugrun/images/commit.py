"""Images made from containers: the layers of another image, one more on top, and a configuration that follows."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plugrun.container import DEFAULT_STOP_SIGNAL
from plugrun.errors import FailedPrecondition, InvalidArgument
from plugrun.images import changes, layout, media, reference, staging
from plugrun.images import config as configs
from plugrun.images import digest as digests
from plugrun.images.compression import Compression
from plugrun.images.document import parse
from plugrun.images.gzip_out import GzipWriter
from plugrun.images.manifest import Descriptor
from plugrun.request import DEFAULT_PATH
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from plugrun.container import ContainerConfig
    from plugrun.images.image import Image, Staged
    from plugrun.images.ingest import Blob, BlobWriter, Ingest

_OF_IMAGES = frozenset({"architecture", "os", "os.version", "os.features", "variant", "config", "rootfs", "history"})
_UNKNOWN = f"sha256:{64 * '0'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOptions:
    """What the image is to be, beside its files.

    :param reference: its name; ``""`` for none.
    :param changes: Dockerfile instructions, see :func:`plugrun.images.changes.apply`.
    :param pause: whether a running container stands still while its files are read, or copied to be read.
    """

    reference: str = ""
    author: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()
    pause: bool = True


class Packed(NamedTuple):
    """A layer in the working directory.

    :param diff_id: digest of its uncompressed bytes.
    """

    blob: Blob
    diff_id: str


class Draft:
    """An image about to be made; what is wrong with the wishes is found when it is made, before any file is read.

    :param root: the store.
    :param base: the image that the container was made from.
    :raises InvalidArgument: an option makes no sense.
    :raises FailedPrecondition: the base is damaged, or has as many layers as an image can have.
    """

    def __init__(self, root: Path, base: Image, container: ContainerConfig, options: CommitOptions) -> None:
        self._root, self._base = root, base
        self._names = _names(options.reference)
        self._config = _config(root, base, container, options)
        self._check({**self._config, "rootfs": self._rootfs(_UNKNOWN)}, "the configuration of the new image")

    def stage(self, work: Ingest, layer: Packed | None) -> Staged:
        """Put the image's documents, and what it shares with its base, beside its layer.

        :param layer: ``None`` if nothing is different; then it has the layers of its base only, as in Docker.
        :raises FailedPrecondition: the base has been removed, or is damaged.
        """
        history = [*self._config["history"]]
        if layer is None:
            history[-1] = {**history[-1], "empty_layer": True}
        rootfs = self._rootfs(*([layer.diff_id] if layer else []))
        content = self._check({**self._config, "history": history, "rootfs": rootfs}, "the new configuration")
        layers = [_oci(Descriptor(item.media_type, item.digest, item.size)) for item in self._base.layers]
        for item in layers:
            self._share(work, item)
        if layer is not None:
            layers.append(staging.describe(layer.blob, Compression.GZIP))
        return staging.stage_manifest(work, work.add_bytes(content), layers, self._names)

    def _rootfs(self, *diff_ids: str) -> dict[str, Any]:
        return {"type": "layers", "diff_ids": [*self._base.config.diff_ids, *diff_ids]}

    def _check(self, config: dict[str, Any], what: str) -> bytes:
        content = json.dumps(config, separators=(",", ":"), sort_keys=True).encode()
        configs.parse(content, what)  # what an option made unreadable is not stored
        return content

    def _share(self, work: Ingest, layer: Descriptor) -> None:
        """Keep a blob of the base, whoever removes that meanwhile. It was verified when it came."""
        path = layout.blob_path(self._root, layer.digest)
        try:
            whole = path.stat().st_size == layer.size
            work.adopt(path, layer.digest)
        except FileNotFoundError:
            whole = False
        if not whole:
            raise FailedPrecondition(
                f"layer {digests.short(layer.digest)} is missing from the image store, or damaged",
                hint="load the image again",
            )


@contextlib.contextmanager
def packing(work: Ingest) -> Iterator[LayerWriter]:
    """Have a layer to be written for a block; it is kept if the block succeeds."""
    with work.writing() as blob:
        writer = LayerWriter(blob)
        try:
            yield writer
            writer.close()
        finally:
            writer.abandon()


class LayerWriter:
    """Compresses and hashes a layer on its way into the store."""

    def __init__(self, blob: BlobWriter) -> None:
        self._blob = blob
        self._gzip = GzipWriter(blob.write)
        self._hash = digests.hasher("sha256")

    @property
    def packed(self) -> Packed:
        """The layer; after the block of :func:`packing`."""
        return Packed(self._blob.blob, f"sha256:{self._hash.hexdigest()}")

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes of the tar."""
        self._hash.update(data)
        self._gzip.write(data)

    def close(self) -> None:
        """Finish the layer."""
        self._gzip.close()

    def abandon(self) -> None:
        """End the threads; calling it twice is fine."""
        self._gzip.abandon()


def _names(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    wanted = reference.parse(text)
    if wanted.digest:
        raise reference.invalid(text, "a new image can be given a tag, not a digest")
    return (wanted.canonical(),)


def _config(root: Path, base: Image, container: ContainerConfig, options: CommitOptions) -> dict[str, Any]:
    """Return the configuration of the base with what the container and the options say, and one more step."""
    found = _document(root, base.id)
    config = {key: value for key, value in found.items() if key in _OF_IMAGES and value is not None}
    process = {key: value for key, value in (config.get("config") or {}).items() if value is not None}
    process |= _process(base, container)
    for instruction in options.changes:
        changes.apply(process, instruction)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    step = {"created": created, "created_by": " ".join(container.args), "author": options.author}
    step["comment"] = options.message
    config["history"] = [*(config.get("history") or ()), {key: value for key, value in step.items() if value}]
    author = {"author": options.author} if options.author else {}
    return {**config, "config": process, "created": created, **author}


def _process(base: Image, container: ContainerConfig) -> dict[str, Any]:
    """Return what a container like this one needs to be told no more."""
    command = container.args[len(container.entrypoint) :]
    entrypoint = container.entrypoint
    if (*entrypoint, *command) != container.args:  # a plugin has changed them
        entrypoint, command = (), container.args
    env = list(container.env)
    if not any(entry.startswith("PATH=") for entry in base.config.env):
        env = [entry for entry in env if entry != DEFAULT_PATH]  # it comes by itself
    return {
        "Entrypoint": list(entrypoint),
        "Cmd": list(command),
        "Env": env,
        "Labels": dict(container.labels),
        "User": container.user,
        "WorkingDir": container.workdir,
        **({"StopSignal": container.stop_signal} if container.stop_signal != DEFAULT_STOP_SIGNAL else {}),
    }


def _document(root: Path, digest: str) -> dict[str, Any]:
    try:
        return parse(layout.blob_path(root, digest).read_bytes(), f"configuration {digest}").values
    except (FileNotFoundError, InvalidArgument) as error:
        raise FailedPrecondition(
            f"image {digests.short(digest)} is damaged, or has just been removed", hint="load the image again"
        ) from error


def _oci(layer: Descriptor) -> Descriptor:
    """Return a layer's descriptor as an OCI manifest has it, where Docker's types do not belong."""
    kind = layer.media_type
    if kind.startswith(media.DOCKER_LAYER):
        kind = media.OCI_LAYER + kind.removeprefix(media.DOCKER_LAYER).replace(".", "+")
    return layer._replace(media_type=kind)
