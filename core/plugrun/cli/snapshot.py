"""``plugrun snapshot``: what containers had written at moments that somebody chose."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.errors import report
from plugrun.cli.params import argument, option
from plugrun.errors import NotFound, PlugrunError

if TYPE_CHECKING:
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine
    from plugrun.lifecycle.pause import Pause
    from plugrun.state.snapshots import Saved

_COLUMNS = {"Name": "NAME", "Container": "CONTAINER", "Storage": "STORAGE", "CreatedSince": "CREATED", "Size": "SIZE"}


def create(
    common: Globals,
    container: Annotated[str, argument("CONTAINER")],
    name: Annotated[str | None, argument("[NAME]")] = None,
) -> None:
    """Take a snapshot of what a container has written; print its name.

    A running container stands still for that moment, and goes on. A name is made up if none is given.
    """
    from plugrun.lifecycle import snapshot

    with engine(common) as opened:
        saved, pause = snapshot.create(opened, opened.containers.find(container), name)
    tell(pause, saved.name)
    text.say(saved.name)


def ls(
    common: Globals,
    container: Annotated[str | None, argument("[CONTAINER]")] = None,
    quiet: Annotated[bool, option("--quiet", "-q", help="Show names only.")] = False,
    size: Annotated[bool, option("--size", "-s", help="Measure them: every file is looked at.")] = False,
    format_: Annotated[str | None, option("--format", help="table, json, or a Go template.", metavar="FORMAT")] = None,
) -> None:
    """List snapshots of one container, or of all, the oldest first."""
    with engine(common, changes=False) as opened:
        records = [opened.containers.find(container)] if container is not None else opened.containers.all()
        known = {record.id: record for record in records}
        found = opened.snapshots.of(records[0].id) if container is not None else opened.snapshots.all()
        rows = [
            row(opened, known[saved.container_id], saved, measure=size)
            for saved in found
            if saved.container_id in known
        ]
    columns = {field: heading for field, heading in _COLUMNS.items() if size or field != "Size"}
    shown = "\n".join(row["Name"] for row in rows) if quiet else text.render(rows, format_, columns)
    if shown:
        text.say(shown)


def rm(
    common: Globals,
    container: Annotated[str, argument("CONTAINER")],
    names: Annotated[list[str], argument("NAME...")],
) -> int:
    """Remove snapshots of a container. What was cloned from one, or rolled back to it, stays: those are copies."""
    from plugrun.lifecycle import snapshot

    failed = 0
    with engine(common) as opened:
        record = opened.containers.find(container)
        for name in names:
            try:
                snapshot.remove(opened, record, name)
            except PlugrunError as error:
                report(error)
                failed = 1
            else:
                text.say(name)
    return failed


def tell(pause: Pause, what: str = "") -> None:
    """Say on stderr, if there was one, how long a pause was."""
    if pause.seconds:
        print(f"{what}  paused for {pause.seconds * 1000:.1f} ms".strip(), file=sys.stderr, flush=True)


def row(opened: Engine, record: ContainerRecord, saved: Saved, *, measure: bool) -> dict[str, Any]:
    """Return what is shown of a snapshot.

    :param measure: whether to find out what it occupies; else that is empty.
    """
    return {
        "Name": saved.name,
        "Container": record.name,
        "ContainerID": record.id,
        "Storage": saved.storage,
        "Key": saved.key,
        "CreatedSince": text.since(saved.created),
        "CreatedAt": text.timestamp(saved.created),
        "Size": _size(opened, record, saved) if measure else "",
    }


def _size(opened: Engine, record: ContainerRecord, saved: Saved) -> str:
    from plugrun.lifecycle.keys import storage_of

    try:
        return text.size(storage_of(opened, record, saved.storage).usage(saved.key).size)
    except NotFound:  # removed just now
        return "N/A"
