"""Pull: from a reference to an image in the store, its layers unpacked while they come."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol, TypeVar

from plugrun.errors import InvalidArgument, PlugrunError
from plugrun.images import manifest as manifests
from plugrun.images import platform as platforms
from plugrun.images.downloads import remove_old
from plugrun.images.flushing import flushing
from plugrun.images.image import Staged
from plugrun.lifecycle.create import unpacked
from plugrun.registry import config as configs
from plugrun.registry.client import Answer, Repository, Transport
from plugrun.registry.connections import connections
from plugrun.registry.fetch import Fetch
from plugrun.registry.resolve import Found, find
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from plugrun.api import StorageDriver
    from plugrun.engine import Engine
    from plugrun.images.image import Image, LoadedImage
    from plugrun.images.ingest import Ingest
    from plugrun.images.platform import Platform
    from plugrun.images.reference import Reference

T = TypeVar("T")


class Watcher(Protocol):
    """Who is told how a pull goes, from the thread that pulls."""

    def begin(self, fetch: Fetch) -> None:
        """Know that layers begin to come; ``fetch.layers`` tells at any time how far they are."""

    def end(self) -> None:
        """Know that they are here, or have failed."""


class _Again(InvalidArgument):
    """Perhaps an earlier pull had left something wrong, which is gone now."""


class Pulled(NamedTuple):
    """What a pull did.

    :param digest: what the registry has under the reference.
    """

    reference: Reference
    digest: str
    image: LoadedImage


def pull(
    engine: Engine, wanted: Reference, driver: StorageDriver | None, *, platform: str | None, watcher: Watcher
) -> Pulled:
    """Fetch an image into the store, and into a storage driver.

    :param driver: unpacks the layers while they come; ``None`` leaves that to the first use.
    :param platform: ``os/architecture[/variant]``; ``None`` for what runs best here.
    :post: on an error the store is as before; what has come of a layer is continued by the next pull.
    :raises NotFound: the registry has no such image.
    :raises Denied: it does not give it to us.
    :raises Unavailable: it cannot be reached, or the disk is full.
    :raises InvalidArgument: what it sends is malformed, or not what its digests say.
    :raises FailedPrecondition: the image is for other platforms.
    """
    target = platforms.parse(platform) if platform else None
    try:
        try:
            return _attempt(engine, wanted, driver, target, watcher)
        except _Again:  # once: what is left now may be of the first attempt, and of a registry that is wrong
            return _attempt(engine, wanted, driver, target, watcher)
    except PlugrunError as error:
        error.args = (f"cannot pull {wanted.familiar()}: {error}", *error.args[1:])
        raise


def tags(engine: Engine, wanted: Reference) -> list[Reference]:
    """Return all references of a repository that its registry has; raises as :func:`pull`.

    :raises InvalidArgument: it lists something that can be no tag, and so no name in the store.
    """
    with connections(engine.warn) as transport:
        found = _first(transport, wanted, lambda repository: list(repository.tags()), engine.warn)
    return [wanted.tagged(tag) for tag in found]


def manifest(engine: Engine, wanted: Reference) -> Answer:
    """Return the manifest or index that a registry has under a reference, well-formed.

    :raises PlugrunError: as :func:`pull`.
    """
    with connections(engine.warn) as transport:
        found = _first(transport, wanted, lambda one: one.manifest(wanted.digest or wanted.tag or ""), engine.warn)
    manifests.parse(found.data, f"manifest of {wanted.familiar()}", media_type=found.media_type)
    return found


def _attempt(
    engine: Engine, wanted: Reference, driver: StorageDriver | None, target: Platform | None, watcher: Watcher
) -> Pulled:
    """Pull once."""
    with connections(engine.warn) as transport, engine.images.session() as work:

        def ask(repository: Repository) -> tuple[Repository, Found]:
            return repository, find(repository, wanted, target, work)

        repository, found = _first(transport, wanted, ask, engine.warn)
        remove_old(engine.images.root)
        fetch = Fetch(
            repository,
            found.image.layers,
            work,
            root=engine.images.root,
            known=lambda: _known(engine),
            what=f"image {wanted.familiar()}",
            abort=transport.close,
        )
        watcher.begin(fetch)
        try:
            with flushing(engine.images.root), fetch, _unpacked(engine, found.image, driver, fetch):
                fetch.finish()
                return _publish(engine, wanted, found, work, fetch)
        except InvalidArgument as error:
            if fetch.forget_remains():
                raise _Again(str(error), hint=error.hint) from error
            raise
        finally:
            watcher.end()


def _publish(engine: Engine, wanted: Reference, found: Found, work: Ingest, fetch: Fetch) -> Pulled:
    image = found.image
    name = wanted._replace(tag=None) if wanted.digest else wanted
    blobs = frozenset({found.manifest.digest, image.id, *(layer.digest for layer in image.layers)})
    staged = Staged(found.manifest, image.id, (name.canonical(),), blobs, source=found.source)
    (loaded,) = engine.images.publish(work, [staged])
    fetch.forget()
    return Pulled(name, found.source, loaded)


def _first(transport: Transport, wanted: Reference, ask: Callable[[Repository], T], notice: Callable[[str], None]) -> T:
    """Ask one endpoint after the other; only what the last one says, the registry itself, is an error."""
    *mirrors, itself = configs.load().endpoints(wanted)
    for mirror in mirrors:
        try:
            return ask(Repository(transport, mirror))
        except PlugrunError as error:
            notice(f"mirror {mirror.host} does not help: {error}")
    return ask(Repository(transport, itself))


def _unpacked(
    engine: Engine, image: Image, driver: StorageDriver | None, fetch: Fetch
) -> AbstractContextManager[str | None]:
    if driver is None:
        return contextlib.nullcontext()
    return unpacked(engine, image, driver, source=fetch, give_up=fetch.cancel)


def _known(engine: Engine) -> set[tuple[str, str]]:
    """Return which digests and diff ids belong together, of the images that are here."""
    return {(layer.digest, layer.diff_id) for image in engine.images.list() for layer in image.layers}
