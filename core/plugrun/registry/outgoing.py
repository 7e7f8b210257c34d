"""What a push takes from the image store: the images of a name, their bytes, and where else these may be already."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound, PlugrunError
from plugrun.images import digest as digests
from plugrun.images import layout, manifest, names, platform, reference
from plugrun.images.image import blobs_of
from plugrun.images.manifest import Descriptor, Manifest
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from plugrun.images.reference import Reference
    from plugrun.images.store import ImageStore

_AGAIN = "load or pull the image again"


class Outgoing(NamedTuple):
    """One image, complete.

    :param manifest: its descriptor; ``data`` are its bytes, as they came.
    :param blobs: configuration and layers, each once.
    """

    reference: Reference
    manifest: Descriptor
    data: bytes
    blobs: tuple[Descriptor, ...]


def references(store: ImageStore, name: str, *, all_tags: bool = False) -> list[Reference]:
    """Return what a user names to be pushed.

    :param name: ``NAME[:TAG]``.
    :param all_tags: every tag of ``name``, which then has none.
    :raises InvalidArgument: a digest or an id is not a name to push to.
    :raises NotFound: there is no such image.
    """
    wanted = _parse(name)
    if all_tags:
        return _tags(store.root, name, wanted)
    if names.find(layout.read_index(store.root), wanted) is None:
        store.resolve(name)  # raises if it is no id either
        raise InvalidArgument(
            f"{name} is an image id, and an image is pushed by name",
            hint=f"give it a name first: plugrun tag {name} NAME:TAG",
        )
    return [wanted]


def read(root: Path, ref: Reference) -> Outgoing:
    """Return an image that is to be pushed.

    Of an index, which only another tool can have put into the store, this is the image for this machine: the others
    need not be there.

    :param root: the image store.
    :raises NotFound: there is no such image any more.
    :raises FailedPrecondition: it is damaged, or not all of it is in the store.
    """
    entry = names.find(layout.read_index(root), ref)
    if entry is None:
        raise NotFound(f"no image {ref.familiar()}")
    entry, data, found = _manifest(root, entry)
    if digests.of(data, digests.algorithm(entry.digest)) != entry.digest:
        raise FailedPrecondition(f"the manifest of {ref.familiar()} in the image store is damaged", hint=_AGAIN)
    blobs = {blob.digest: blob for blob in (found.config, *found.layers)}
    for blob in blobs.values():
        _check(root, blob, ref)
    return Outgoing(ref, entry._replace(media_type=found.media_type), data, tuple(blobs.values()))


def open_blob(root: Path, digest: str) -> BinaryIO:
    """Open a blob for reading.

    :raises FailedPrecondition: it is missing, or cannot be opened.
    """
    path = layout.blob_path(root, digest)
    try:
        return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0)
    except FileNotFoundError:
        raise FailedPrecondition(f"blob {digest} is missing from the image store", hint=_AGAIN) from None
    except OSError as error:
        raise FailedPrecondition(f"blob {digest} in the image store: {error.strerror}", hint=_AGAIN) from error


def neighbours(root: Path, ref: Reference) -> Mapping[str, Sequence[str]]:
    """Return the other repositories of a reference's registry whose images have a blob, by its digest."""
    found: dict[str, list[str]] = {}
    for entry in layout.read_index(root):
        try:
            other = reference.parse(names.name_of(entry))
            blobs = set(blobs_of(root, entry)) if other.registry == ref.registry and other.name != ref.name else ()
        except PlugrunError:  # no name, one that another tool made up, or a damaged image: none of them matters here
            continue
        for digest in blobs:
            if other.repository not in found.setdefault(digest, []):
                found[digest].append(other.repository)
    return found


def _parse(name: str) -> Reference:
    hint = "give it a name first: plugrun tag IMAGE NAME:TAG"
    try:
        wanted = reference.parse(name)
    except InvalidArgument as error:
        error.hint = error.hint or hint
        raise
    if wanted.digest:
        raise InvalidArgument(f"{name} has a digest, and an image is pushed by name", hint=hint)
    return wanted


def _tags(root: Path, name: str, wanted: Reference) -> list[Reference]:
    if ":" in name.rpartition("/")[2]:
        raise InvalidArgument(f"{name} has a tag, and all tags are to be pushed", hint=f"push {wanted.familiar_name()}")
    found = []
    for entry in layout.read_index(root):
        try:
            one = reference.parse(names.name_of(entry))
        except InvalidArgument:
            continue
        if one.name == wanted.name and one.tag and not one.digest:
            found.append(one)
    if not found:
        raise NotFound(f"no image {name} with any tag", hint="plugrun images lists those there are")
    return found


def _manifest(root: Path, entry: Descriptor) -> tuple[Descriptor, bytes, Manifest]:
    for _ in range(2):
        data = layout.read_blob(root, entry.digest, entry.size)
        try:
            found = manifest.parse(data, f"manifest {entry.digest}", media_type=entry.media_type)
            if isinstance(found, Manifest):
                return entry, data, found
            entry = platform.choose(found.manifests, f"index {entry.digest}")
        except InvalidArgument as error:
            raise FailedPrecondition(f"the image store is damaged: {error}", hint=_AGAIN) from error
    raise FailedPrecondition(f"index {entry.digest} in the image store is nested too deeply")


def _check(root: Path, blob: Descriptor, ref: Reference) -> None:
    try:
        size = layout.blob_path(root, blob.digest).stat().st_size
    except FileNotFoundError:
        size = -1
    if size != blob.size:
        how = "is missing from the image store" if size < 0 else f"has {size} bytes, not {blob.size}"
        raise FailedPrecondition(f"blob {blob.digest} of {ref.familiar()} {how}", hint=_AGAIN)
