"""``plugrun move``: a container changes its storage driver."""

from __future__ import annotations

from typing import Annotated

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option
from plugrun.errors import InvalidArgument


def move(
    common: Globals,
    container: Annotated[str, argument("CONTAINER")],
    storage: Annotated[str | None, option("--storage", help="Storage driver to move it to.", metavar="DRIVER")] = None,
) -> None:
    """Move a stopped container to another storage driver, with its snapshots.

    What it has written is copied; the image is unpacked there unless it is already. Nothing of it changes before
    everything is there.
    """
    from plugrun.cli.progress import unpacking
    from plugrun.lifecycle.move import move as carry

    target = storage or common.storage
    if target is None:
        raise InvalidArgument(
            "no storage driver to move to", hint=f"name it: plugrun move {text.printable(container)} --storage DRIVER"
        )
    with engine(common) as opened:
        record = opened.containers.find(container)
        with unpacking(record.config.image) as progress:
            carry(opened, record, target, progress=progress)
    text.say(container)
