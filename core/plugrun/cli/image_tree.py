"""``plugrun images --tree``: below each image its layers, and the containers made from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from plugrun import disk
from plugrun.cli import progress, ps, text
from plugrun.cli.image_names import familiar
from plugrun.images import digest as digests
from plugrun.images.sharing import Sharers

if TYPE_CHECKING:
    from plugrun.disk import DiskUse
    from plugrun.engine import Engine
    from plugrun.images.image import Image

_HEADINGS = ("IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA")

_Line = Sequence[str]


def lines(engine: Engine, chosen: Sequence[tuple[Image, str]], *, whole: bool) -> str:
    """Return the tree.

    :param chosen: images with each of the names to show, ``""`` for none.
    :param whole: show all of the ids.
    """
    images = {image.manifest_digest: image for image, _ in chosen}
    names: dict[str, list[str]] = {}
    for image, name in chosen:
        names.setdefault(image.manifest_digest, []).append(familiar(name) if name else "<untagged>")
    with progress.line(lambda: "Measuring") as tick:
        found = disk.measure(engine, only=list(images.values()), tick=tick)
    sharers = Sharers(found.images)
    blocks = [_block(image, names[digest], found, sharers, whole=whole) for digest, image in images.items()]
    return text.table(_HEADINGS, [line for block in blocks for line in block])


def _block(image: Image, names: Sequence[str], found: DiskUse, sharers: Sharers, *, whole: bool) -> Iterator[_Line]:
    own = text.size(image.size + sum(found.unpacked(image)))
    used = "in use" if image.id in found.users else ""
    yield names[0], _id(image.id, whole=whole), own, text.size(image.size), used
    for name in names[1:]:
        yield name, "", "", "", ""
    children = [*_layers(image, found, sharers, whole=whole), *_containers(image, found, whole=whole)]
    for number, (what, *cells) in enumerate(children, 1):
        yield [f"{'└─' if number == len(children) else '├─'} {what}", *cells]


def _layers(image: Image, found: DiskUse, sharers: Sharers, *, whole: bool) -> Iterator[_Line]:
    for number, (layer, size) in enumerate(zip(image.layers, found.unpacked(image), strict=True), 1):
        count = sharers.count(layer)
        shared = f"shared by {count} images" if count > 1 else ""
        unpacked = text.size(size) if size else "not unpacked"
        yield f"layer {number}", _id(layer.digest, whole=whole), unpacked, text.size(layer.size), shared


def _containers(image: Image, found: DiskUse, *, whole: bool) -> Iterator[_Line]:
    for record, size in found.containers:
        if record.config.image_id == image.id:
            name = record.id if whole else record.short_id
            yield f"container {record.name}", name, text.size(size), "", ps.row(record, whole=False)["State"]


def _id(digest: str, *, whole: bool) -> str:
    return digest if whole else digests.short(digest)
