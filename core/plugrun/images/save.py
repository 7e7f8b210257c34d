"""Images written as one tar: an OCI layout, and beside it what ``docker load`` reads, as Docker does since version 25.

Blobs are written as they are stored, each once. The same images always make the same bytes: members are sorted, and
have no times or owners. Sources: OCI image-spec, image-layout.md; moby, image/tarexport/save.go.
"""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound
from plugrun.images import digest as digests
from plugrun.images import docker_archive, layout, media, names, oci_archive, reference
from plugrun.images.image import blobs_of, read_image, read_manifest
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from plugrun.images.ingest import Ingest
    from plugrun.images.manifest import Descriptor
    from plugrun.images.platform import Platform

Write = Callable[[bytes | memoryview], object]
Tell = Callable[[str, int, int], None]  # what is being done, how much of it is done, and how much there is
Find = Callable[[str], tuple["Descriptor", bool]]  # as ImageStore's own: the entry, and whether it was found by name

_CHUNK = 1 << 20
_BLOCK = 512
_RECORD = 20 * _BLOCK  # tar(5): an archive is a multiple of this


class Kind(enum.StrEnum):
    """Which readers an archive is for."""

    DOCKER = "docker-archive"
    OCI = "oci-archive"


class Archive(NamedTuple):
    """What is to be written, and where.

    :param out: writes all of what it is given.
    :param tell: told of progress.
    :param platform: what every image must be for.
    """

    out: Write
    tell: Tell
    kind: Kind = Kind.DOCKER
    platform: Platform | None = None


class Chosen(NamedTuple):
    """An image to be written.

    :param names: canonical references it is to have in the archive.
    """

    entry: Descriptor
    names: tuple[str, ...]


def choose(entries: Sequence[Descriptor], wanted: Sequence[str], find: Find) -> list[Chosen]:
    """Return what the words of a command mean: a name, all tags of a repository, or an image without its names.

    :param entries: the store's index.
    :raises NotFound: there is no such image.
    """
    images: dict[str, Descriptor] = {}
    given: dict[str, set[str]] = {}
    for text in wanted:
        found = [(entry, names.name_of(entry)) for entry in _tags(entries, text)]
        if not found:
            entry, by_name = find(text)
            found = [(entry, names.name_of(entry) if by_name else "")]
        for entry, name in found:
            images[entry.digest] = entry
            given.setdefault(entry.digest, set()).update({name} - {""})
    return [Chosen(images[digest], tuple(sorted(given[digest]))) for digest in sorted(images)]


def _tags(entries: Sequence[Descriptor], text: str) -> list[Descriptor]:
    """Return the entries with a tag of a repository, if that is what ``text`` names; as docker save does."""
    if "@" in text or ":" in text.rpartition("/")[2]:
        return []
    try:
        repository = reference.parse(text).name
    except InvalidArgument:
        return []
    return [entry for entry in entries if names.repository(entry) == repository and "@" not in names.name_of(entry)]


def write(root: Path, work: Ingest, chosen: Sequence[Chosen], archive: Archive) -> None:
    """Write an archive. Nothing is written before every blob has been verified.

    :param root: the store.
    :param work: where the blobs are kept for as long as this takes, whoever removes the images.
    :raises NotFound: an image is for another platform.
    :raises FailedPrecondition: an image is damaged.
    """
    if archive.platform is not None:
        _check_platform(root, chosen, archive.platform)
    documents = {layout.MARKER: layout.MARKER_TEXT, layout.INDEX: _encode(_index(chosen))}
    if archive.kind is Kind.DOCKER:
        documents[docker_archive.MANIFEST] = _encode([_docker_image(root, one) for one in chosen])
    blobs = _pin(root, work, chosen, archive.tell)
    _write_tar(documents, blobs, work, archive)


def _check_platform(root: Path, chosen: Sequence[Chosen], platform: Platform) -> None:
    for one in chosen:
        image = read_image(root, one.entry, dict.fromkeys(one.names, ""))
        if image.config.platform != platform:
            name = reference.parse(one.names[0]).familiar() if one.names else digests.short(image.id)
            raise NotFound(f"image {name} is for {image.config.platform}, and there is none for {platform} here")


def _index(chosen: Sequence[Chosen]) -> dict[str, Any]:
    entries = [_descriptor(one.entry, name) for one in chosen for name in one.names or ("",)]
    entries.sort(key=lambda entry: (str(entry.get("annotations")), str(entry["digest"])))
    return {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries}


def _descriptor(entry: Descriptor, name: str) -> dict[str, Any]:
    content = {"mediaType": entry.media_type, "digest": entry.digest, "size": entry.size}
    # containerd and Docker read the one, skopeo, podman and umoci the other
    annotations = {"annotations": {oci_archive.CONTAINERD_NAME: name, layout.REF_NAME: name}} if name else {}
    return content | annotations


def _docker_image(root: Path, one: Chosen) -> dict[str, Any]:
    found = read_manifest(root, one.entry)
    tags = [reference.parse(name).familiar() for name in one.names if "@" not in name]
    return {
        "Config": _member(found.config.digest),
        "RepoTags": tags or None,
        "Layers": [_member(layer.digest) for layer in found.layers],
    }


def _pin(root: Path, work: Ingest, chosen: Sequence[Chosen], tell: Tell) -> dict[str, int]:
    """Keep and verify every blob; return their sizes by digest."""
    needed = sorted({digest for one in chosen for digest in blobs_of(root, one.entry)})
    sizes = {}
    for number, digest in enumerate(needed):
        tell("Checking", number, len(needed))
        try:
            sizes[digest] = layout.blob_path(root, digest).stat().st_size
        except FileNotFoundError:
            raise _damaged(digest, "is missing from") from None
        if not work.pin(digest, sizes[digest]):
            raise _damaged(digest, "is damaged in")
    return sizes


def _damaged(digest: str, what: str) -> FailedPrecondition:
    return FailedPrecondition(f"blob {digest} {what} the image store", hint="load the image again")


# --- The tar ---------------------------------------------------------------------------------------------------------


def _write_tar(documents: Mapping[str, bytes], blobs: Mapping[str, int], work: Ingest, archive: Archive) -> None:
    members: dict[str, str | bytes] = {_member(digest): digest for digest in blobs}
    members |= {f"{os.path.dirname(name)}/": b"" for name in members} | {"blobs/": b""} | dict(documents)
    sizes = {name: len(content) if isinstance(content, bytes) else blobs[content] for name, content in members.items()}
    total, done, written = sum(sizes.values()), 0, 0
    for name, content in sorted(members.items()):
        size = sizes[name]
        header = _header(name, size)
        archive.out(header)
        for chunk in [content] if isinstance(content, bytes) else work.chunks(content, _CHUNK):
            archive.out(chunk)
            done += len(chunk)
            archive.tell("Saving", done, total)
        archive.out(bytes(-size % _BLOCK))
        written += len(header) + size + -size % _BLOCK
    archive.out(bytes(2 * _BLOCK + -(written + 2 * _BLOCK) % _RECORD))


def _header(name: str, size: int) -> bytes:
    import tarfile

    member = tarfile.TarInfo(name)
    if name.endswith("/"):
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    else:
        member.size = size
    return member.tobuf(tarfile.PAX_FORMAT)  # which is ustar up to 8 GiB


def _member(digest: str) -> str:
    return f"blobs/{digests.algorithm(digest)}/{digests.encoded(digest)}"


def _encode(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
