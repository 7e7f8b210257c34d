"""``plugrun diff``: what a container changed."""

from __future__ import annotations

import os
from typing import Annotated

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option

_COLUMNS = {"Kind": "KIND", "Path": "PATH"}


def diff(
    common: Globals,
    name: Annotated[str, argument("CONTAINER")],
    format_: Annotated[str | None, option("--format", help="json, or a Go template.", metavar="FORMAT")] = None,
) -> None:
    """List what is different in a container's root file system from its image: A added, C changed, D deleted."""
    from plugrun.lifecycle import diff as lifecycle

    with engine(common) as opened:
        container = opened.containers.find(name)
        with opened.locked(container.id):
            record = opened.containers.find(container.id)
            with lifecycle.changes(opened, record) as found:
                # Docker does not list the root, and sorts by whole paths.
                changes = sorted((path, kind) for kind, path in found.changes if path)
    rows = [{"Kind": str(kind), "Path": os.fsdecode(b"/" + path)} for path, kind in changes]
    if format_ is None:
        shown = "\n".join(f"{row['Kind']} {text.printable(row['Path'])}" for row in rows)
    else:
        shown = text.render(rows, format_, _COLUMNS)
    if shown:
        text.say(shown)
