"""Which bytes images have in common: blobs are stored once however many images need them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plugrun.images.image import Image, Layer


class Sharing(NamedTuple):
    """Bytes of one image as stored.

    :param shared: of the layers that other images need, too.
    :param unique: of all else, which go when the image is removed.
    """

    shared: int
    unique: int


class Sharers:
    """Tells for each layer how many of some images need it.

    :param images: each image once.
    """

    def __init__(self, images: Iterable[Image]) -> None:
        self._count = Counter(digest for image in images for digest in {layer.digest for layer in image.layers})

    def count(self, layer: Layer) -> int:
        """Return how many images need a layer."""
        return self._count[layer.digest]

    def of(self, image: Image) -> Sharing:
        """Return what an image shares."""
        shared = sum({layer.digest: layer.size for layer in image.layers if self.count(layer) > 1}.values())
        return Sharing(shared, image.size - shared)
