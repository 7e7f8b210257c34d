"""``plugrun rmi``: names of images, and with the last name the image."""

from __future__ import annotations

from typing import Annotated

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.errors import report
from plugrun.cli.image_names import familiar
from plugrun.cli.params import argument, option
from plugrun.errors import NotFound, PlugrunError


def rm(
    common: Globals,
    names: Annotated[list[str], argument("IMAGE...")],
    force: Annotated[
        bool, option("--force", "-f", help="Also when named twice, or in use; what is not there is no failure.")
    ] = False,
    no_prune: Annotated[bool, option("--no-prune", help="For Docker's sake: there are no untagged parents.")] = False,
) -> int:
    """Remove images: a name, and with the last name the image."""
    del no_prune
    from plugrun.reclaim import free_layers

    failed = 0
    with engine(common) as opened:
        for name in names:
            try:
                removed = opened.images.remove(name, force=force, in_use=opened.containers.using_image)
            except PlugrunError as error:
                report(error)
                failed |= not (force and isinstance(error, NotFound))
                continue
            for one in removed:
                text.say(f"Untagged: {familiar(one.untagged)}" if one.untagged else f"Deleted: {one.deleted}")
        free_layers(opened)
    return failed
