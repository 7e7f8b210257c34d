"""Names in the store's index: which entry has which, and what giving one away leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugrun.errors import InvalidArgument
from plugrun.images import layout, reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plugrun.images.manifest import Descriptor
    from plugrun.images.reference import Reference


def name_of(entry: Descriptor) -> str:
    """Return the canonical reference of an entry, ``""`` when it has no name."""
    return entry.annotations.get(layout.REF_NAME, "")


def find(entries: Sequence[Descriptor], wanted: Reference) -> Descriptor | None:
    """Return the entry that a reference means; beside a digest, its tag does not matter."""
    if wanted.digest is None:
        canonical = wanted.canonical()
        return next((entry for entry in entries if name_of(entry) == canonical), None)
    return next(
        (entry for entry in entries if entry.digest == wanted.digest and _repository(entry) == wanted.name), None
    )


def assign(entries: Sequence[Descriptor], image: Descriptor, name: str) -> tuple[list[Descriptor], Descriptor | None]:
    """Give ``name`` to ``image``.

    :param name: a canonical reference.
    :return: the new entries, and the image that had the name and now has none; it keeps an entry without a name.
    :raises InvalidArgument: the name contains the digest of another image.
    """
    pinned = name.partition("@")[2]
    if pinned and pinned != image.digest:
        raise InvalidArgument(f"{name} names the image {pinned}, and cannot be given to {image.digest}")
    previous = next((entry for entry in entries if name_of(entry) == name), None)
    kept = [entry for entry in entries if entry is not previous]
    kept = [entry for entry in kept if name_of(entry) or entry.digest != image.digest]
    named = image._replace(annotations={layout.REF_NAME: name})
    if previous is None or previous.digest == image.digest or any(entry.digest == previous.digest for entry in kept):
        return [*kept, named], None
    nameless = previous._replace(annotations={})
    return [*kept, named, nameless], nameless


def keep_nameless(entries: Sequence[Descriptor], image: Descriptor) -> list[Descriptor]:
    """Make sure that ``image`` has an entry, with or without a name."""
    if any(entry.digest == image.digest for entry in entries):
        return list(entries)
    return [*entries, image._replace(annotations={})]


def references_of(entries: Sequence[Descriptor], manifest_digest: str) -> tuple[str, ...]:
    """Return the names of one image."""
    return tuple(name_of(entry) for entry in entries if entry.digest == manifest_digest and name_of(entry))


def _repository(entry: Descriptor) -> str:
    try:
        return reference.parse(name_of(entry)).name
    except InvalidArgument:  # no name, or one that another tool made up
        return ""
