"""``plugrun tag`` and ``untag``: names of images given and taken away."""

from __future__ import annotations

from typing import Annotated

from plugrun.cli.context import Globals, engine
from plugrun.cli.errors import report
from plugrun.cli.params import argument
from plugrun.errors import PlugrunError


def tag(
    common: Globals,
    source: Annotated[str, argument("SOURCE_IMAGE[:TAG]")],
    target: Annotated[str, argument("TARGET_IMAGE[:TAG]")],
) -> None:
    """Give an image one more name; an image that has it loses it, and keeps its id."""
    with engine(common, changes=False) as opened:
        opened.images.tag(opened.images.resolve(source), target)


def untag(common: Globals, names: Annotated[list[str], argument("NAME[:TAG]...")]) -> int:
    """Take names from images, which stay: without any name they are dangling, and found by their id."""
    failed = 0
    with engine(common, changes=False) as opened:
        for name in names:
            try:
                opened.images.untag(name)
            except PlugrunError as error:
                report(error)
                failed = 1
    return failed
