"""``plugrun pull``, and fetching what ``run`` and ``create`` miss."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option
from plugrun.errors import InvalidArgument, NotFound
from plugrun.images import digest as digests
from plugrun.images import reference

if TYPE_CHECKING:
    from plugrun.api import StorageDriver
    from plugrun.engine import Engine
    from plugrun.images.reference import Reference
    from plugrun.images.store import Image
    from plugrun.registry.pull import Pulled
    from plugrun.request import ContainerRequest

_ID = "[0-9a-f]{64}"
POLICIES = ("always", "missing", "never")


def pull(
    common: Globals,
    name: Annotated[str, argument("NAME[:TAG|@DIGEST]")],
    all_tags: Annotated[bool, option("--all-tags", "-a", help="Fetch every tag of the repository.")] = False,
    quiet: Annotated[bool, option("--quiet", "-q", help="Print the image's name only.")] = False,
    platform: Annotated[
        str | None,
        option(help="As os/architecture or os/architecture/variant, if not this machine's.", metavar="PLATFORM"),
    ] = None,
    storage: Annotated[str | None, option(help="Storage driver to unpack it in.", metavar="DRIVER")] = None,
) -> None:
    """Fetch an image from a registry, and unpack it in the storage driver."""
    from plugrun.registry.pull import tags

    wanted = reference.parse(name)
    if all_tags and (wanted.digest or name.rpartition("/")[2].count(":")):
        raise InvalidArgument(f"{name} has a tag or a digest, and --all-tags means all of a repository")
    with engine(common) as opened:
        driver = _driver(opened, storage or common.storage, {})
        for one in tags(opened, wanted) if all_tags else [wanted]:
            done = _fetch(opened, one, driver, platform, quiet=quiet)
            if not quiet:
                text.say(f"Digest: {done.digest}")
                for old, image_id in done.image.replaced.items():
                    text.say(f"{reference.parse(old).familiar()} was another image, which keeps its id: {image_id}")
            text.say(text.printable(done.reference.canonical()))


def finder(
    opened: Engine, policy: str, request: ContainerRequest, *, platform: str | None, quiet: bool
) -> Callable[[str], Image]:
    """Return what finds the image of a new container, and fetches it as ``--pull`` says.

    :param policy: one of :data:`POLICIES`.
    :raises InvalidArgument: it is none.
    """
    if policy not in POLICIES:
        raise InvalidArgument(f"--pull {policy} is none of {', '.join(POLICIES)}")

    def find(name: str) -> Image:
        if policy != "always":
            try:
                return opened.images.resolve(name)
            except NotFound:
                if policy == "never" or digests.is_digest(name) or re.fullmatch(_ID, name):
                    raise
        driver = _driver(opened, request.storage, request.storage_options)
        _fetch(opened, reference.parse(name), driver, platform, quiet=quiet)
        return opened.images.resolve(name)

    return find


def _fetch(opened: Engine, wanted: Reference, driver: StorageDriver, platform: str | None, *, quiet: bool) -> Pulled:
    from plugrun.cli.pulling import shown
    from plugrun.registry.pull import pull as fetch

    with shown(wanted.familiar(), quiet=quiet) as watcher:
        return fetch(opened, wanted, driver, platform=platform, watcher=watcher)


def _driver(opened: Engine, name: str | None, options: Mapping[str, str]) -> StorageDriver:
    return opened.storage(opened.plugins.select_storage(name, opened.paths.root).spec.name, options)
