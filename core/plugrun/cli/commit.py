"""``plugrun commit``: an image of a container."""

from __future__ import annotations

from typing import Annotated

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option


def commit(
    common: Globals,
    container: Annotated[str, argument("CONTAINER")],
    name: Annotated[str, argument("[NAME[:TAG]]")] = "",
    author: Annotated[str, option("--author", "-a", help="Who made the image.", metavar="TEXT")] = "",
    changes: Annotated[
        list[str] | None,
        option("--change", "-c", help="Dockerfile instruction, e.g. 'CMD [\"sh\"]'.", metavar="INSTRUCTION"),
    ] = None,
    message: Annotated[str, option("--message", "-m", help="Comment for the history.", metavar="TEXT")] = "",
    pause: Annotated[
        bool, option("--pause", "-p", help="Have it stand still while its files are copied or read.")
    ] = True,
    quiet: Annotated[bool, option("--quiet", "-q", help="Do not tell how long it stood still.")] = False,
) -> None:
    """Make an image of what a container's root file system is now; print its id.

    What lies in volumes and other mounts is not in it.
    """
    import sys

    from plugrun.images.commit import CommitOptions
    from plugrun.lifecycle import commit as lifecycle

    options = CommitOptions(reference=name, author=author, message=message, changes=tuple(changes or ()), pause=pause)
    with engine(common) as opened:
        made = lifecycle.commit(opened, opened.containers.find(container), options)
    if made.paused and not quiet:
        print(f"paused for {made.paused * 1000:.0f} ms", file=sys.stderr)
    text.say(made.image_id)
