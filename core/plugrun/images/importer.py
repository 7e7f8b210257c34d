"""Images made from a tar of a root file system: one layer, and a configuration of the caller's."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from plugrun.errors import InvalidArgument
from plugrun.images import archive, changes, compression, platform, reference, staging, tar
from plugrun.images import config as configs
from plugrun.images.compression import Compression

if TYPE_CHECKING:
    from plugrun.images.image import Staged
    from plugrun.images.ingest import Ingest


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What an imported image is to be, beside its files.

    :param reference: its name; ``""`` for none.
    :param changes: Dockerfile instructions, see :func:`plugrun.images.changes.apply`.
    :param message: comment in its history.
    :param platform: ``os/architecture[/variant]``; ``""`` for this machine's.
    """

    reference: str = ""
    changes: tuple[str, ...] = ()
    message: str = ""
    platform: str = ""


def stage(source: str | None, options: ImportOptions, work: Ingest) -> Staged:
    """Make an image of one layer.

    :param source: path of a tar, which may be compressed; ``None`` for standard input.
    :raises NotFound: no such file.
    :raises InvalidArgument: it is no tar, or an option makes no sense.
    :raises FailedPrecondition: this machine cannot run the platform.
    """
    names = _names(options.reference)
    config = _config(options)
    with archive.open_file(source) as (stream, what):
        found = compression.detect_in(stream, what)
        # Images know no xz: such a layer is stored decompressed.
        raw = compression.decompress(stream, found, what) if found is Compression.XZ else stream
        blob = work.add(raw, what)
    layer = work.open_layer(blob, what, diff_id=None)
    with layer.stream:
        _check_tar(layer.stream, what)
        layer.drain()
    config["rootfs"] = {"type": "layers", "diff_ids": [layer.content.digest]}
    content = json.dumps(config, separators=(",", ":"), sort_keys=True).encode()
    configs.parse(content, "the configuration of the imported image")  # what an option made unreadable is not stored
    config_blob = work.add_bytes(content)
    return staging.stage_manifest(work, config_blob, [staging.describe(blob, layer.compression)], names)


def _check_tar(stream: BinaryIO, what: str) -> None:
    """Read a layer as unpacking will."""
    try:
        count = sum(1 for _ in tar.read_entries(stream))
    except InvalidArgument as error:
        raise InvalidArgument(f"{what} is no tar archive, or damaged: {error}") from error
    if not count:
        raise InvalidArgument(f"{what} holds no files")


def _names(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    wanted = reference.parse(text)
    if wanted.digest:
        raise reference.invalid(text, "an imported image can be given a tag, not a digest")
    return (wanted.canonical(),)


def _config(options: ImportOptions) -> dict[str, Any]:
    wanted = platform.parse(options.platform) if options.platform else platform.host()
    platform.check_runs(wanted, "the imported image")
    process: dict[str, Any] = {}
    for instruction in options.changes:
        changes.apply(process, instruction)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    config: dict[str, Any] = {
        "architecture": wanted.architecture,
        "os": wanted.os,
        "created": created,
        "config": process,
        "history": [{"created": created, "created_by": "plugrun import", "comment": options.message}],
    }
    return config | ({"variant": wanted.variant} if wanted.variant else {})
