"""Images of an OCI image layout (image-spec, image-layout.md), be it a directory or packed into a tar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugrun.errors import InvalidArgument
from plugrun.images import config as configs
from plugrun.images import digest as digests
from plugrun.images import document, layout, manifest, platform, reference, staging
from plugrun.images.image import Staged, pair_layers
from plugrun.images.manifest import Descriptor, Manifest

if TYPE_CHECKING:
    from plugrun.images.image import Layer
    from plugrun.images.ingest import Blob, Ingest
    from plugrun.images.members import Source

CONTAINERD_NAME = "io.containerd.image.name"
_SUPPORTED = "1.0.0"


def stage(source: Source, work: Ingest) -> list[Staged]:
    """Verify every image of a layout that this machine can run, and its layers.

    :raises InvalidArgument: something is missing, ambiguous or damaged.
    :raises FailedPrecondition: an image is for other machines only.
    """
    marker = document.parse(work.read(source.blob(layout.MARKER), layout.MARKER), f"{layout.MARKER} of {source.what}")
    if marker.text("imageLayoutVersion") != _SUPPORTED:
        raise marker.error(f"image layout version {marker.text('imageLayoutVersion')!a:.40} is not {_SUPPORTED}")
    what = f"{layout.INDEX} of {source.what}"
    index = manifest.parse_index(work.read(source.blob(layout.INDEX), what), what)
    if not index.manifests:
        raise InvalidArgument(f"{source.what} holds no image: its {layout.INDEX} is empty")
    return [
        _stage_image(source, work, entry, what)
        for name, entries in _groups(index.manifests).items()
        for what in [f"image {name!a:.200} of {source.what}"]
        for entry in _wanted(entries, what)
    ]


def _groups(entries: tuple[Descriptor, ...]) -> dict[str, list[Descriptor]]:
    """Bring together what may be one image for several platforms; without name and platform an entry stays alone."""
    groups: dict[str, list[Descriptor]] = {}
    for entry in entries:
        name = _name(entry)
        groups.setdefault(name if name or entry.platform else entry.digest, []).append(entry)
    return groups


def _name(entry: Descriptor) -> str:
    return entry.annotations.get(CONTAINERD_NAME) or entry.annotations.get(layout.REF_NAME) or ""


def _wanted(entries: list[Descriptor], what: str) -> list[Descriptor]:
    """Leave out the platforms that this machine is not. Of its own there may be several images, which all load."""
    if all(entry.platform is None for entry in entries):  # their configurations will tell
        return entries
    return platform.best(entries, what)


def _stage_image(source: Source, work: Ingest, chosen: Descriptor, what: str) -> Staged:
    references, label = _references(chosen)
    entry, found = _find_manifest(source, work, chosen, what)
    config_blob = _blob(source, found.config)
    config = configs.parse(work.read(config_blob, what), f"config of {what}")
    platform.check_runs(config.platform, what)
    layers = pair_layers(found, config)
    for layer in layers:
        part = f"layer {digests.short(layer.digest)} of {what}"
        staging.verify_layer(work, _blob(source, layer), layer.diff_id, part)
    blobs = frozenset({entry.digest, config_blob.digest, *(layer.digest for layer in layers)})
    return Staged(entry, config_blob.digest, references, blobs, label)


def _references(entry: Descriptor) -> tuple[tuple[str, ...], str]:
    """Return the names an entry gives its image, and what it calls it if that is no name.

    containerd's annotation is a whole reference or wrong. The OCI's holds whatever its author likes, often only a tag,
    such as ``V1.0``.

    :raises InvalidArgument: containerd's annotation is no reference.
    """
    name = _name(entry)
    if not name or digests.is_digest(name):
        return (), ""
    try:
        return (reference.parse(name).canonical(),), ""
    except InvalidArgument:
        if entry.annotations.get(CONTAINERD_NAME):
            raise
        return (), name


def _find_manifest(source: Source, work: Ingest, entry: Descriptor, what: str) -> tuple[Descriptor, Manifest]:
    """Read an entry's manifest, through at most one more index."""
    for _ in range(2):
        data = work.read(_blob(source, entry), f"manifest of {what}")
        found = manifest.parse(data, f"manifest of {what}", media_type=entry.media_type)
        if isinstance(found, Manifest):
            return Descriptor(found.media_type, entry.digest, entry.size), found
        entry = platform.choose(found.manifests, what)
    raise InvalidArgument(f"{what} is an index nested more than twice")


def _blob(source: Source, wanted: Descriptor | Layer) -> Blob:
    name = f"blobs/{digests.algorithm(wanted.digest)}/{digests.encoded(wanted.digest)}"
    return source.blob(name, digest=wanted.digest, size=wanted.size)
