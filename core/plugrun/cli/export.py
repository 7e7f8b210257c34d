"""``plugrun export``: a container's root file system as a tar."""

from __future__ import annotations

from typing import Annotated

from plugrun.cli import output_file
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option


def export(
    common: Globals,
    name: Annotated[str, argument("CONTAINER")],
    output: Annotated[
        str | None, option("--output", "-o", help="Write to this file, not to stdout.", metavar="FILE")
    ] = None,
) -> None:
    """Write a container's root file system as a tar, which plugrun import, docker import and tar read.

    What lies in volumes and other mounts is not in it. One that runs goes on meanwhile.
    """
    from plugrun.images import tree_tar
    from plugrun.lifecycle import trees
    from plugrun.rootfd import RootDir

    with engine(common) as opened:
        container = opened.containers.find(name)
        target = output_file.standard_output() if output in {None, "-"} else output_file.replacing(str(output))
        try:
            with target as out, opened.locked(container.id):
                record = opened.containers.find(container.id)
                with trees.own(opened, record) as own, RootDir.at(own) as root:
                    tree_tar.write(root.fd, out)
        except output_file.ReaderGone:
            raise BrokenPipeError from None
