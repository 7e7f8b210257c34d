"""``plugrun images``: a table with one line for each name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.image_names import digest_of, split
from plugrun.cli.params import argument, option
from plugrun.errors import InvalidArgument
from plugrun.images import digest as digests
from plugrun.images import filters as image_filters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plugrun.images.image import Image
    from plugrun.images.sharing import Sharers

_COLUMNS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
}


def ls(
    common: Globals,
    name: Annotated[str | None, argument("[NAME[:TAG]]")] = None,
    all_: Annotated[bool, option("--all", "-a", help="For Docker's sake: all are shown anyway.")] = False,
    quiet: Annotated[bool, option("--quiet", "-q", help="Show ids only.")] = False,
    digests_: Annotated[bool, option("--digests", help="Show digests.")] = False,
    no_trunc: Annotated[bool, option("--no-trunc", help="Show ids whole.")] = False,
    tree: Annotated[
        bool, option("--tree", help="Show the layers of each image, and its containers, with what they occupy.")
    ] = False,
    filters: Annotated[
        list[str] | None,
        option(
            "--filter",
            "-f",
            help="reference=PATTERN, label[!]=KEY[=VALUE], dangling=true, before|since=IMAGE, until=TIME.",
            metavar="FILTER",
        ),
    ] = None,
    format_: Annotated[str | None, option("--format", help="table, json, or a Go template.", metavar="FORMAT")] = None,
) -> None:
    """List images, the newest first. Sizes are what the registry sends: layers as stored, mostly compressed.

    NAME may be a pattern, such as 'localhost:5000/*'.
    """
    del all_
    if tree and (quiet or format_ is not None):
        raise InvalidArgument(f"--tree cannot be combined with {'--quiet' if quiet else '--format'}")
    with engine(common, changes=False) as opened:
        images = opened.images.list(damaged=lambda what: opened.warn(text.printable(what)))
        wanted = [*(filters or ()), *([f"reference={name}"] if name else ())]
        fits = image_filters.parse(wanted, opened.images.resolve)
        chosen = [(image, one) for image in images for one in image.references or ("",) if fits(image, one)]
        chosen.sort(key=lambda pair: pair[0].config.created_at, reverse=True)
        if tree:
            from plugrun.cli.image_tree import lines

            shown = lines(opened, chosen, whole=no_trunc)
        elif quiet:
            shown = "\n".join(dict.fromkeys(_id(image, whole=no_trunc) for image, _ in chosen))
        else:
            from plugrun.images.sharing import Sharers

            sharers, users = Sharers(images), opened.containers.images_in_use()
            rows = [row(image, one, sharers, users, whole=no_trunc) for image, one in chosen]
            columns = {field: heading for field, heading in _COLUMNS.items() if digests_ or field != "Digest"}
            shown = text.render(rows, format_, columns)
    if shown:
        text.say(shown)


def row(image: Image, name: str, sharers: Sharers, users: Mapping[str, int], *, whole: bool) -> dict[str, Any]:
    """Return what is shown of an image under one of its names.

    :param users: the number of containers by image id.
    :param whole: show all of the id.
    """
    repository, tag = split(name)
    moment = image.config.created_at / 1_000_000_000
    shared, unique = sharers.of(image)
    return {
        "Repository": repository,
        "Tag": tag,
        "Digest": digest_of(image, name),
        "ID": _id(image, whole=whole),
        "CreatedSince": text.since(moment) if moment else "N/A",
        "CreatedAt": text.timestamp(moment),
        "Size": text.size(image.size),
        "SharedSize": text.size(shared),
        "UniqueSize": text.size(unique),
        "Containers": str(users.get(image.id, 0)),
        "Platform": str(image.config.platform),
    }


def _id(image: Image, *, whole: bool) -> str:
    return image.id if whole else digests.short(image.id)
