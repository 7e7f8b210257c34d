"""What an image is, and how one is read from the content store."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from plugrun.errors import FailedPrecondition, InvalidArgument
from plugrun.images import config as configs
from plugrun.images import layout, manifest, platform
from plugrun.images.manifest import Descriptor, Manifest
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from plugrun.images.config import ImageConfig


class Layer(NamedTuple):
    """One layer of an image.

    :param digest: of the bytes as stored, as is ``size``.
    :param diff_id: digest of the uncompressed bytes.
    """

    digest: str
    size: int
    media_type: str
    diff_id: str


class Image(NamedTuple):
    """An image in the store.

    :param id: digest of its configuration, ``sha256:…``.
    :param references: its names, canonical, in the order they were given.
    :param layers: lowest first.
    :param size: bytes of all its blobs, as stored.
    :param sources: the digest that a registry has under each of its names; ``""`` for a name that was not pulled.
    """

    id: str
    references: tuple[str, ...]
    manifest_digest: str
    config: ImageConfig
    layers: tuple[Layer, ...]
    size: int
    sources: Mapping[str, str] = MappingProxyType({})


class Staged(NamedTuple):
    """An image whose blobs are verified and kept, about to get its names.

    :param references: canonical.
    :param blobs: digests of everything it needs, its manifest included.
    :param label: what its archive calls it, when that is no reference; else ``""``.
    :param source: the digest that the registry has under these names, if the image comes from one.
    """

    manifest: Descriptor
    image_id: str
    references: tuple[str, ...]
    blobs: frozenset[str]
    label: str = ""
    source: str = ""


class LoadedImage(NamedTuple):
    """An image that was added.

    :param references: the names it got, canonical.
    :param replaced: names among them that belonged to another image, and that image's id.
    :param label: what its archive calls it, when that is no reference and so it got no name; else ``""``.
    """

    id: str
    references: tuple[str, ...]
    replaced: Mapping[str, str]
    label: str = ""


class Removed(NamedTuple):
    """One thing that a removal took away.

    :param untagged: a canonical reference.
    :param deleted: an image id.
    """

    untagged: str | None = None
    deleted: str | None = None


def read_manifest(root: Path, entry: Descriptor) -> Manifest:
    """Read the manifest of one entry of the store's index, through one nested index if another tool wrote that.

    :raises FailedPrecondition: a blob is missing or damaged.
    """
    for _ in range(2):
        data = layout.read_blob(root, entry.digest, entry.size)
        try:
            found = manifest.parse(data, f"manifest {entry.digest}", media_type=entry.media_type)
            if isinstance(found, Manifest):
                return found
            entry = platform.choose(found.manifests, f"index {entry.digest}")
        except InvalidArgument as error:
            raise FailedPrecondition(f"the image store is damaged: {error}") from error
    raise FailedPrecondition(f"index {entry.digest} in the image store is nested too deeply")


def read_image(root: Path, entry: Descriptor, names: Mapping[str, str]) -> Image:
    """Read an image: its manifest and its configuration.

    :param names: its names, each with its source.
    :raises FailedPrecondition: a blob is missing or damaged.
    """
    found = read_manifest(root, entry)
    data = layout.read_blob(root, found.config.digest, found.config.size)
    try:
        config = configs.parse(data, f"configuration {found.config.digest}")
        layers = pair_layers(found, config)
    except InvalidArgument as error:
        raise FailedPrecondition(f"the image store is damaged: {error}") from error
    size = entry.size + found.config.size + sum({layer.digest: layer.size for layer in layers}.values())
    return Image(found.config.digest, tuple(names), entry.digest, config, layers, size, names)


def pair_layers(found: Manifest, config: ImageConfig) -> tuple[Layer, ...]:
    """Join what the manifest and the configuration say of each layer.

    :raises InvalidArgument: they do not have the same number of layers.
    """
    if len(found.layers) != len(config.diff_ids):
        raise InvalidArgument(
            f"configuration {found.config.digest} has {len(config.diff_ids)} layers, its manifest {len(found.layers)}"
        )
    return tuple(
        Layer(item.digest, item.size, item.media_type, diff_id)
        for item, diff_id in zip(found.layers, config.diff_ids, strict=True)
    )


def blobs_of(root: Path, entry: Descriptor) -> Iterator[str]:
    """Yield the digests of every blob that an entry of the store's index needs.

    :raises FailedPrecondition: that cannot be known, because a manifest is missing or damaged.
    """
    yield entry.digest
    data = layout.read_blob(root, entry.digest, entry.size)
    try:
        found = manifest.parse(data, f"manifest {entry.digest}", media_type=entry.media_type)
    except InvalidArgument as error:
        raise FailedPrecondition(f"the image store is damaged: {error}") from error
    if isinstance(found, Manifest):
        yield found.config.digest
        yield from (layer.digest for layer in found.layers)
        return
    for nested in found.manifests:
        if layout.blob_path(root, nested.digest).exists():  # of other platforms there may be none
            yield from blobs_of(root, nested)
