"""Names of images as users see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugrun.errors import InvalidArgument
from plugrun.images import reference

if TYPE_CHECKING:
    from plugrun.images.store import Image

NONE = "<none>"  # as Docker shows that there is no name, or no tag


def split(name: str) -> tuple[str, str]:
    """Return the repository and the tag to show for a canonical reference; ``""`` has neither."""
    try:
        found = reference.parse(name)
    except InvalidArgument:  # no name, or one that another tool wrote
        return name or NONE, NONE
    return found.familiar_name(), found.tag or NONE


def familiar(name: str) -> str:
    """Return the shortest text for a canonical reference: ``busybox:latest``."""
    repository, tag = split(name)
    if "@" in name:
        return f"{repository}@{name.partition('@')[2]}"
    return repository if tag == NONE else f"{repository}:{tag}"


def digest_of(image: Image, name: str) -> str:
    """Return the digest by which an image is pulled again under one of its names."""
    return image.sources.get(name) or image.manifest_digest
