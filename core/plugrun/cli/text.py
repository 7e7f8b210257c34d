"""Text for people: safe to print, human sizes and ages, aligned tables, and Docker's ``--format``."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from plugrun import terminal
from plugrun.errors import InvalidArgument

# C0, DEL, C1, and the characters that reorder text: names and labels come from strangers (terminal escapes).
_UNSAFE = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
_FIELD = r"\{\{\s*(json\s+)?\.([A-Za-z0-9_.]*)\s*\}\}"
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_GAP = "   "
_NARROW = 24  # columns in which a sentence is no pleasure to read
_AGES = ((31_536_000, "year"), (2_592_000, "month"), (604_800, "week"), (86_400, "day"), (3600, "hour"), (60, "minute"))


def printable(text: str) -> str:
    """Escape what could move a cursor, retitle a window or reorder text."""
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return re.sub(
        _UNSAFE, lambda match: f"\\u{ord(match[0]):04x}" if ord(match[0]) > 255 else f"\\x{ord(match[0]):02x}", safe
    )


def say(line: str) -> None:
    """Print a line of a command's answer at once, so that a reader who has gone is noticed here."""
    print(line, flush=True)


def size(number: int) -> str:
    """Return a number of bytes as Docker shows it: decimal units, three significant digits."""
    value, unit = float(number), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g}{_UNITS[unit]}"


def age(seconds: float) -> str:
    """Return a duration in words: ``3 hours``, ``About a minute`` as Docker has it, ``Less than a second``."""
    if seconds < 1:
        return "Less than a second"
    for length, unit in _AGES:
        count = int(seconds // length)
        if count >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    count = int(seconds)
    return f"{count} second{'s' if count > 1 else ''}"


def since(moment: float) -> str:
    """Return how long ago a moment (seconds since the epoch) was."""
    return f"{age(max(0.0, time.time() - moment))} ago"


def timestamp(moment: float) -> str:
    """Return a moment as RFC 3339 in UTC; the beginning of time for one that never came, as Docker shows it."""
    if not moment:
        return "0001-01-01T00:00:00Z"
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return f"{whole}.{int(moment % 1 * 1e9):09d}Z"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> str:
    """Align columns; the last one is not padded.

    :param width: of the screen: sentences in the last column are then folded between words. A table whose headings
        alone are wider is left to the terminal.
    """
    lines = [list(headings), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    start = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    if width is not None and start + len(headings[-1]) <= width:
        lines = [[*line[:-1], _fold(line[-1], start, width)] for line in lines]
    whole = "\n".join(_GAP.join(map(str.ljust, line, widths)) for line in lines)
    return "\n".join(line.rstrip() for line in whole.split("\n"))


def _fold(cell: str, start: int, width: int) -> str:
    """Fold a sentence that begins at column ``start``, below the other columns where beside them is too little room."""
    if start + len(cell) <= width:
        return cell
    import textwrap

    beside = width - start >= _NARROW
    margin = " " * (start if beside else 4)
    folded = textwrap.fill(cell, width, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)
    return folded.removeprefix(margin) if beside else f"\n{folded}"


def screen_width() -> int | None:
    """Return the columns of the terminal on standard output; ``None`` where a program reads it."""
    size = terminal.size(1)
    return size[1] if size else None


def render(rows: Sequence[Mapping[str, Any]], template: str | None, columns: Mapping[str, str]) -> str:
    """Show rows as ``--format`` asks.

    :param template: ``None`` or ``table`` for the usual table, ``json`` for one object a line, else text with
        Go-template fields as Docker has them: ``{{.Names}}``, ``{{json .Labels}}``, ``table {{.ID}} {{.Image}}``.
    :param columns: heading of each field in the usual table.
    :raises InvalidArgument: the template names a field that does not exist.
    """
    if template in {None, "table"}:
        cells = [[str(row[name]) for name in columns] for row in rows]
        return table(list(columns.values()), cells, width=screen_width())
    assert template is not None
    _check(template)  # even where there is nothing to fill in
    if template == "json":
        return "\n".join(json.dumps(row, default=str) for row in rows)
    if template.startswith("table "):
        fields = [match[2] for match in re.finditer(_FIELD, template)]
        headings = [columns.get(name, name.upper()) for name in fields]
        return table(headings, [[fill(f"{{{{.{name}}}}}", row) for name in fields] for row in rows])
    template = template.replace("\\t", "\t").replace("\\n", "\n")
    return "\n".join(fill(template, row) for row in rows)


def fill(template: str, value: Any) -> str:
    """Replace each Go-template field of ``template`` by what ``value`` has there.

    :raises InvalidArgument: there is no such field, or the template has more than fields.
    """

    def field(match: re.Match[str]) -> str:
        found = _lookup(value, match[2])
        if match[1]:
            return json.dumps(found, default=str)
        return printable(found) if isinstance(found, str) else json.dumps(found, default=str)

    _check(template)
    return re.sub(_FIELD, field, template)


def _check(template: str) -> None:
    if "{{" in re.sub(_FIELD, "", template):
        raise InvalidArgument(
            f"the template {template!r} has more than fields", hint="write {{.Field}} or {{json .Field}}"
        )


def _lookup(value: Any, path: str) -> Any:
    found = value
    for name in filter(None, path.split(".")):
        if not isinstance(found, Mapping) or name not in found:
            known = ", ".join(sorted(found)) if isinstance(found, Mapping) else "none"
            raise InvalidArgument(f"there is no field {name!r} in {{{{.{path}}}}}", hint=f"there are: {known}")
        found = found[name]
    return found
