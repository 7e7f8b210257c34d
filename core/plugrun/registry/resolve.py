"""What a reference means in a registry: one manifest, for one platform, and its configuration."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from plugrun.errors import FailedPrecondition, Interrupted, InvalidArgument
from plugrun.images import config as configs
from plugrun.images import manifest as manifests
from plugrun.images import platform
from plugrun.images.image import Image, pair_layers
from plugrun.images.ingest import Blob
from plugrun.images.manifest import Descriptor, Index, Manifest
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.images.ingest import Ingest
    from plugrun.images.platform import Platform
    from plugrun.images.reference import Reference
    from plugrun.registry.client import Repository

_MAX_DEPTH = 2  # indexes within each other
_TRIES = 3


class Found(NamedTuple):
    """An image of a registry whose small documents are here.

    :param source: the digest that the reference means there, of an index or of the manifest itself.
    """

    source: str
    manifest: Descriptor
    image: Image


def find(repository: Repository, wanted: Reference, target: Platform | None, work: Ingest) -> Found:
    """Fetch the manifest that a reference means for a platform, and its configuration.

    :param target: ``None`` for the best one for this machine.
    :raises NotFound: the registry has no such image.
    :raises Denied: it does not say.
    :raises Unavailable: it does not answer.
    :raises InvalidArgument: what it says is malformed, ambiguous or something else than it should be.
    :raises FailedPrecondition: the image is for other platforms.
    """
    what = f"image {wanted.familiar()}"
    source, descriptor, found = _manifest(repository, wanted, target, work, what)
    data = _config(repository, found.config, work, what)
    config = configs.parse(data, f"config of {what}")
    _check_platform(config.platform, target, what)
    layers = pair_layers(found, config)
    size = descriptor.size + found.config.size + sum(layer.size for layer in layers)
    return Found(source, descriptor, Image(found.config.digest, (), descriptor.digest, config, layers, size))


def _manifest(
    repository: Repository, wanted: Reference, target: Platform | None, work: Ingest, what: str
) -> tuple[str, Descriptor, Manifest]:
    asked = wanted.digest or wanted.tag or ""
    announced: Descriptor | None = None
    source = ""
    for _ in range(_MAX_DEPTH + 1):
        answer = repository.manifest(asked)
        source = source or answer.digest
        if announced is not None and announced.size != len(answer.data):
            raise InvalidArgument(f"manifest {asked} of {what} has {len(answer.data)} bytes, not {announced.size}")
        media_type = _media_type(answer.media_type, announced)
        found = manifests.parse(answer.data, f"manifest of {what}", media_type=media_type)
        if isinstance(found, Manifest):
            blob = work.add(io.BytesIO(answer.data), f"manifest of {what}", digest=answer.digest)
            return source, Descriptor(found.media_type, blob.digest, blob.size), found
        announced = _choose(found, target, what)
        asked = announced.digest
    raise InvalidArgument(f"{what} is an index nested more than {_MAX_DEPTH} deep")


def _media_type(answered: str, announced: Descriptor | None) -> str:
    """Return what a manifest is called; an index that names it and the registry that sends it must agree."""
    if announced is not None and announced.media_type and answered and announced.media_type != answered:
        raise InvalidArgument(f"manifest {announced.digest} is announced as {announced.media_type}, sent as {answered}")
    return answered or (announced.media_type if announced else "")


def _choose(index: Index, target: Platform | None, what: str) -> Descriptor:
    if target is None:
        return platform.choose(index.manifests, what)
    return platform.matching(index.manifests, target, what)


def _check_platform(found: Platform, target: Platform | None, what: str) -> None:
    if target is not None and not platform.is_same(found, target):
        raise FailedPrecondition(f"{what} is for {found}, not for {target}")
    if target is None:
        try:
            platform.check_runs(found, what)
        except FailedPrecondition as error:
            error.hint = f"fetch it nevertheless with --platform {found}"
            raise


def _config(repository: Repository, config: Descriptor, work: Ingest, what: str) -> bytes:
    """Fetch a configuration, or take the one that is here."""
    if work.pin(config.digest, config.size):
        return work.read(Blob(config.digest, config.size), f"config of {what}")
    for tries in range(1, _TRIES + 1):
        try:
            body = repository.open_blob(config.digest, config.size)
            blob = work.add(body, f"config of {what}", digest=config.digest, size=config.size)
            return work.read(blob, f"config of {what}")
        except Interrupted:
            if tries == _TRIES:
                raise
    raise AssertionError("unreachable")
