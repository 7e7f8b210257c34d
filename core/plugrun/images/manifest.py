"""Image manifests and indexes, OCI and Docker v2 schema 2, read in exactly one way.

A document that could be taken for a manifest by one reader and for an index by another lets an attacker show
different images under one digest (CVE-2021-41190), so type, fields and announced media type must all agree.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from plugrun.errors import InvalidArgument
from plugrun.images import digest as digests
from plugrun.images import document, media
from plugrun.images.platform import Platform
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plugrun.images.document import Document

MAX_LAYERS = 128
MAX_MANIFESTS = 10_000
_FIELDS = ("schemaVersion", "mediaType", "config", "layers", "manifests", "annotations", "fsLayers", "artifactType")


class Descriptor(NamedTuple):
    """Says which bytes are meant: OCI image-spec, descriptor.md. ``urls`` and ``data`` are not read.

    :param size: bytes.
    """

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = MappingProxyType({})
    platform: Platform | None = None


class Manifest(NamedTuple):
    """One image: its configuration and its layers, lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


class Index(NamedTuple):
    """A choice of images, one a platform."""

    media_type: str
    manifests: tuple[Descriptor, ...]


def parse(data: bytes, what: str, *, media_type: str = "") -> Manifest | Index:
    """Read a manifest or an index.

    :param what: what the document is, for messages.
    :param media_type: what its descriptor, or the registry, calls it; ``""`` when nobody did.
    :raises InvalidArgument: it is malformed, ambiguous, of an unknown type or too large.
    """
    content = document.parse(data, what)
    content.refuse_misspelt(_FIELDS)
    if "fsLayers" in content.values or content.number("schemaVersion") == 1:
        raise content.error("this is a Docker schema 1 manifest, which nothing writes since 2017")
    if content.number("schemaVersion") != 2:
        raise content.error(f"schemaVersion is {content.values.get('schemaVersion')!a:.40}, not 2")
    kind = _media_type(content, media_type)
    return _index(content, kind) if kind in media.INDEXES else _manifest(content, kind)


def parse_index(data: bytes, what: str, *, media_type: str = "") -> Index:
    """Read a document that must be an index; raises as :func:`parse`."""
    parsed = parse(data, what, media_type=media_type or media.OCI_INDEX)
    if not isinstance(parsed, Index):
        raise InvalidArgument(f"{what} is an image manifest, not an index")
    return parsed


def parse_manifest(data: bytes, what: str, *, media_type: str = "") -> Manifest:
    """Read a document that must be an image manifest; raises as :func:`parse`."""
    parsed = parse(data, what, media_type=media_type)
    if not isinstance(parsed, Manifest):
        raise InvalidArgument(f"{what} is an index, not an image manifest")
    return parsed


def _media_type(content: Document, announced: str) -> str:
    """Find the one media type on which the announcement, the field and the shape of the document agree."""
    is_image, is_index = ("config" in content.values or "layers" in content.values), "manifests" in content.values
    if is_image == is_index:
        found = "the fields of both" if is_image else "the fields of neither"
        raise content.error(f"has {found} an image manifest and an index")
    written = content.text("mediaType")
    if announced and written and announced != written:
        raise content.error(f"mediaType is {written!a:.100}, but it is announced as {announced!a:.100}")
    kind = written or announced or (media.OCI_INDEX if is_index else media.OCI_MANIFEST)
    if kind not in (media.INDEXES if is_index else media.MANIFESTS):
        known = kind in media.INDEXES | media.MANIFESTS
        reason = "does not fit its fields" if known else "is not one this engine knows"
        raise content.error(f"media type {kind!a:.100} {reason}")
    return kind


def _index(content: Document, kind: str) -> Index:
    entries = content.children("manifests")
    if len(entries) > MAX_MANIFESTS:
        raise content.error(f"lists {len(entries)} manifests, more than {MAX_MANIFESTS}")
    return Index(kind, tuple(map(_descriptor, entries)))


def _manifest(content: Document, kind: str) -> Manifest:
    config_entry, entries = content.child("config"), content.children("layers")
    if config_entry is None:
        raise content.error("has no config")
    config = _descriptor(config_entry)
    if config.media_type not in media.CONFIGS:
        raise content.error(f"is no container image: its config is of type {config.media_type!a:.100}")
    if config.size > document.MAX_SIZE:
        raise content.error(f"config of {config.size} bytes is larger than {document.MAX_SIZE >> 20} MiB")
    if len(entries) > MAX_LAYERS:
        raise content.error(f"has {len(entries)} layers, more than {MAX_LAYERS}")
    return Manifest(kind, config, tuple(map(_layer, entries)))


def _layer(entry: Document) -> Descriptor:
    layer = _descriptor(entry)
    if media.is_foreign(layer.media_type):
        raise entry.error(
            f"foreign layer of type {layer.media_type!a:.100}: its bytes lie elsewhere, and are not fetched from there"
        )
    if layer.media_type not in media.LAYERS:
        raise entry.error(f"layer media type {layer.media_type!a:.100} is not one this engine knows")
    return layer


def _descriptor(entry: Document) -> Descriptor:
    size = entry.values.get("size")
    if size is None:
        raise entry.error("has no size")
    return Descriptor(
        media_type=entry.text("mediaType"),
        digest=digests.check(entry.text("digest"), f"{entry.what}: digest"),
        size=entry.number("size"),
        annotations=entry.text_map("annotations"),
        platform=_platform(entry.child("platform")),
    )


def _platform(entry: Document | None) -> Platform | None:
    if entry is None:
        return None
    return Platform(entry.text("os"), entry.text("architecture"), entry.text("variant"))
