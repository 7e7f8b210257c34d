"""Images of ``docker save``: a tar with ``manifest.json``, configurations, and mostly uncompressed layers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from plugrun.errors import InvalidArgument
from plugrun.images import config as configs
from plugrun.images import document, platform, reference, staging
from plugrun.images.document import Document
from plugrun.images.manifest import MAX_LAYERS

if TYPE_CHECKING:
    from plugrun.images.image import Staged
    from plugrun.images.ingest import Blob, Ingest
    from plugrun.images.members import Source

MANIFEST = "manifest.json"
_FIELDS = ("Config", "RepoTags", "Layers")
_HEX_NAME = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?")


def stage(source: Source, work: Ingest) -> list[Staged]:
    """Verify every image of the archive and its layers; layers are stored as they are, never recompressed.

    :raises InvalidArgument: something is missing or damaged.
    :raises FailedPrecondition: an image is for other machines.
    """
    what = f"{MANIFEST} of {source.what}"
    entries = document.parse_value(work.read(source.blob(MANIFEST), what), what)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidArgument(f"{what} is not a list of images")
    if not entries:
        raise InvalidArgument(f"{source.what} holds no image: its {MANIFEST} is empty")
    return [_stage_image(source, work, Document(entry, what)) for entry in entries]


def _stage_image(source: Source, work: Ingest, entry: Document) -> Staged:
    entry.refuse_misspelt(_FIELDS)
    names = tuple(_name(tag, entry) for tag in entry.texts("RepoTags"))
    config_blob = _config_blob(source, entry)
    what = f"image {names[0] if names else config_blob.digest} of {source.what}"
    config = configs.parse(work.read(config_blob, what), f"config of {what}")
    platform.check_runs(config.platform, what)
    files = entry.texts("Layers")
    if len(files) > MAX_LAYERS or len(files) != len(config.diff_ids):
        raise entry.error(f"{what} has {len(files)} layer files and {len(config.diff_ids)} diff ids")
    layers = [
        staging.verify_layer(work, source.blob(name), diff_id, f"layer {name!a:.100} of {what}")
        for name, diff_id in zip(files, config.diff_ids, strict=True)
    ]
    return staging.stage_manifest(work, config_blob, layers, names)


def _name(tag: str, entry: Document) -> str:
    wanted = reference.parse(tag)
    if wanted.digest:
        raise entry.error(f"the name {tag!a} has a digest, which an archive cannot vouch for")
    return wanted.canonical()


def _config_blob(source: Source, entry: Document) -> Blob:
    """Return an image's configuration; a name made of its digest must tell the truth."""
    name = entry.text("Config")
    promised = _HEX_NAME.fullmatch(name)
    return source.blob(name, digest=f"sha256:{promised[1]}" if promised else None)
