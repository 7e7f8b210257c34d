"""Steps that the readers of all archive kinds share: layers verified, manifests written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from plugrun.images import media
from plugrun.images.compression import Compression
from plugrun.images.image import Staged
from plugrun.images.manifest import Descriptor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plugrun.images.ingest import Blob, Ingest

_LAYER_TYPES = {
    Compression.NONE: media.OCI_LAYER,
    Compression.GZIP: f"{media.OCI_LAYER}+gzip",
    Compression.ZSTD: f"{media.OCI_LAYER}+zstd",
}


def verify_layer(work: Ingest, blob: Blob, diff_id: str, what: str) -> Descriptor:
    """Make sure that a layer's uncompressed bytes are those the image's configuration means.

    :param what: the layer, for messages.
    :return: its descriptor, of the media type that its bytes say.
    :raises InvalidArgument: they are not.
    """
    layer = work.open_layer(blob, what, diff_id=diff_id)
    with layer.stream:
        if blob.digest != diff_id:  # else it is not compressed, and was hashed when it was added or pinned
            layer.drain()
    return describe(blob, layer.compression)


def describe(blob: Blob, compression: Compression) -> Descriptor:
    """Return the descriptor of a layer."""
    return Descriptor(_LAYER_TYPES[compression], blob.digest, blob.size)


def stage_manifest(work: Ingest, config: Blob, layers: Sequence[Descriptor], names: tuple[str, ...]) -> Staged:
    """Write the OCI manifest that an image does not have yet; the same image always gets the same one."""
    content = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": {"mediaType": media.OCI_CONFIG, "digest": config.digest, "size": config.size},
        "layers": [{"mediaType": item.media_type, "digest": item.digest, "size": item.size} for item in layers],
    }
    blob = work.add_bytes(json.dumps(content, separators=(",", ":")).encode())
    blobs = frozenset({blob.digest, config.digest, *(item.digest for item in layers)})
    return Staged(Descriptor(media.OCI_MANIFEST, blob.digest, blob.size), config.digest, names, blobs)
