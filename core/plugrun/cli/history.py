"""``plugrun history``: the steps in which an image was made, the last one first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option
from plugrun.images import digest as digests

if TYPE_CHECKING:
    from plugrun.images.config import HistoryEntry
    from plugrun.images.image import Image

_COLUMNS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
_EXACT = {"ID": "IMAGE", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT"}
_MISSING = "<missing>"  # as Docker has it: only the last step left an image
_WIDTH = 45  # of the command, as Docker has it


def history(
    common: Globals,
    name: Annotated[str, argument("IMAGE")],
    human: Annotated[bool, option("--human", "-H", help="Show sizes and dates for people.")] = True,
    no_trunc: Annotated[bool, option("--no-trunc", help="Show ids and commands whole.")] = False,
    quiet: Annotated[bool, option("--quiet", "-q", help="Show ids only.")] = False,
    format_: Annotated[str | None, option("--format", help="table, json, or a Go template.", metavar="FORMAT")] = None,
) -> None:
    """Show how an image was made. Sizes are those of the layers as stored, mostly compressed."""
    with engine(common, changes=False) as opened:
        image = opened.images.resolve(name)
    rows = [_row(entry, size, human=human, whole=no_trunc) for entry, size in reversed(list(_steps(image)))]
    if rows:
        rows[0]["ID"] = image.id if no_trunc else digests.short(image.id)
    columns = _COLUMNS if human else _EXACT
    shown = "\n".join(row["ID"] for row in rows) if quiet else text.render(rows, format_, columns)
    if shown:
        text.say(shown)


def _steps(image: Image) -> Iterator[tuple[HistoryEntry, int]]:
    """Yield each step, the first one first, with the bytes of its layer; layers that no step tells of come last."""
    from plugrun.images.config import HistoryEntry

    sizes = [layer.size for layer in reversed(image.layers)]
    for entry in image.config.history:
        yield entry, 0 if entry.empty_layer or not sizes else sizes.pop()
    while sizes:
        yield HistoryEntry(), sizes.pop()


def _row(entry: HistoryEntry, size: int, *, human: bool, whole: bool) -> dict[str, Any]:
    moment = entry.created_at / 1_000_000_000
    command = entry.created_by.replace("\t", " ")
    if not whole and len(command) > _WIDTH:
        command = command[: _WIDTH - 1] + "…"
    return {
        "ID": _MISSING,
        "CreatedSince": text.since(moment) if moment else "N/A",
        "CreatedAt": text.timestamp(moment),
        "CreatedBy": command,
        "Size": text.size(size) if human else str(size),
        "Comment": entry.comment,
    }
