"""OCI image layout directories: image-spec, image-layout.md. The content store is one."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from plugrun import locks, paths
from plugrun.errors import FailedPrecondition, InvalidArgument
from plugrun.images import digest as digests
from plugrun.images import document, media
from plugrun.images.manifest import MAX_MANIFESTS, Descriptor, parse_index

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

MARKER = "oci-layout"
INDEX = "index.json"
REF_NAME = "org.opencontainers.image.ref.name"
SOURCE_DIGEST = "io.plugrun.source.digest"  # what the registry has under the name: of an index, or of the image itself
MARKER_TEXT = b'{"imageLayoutVersion":"1.0.0"}'


def blob_path(root: Path, digest: str) -> Path:
    """Return where the blob with a checked digest is."""
    return root / "blobs" / digests.algorithm(digest) / digests.encoded(digest)


def ensure(root: Path) -> None:
    """Make an empty layout, closed to everybody but its owner, unless there is one."""
    for directory in (root, root / "blobs", root / "blobs/sha256", root / "blobs/sha512"):
        paths.ensure_private(directory)
    if not (root / MARKER).exists():
        with locked(root):
            replace_file(root, MARKER, MARKER_TEXT)


def locked(root: Path) -> AbstractContextManager[int]:
    """Hold the lock of everybody who changes the layout, in ``with``.

    :raises FailedPrecondition: another process kept it for too long.
    """
    return locks.held(root / "lock", what="the image store")


def read_index(root: Path) -> list[Descriptor]:
    """Return the entries of ``index.json``; none when there is no layout.

    :raises FailedPrecondition: it is damaged.
    """
    path = root / INDEX
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    try:
        return list(parse_index(data, str(path)).manifests)
    except InvalidArgument as error:
        raise FailedPrecondition(
            f"the image store is damaged: {error}", hint=f"restore {path}, or remove {root} and load the images again"
        ) from error


def encode_index(entries: Collection[Descriptor]) -> bytes:
    """Return what ``index.json`` will hold.

    :raises FailedPrecondition: :func:`read_index` would refuse so much.
    """
    content = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [_as_json(item) for item in entries]}
    # Escapes could make what another tool wrote longer, and then not even a removal would fit.
    data = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    if len(entries) > MAX_MANIFESTS or len(data) > document.MAX_SIZE:
        raise FailedPrecondition(
            f"the image store has no room for more names: {len(entries)} entries of {len(data)} bytes are more than "
            f"{MAX_MANIFESTS} or {document.MAX_SIZE >> 20} MiB",
            hint="remove some images: plugrun rmi",
        )
    return data


def write_index(root: Path, entries: Collection[Descriptor]) -> None:
    """Replace ``index.json`` in one step that survives power loss.

    :pre: the caller holds the store's lock, and every blob of the entries is synced.
    :raises FailedPrecondition: as :func:`encode_index`.
    """
    replace_file(root, INDEX, encode_index(entries))


def read_blob(root: Path, digest: str, size: int) -> bytes:
    """Return a small blob. Its size is checked and its digest is not: what is in the store was verified on its way in.

    :raises FailedPrecondition: it is missing or has another size.
    """
    path = blob_path(root, digest)
    try:
        data = path.read_bytes() if size <= document.MAX_SIZE else b""
    except FileNotFoundError:
        raise FailedPrecondition(f"blob {digest} is missing from the image store") from None
    if len(data) != size:
        raise FailedPrecondition(f"blob {digest} in the image store has {len(data)} bytes, not {size}")
    return data


def blobs(root: Path) -> Iterator[str]:
    """Yield the digest of every blob in the layout."""
    for algorithm in ("sha256", "sha512"):
        for name in os.listdir(root / "blobs" / algorithm):
            if digests.is_digest(f"{algorithm}:{name}"):
                yield f"{algorithm}:{name}"


def replace_file(directory: Path, name: str, data: bytes) -> None:
    """Write a file anew so that a crash leaves either the old or the new content.

    :pre: the caller holds the layout's lock; so one temporary name is enough, and what a killed process left there is
        written over.
    """
    staged = directory / f".{name}.new"
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
    except BaseException:
        staged.unlink()
        raise
    staged.rename(directory / name)
    paths.sync_directory(directory)


def _as_json(entry: Descriptor) -> dict[str, Any]:
    content: dict[str, Any] = {"mediaType": entry.media_type, "digest": entry.digest, "size": entry.size}
    if entry.platform is not None:
        platform = {"os": entry.platform.os, "architecture": entry.platform.architecture}
        content["platform"] = platform | ({"variant": entry.platform.variant} if entry.platform.variant else {})
    if entry.annotations:
        content["annotations"] = dict(entry.annotations)
    return content
