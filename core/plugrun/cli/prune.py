"""``plugrun image prune``: images that nobody needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.image_names import familiar
from plugrun.cli.params import option
from plugrun.cli.questions import confirm
from plugrun.images import downloads
from plugrun.images import filters as image_filters

if TYPE_CHECKING:
    from plugrun.images.image import Image

_DANGLING = "all dangling images"
_ASIDE = ", and what interrupted pulls have left"
_ALL = "all images without at least one container associated to them"


def prune(
    common: Globals,
    all_: Annotated[bool, option("--all", "-a", help="All that no container uses, not only those without a name.")] = (
        False
    ),
    force: Annotated[bool, option("--force", "-f", help="Do not ask.")] = False,
    filters: Annotated[
        list[str] | None,
        option("--filter", help="until=TIME or AGE, label[!]=KEY[=VALUE].", metavar="FILTER"),
    ] = None,
) -> None:
    """Remove images without a name, and their unpacked layers; never one that a container is made from.

    Without a filter, also what interrupted pulls have left.
    """
    from plugrun.reclaim import free_layers

    with engine(common) as opened:
        fits = image_filters.parse(filters or (), opened.images.resolve, image_filters.PRUNING)
        if not force:
            limits = f" that fit {', '.join(map(text.printable, filters))}" if filters else _ASIDE
            confirm(f"This will remove {_ALL if all_ else _DANGLING}{limits}.")
        used = opened.containers.using_image

        def unwanted(image: Image) -> bool:
            return (all_ or not image.references) and fits(image, "") and not used(image.id)

        removed, size = opened.images.prune(unwanted)
        size += free_layers(opened, measure=True)
        if not filters:
            size += downloads.remove_old(opened.images.root, max_age=0)
    if removed:
        text.say("Deleted Images:")
        for one in removed:
            text.say(f"untagged: {familiar(one.untagged)}" if one.untagged else f"deleted: {one.deleted}")
        text.say("")
    text.say(f"Total reclaimed space: {text.size(size)}")
