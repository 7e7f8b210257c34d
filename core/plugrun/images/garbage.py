"""Blobs that no image needs any more. The caller holds the store's lock."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from plugrun.errors import FailedPrecondition
from plugrun.images import layout
from plugrun.images.image import blobs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from plugrun.images.manifest import Descriptor


def collect(root: Path, victims: Iterable[Descriptor], left: Iterable[Descriptor]) -> int:
    """Delete the blobs of images that were removed.

    :param victims: index entries of the removed images.
    :param left: the index entries there are now; their blobs stay.
    :return: the bytes of the blobs that are gone.
    """
    needed = _needed(root, left)
    if needed is None:
        return 0
    freed = 0
    for victim in victims:
        try:
            own = set(blobs_of(root, victim))
        except FailedPrecondition:
            own = {victim.digest}
        freed += _delete(root, own - needed)
    return freed


@contextlib.contextmanager
def collected(root: Path) -> Iterator[None]:
    """Leave no blob that no image needs when an error or an interrupt ends the block, which changes the store."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(FailedPrecondition):  # of a damaged index, which the first error tells of
            collect_orphans(root)
        raise


def collect_orphans(root: Path) -> None:
    """Delete every blob that no image needs, after a crash; loads that are running keep theirs elsewhere."""
    needed = _needed(root, layout.read_index(root))
    if needed is not None:
        _delete(root, set(layout.blobs(root)) - needed)


def _needed(root: Path, entries: Iterable[Descriptor]) -> set[str] | None:
    """Return the blobs that images need; ``None`` when one is damaged, since its layers can then not be known."""
    try:
        return {blob for entry in entries for blob in blobs_of(root, entry)}
    except FailedPrecondition:
        return None


def _delete(root: Path, blobs: Iterable[str]) -> int:
    freed = 0
    for digest in blobs:
        path = layout.blob_path(root, digest)
        with contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            freed += size
    return freed
