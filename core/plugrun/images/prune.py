"""Many images deleted at once, with one change of the index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugrun.errors import FailedPrecondition
from plugrun.images import garbage, layout, names
from plugrun.images.image import Image, Removed, read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from plugrun.images.manifest import Descriptor


def delete(
    root: Path, unwanted: Callable[[Image], bool], room: Callable[[], AbstractContextManager[None]]
) -> tuple[Sequence[Removed], int]:
    """Delete the images that are unwanted; see :meth:`plugrun.images.store.ImageStore.prune`.

    :param room: entered while the removal is written down.
    :pre: the caller holds the store's lock.
    """
    entries = layout.read_index(root)
    same: dict[str, list[Descriptor]] = {}
    for entry in entries:
        same.setdefault(entry.digest, []).append(entry)
    removed: list[Removed] = []
    gone: set[str] = set()
    for digest, group in same.items():
        tags = [names.name_of(entry) for entry in group if names.name_of(entry)]
        try:
            image = read_image(root, group[-1], dict.fromkeys(tags, ""))
        except FailedPrecondition:  # what it is, and who uses it, cannot be known
            continue
        if unwanted(image):
            gone.add(digest)
            removed += [*(Removed(untagged=tag) for tag in tags), Removed(deleted=image.id)]
    if not gone:
        return (), 0
    left = [entry for entry in entries if entry.digest not in gone]
    with room(), garbage.collected(root):
        layout.write_index(root, left)
        return removed, garbage.collect(root, [entry for entry in entries if entry.digest in gone], left)
