"""Text for people: safe to print, human sizes and ages, aligned tables, and Docker's ``--format``."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from plugrun import terminal

# C0, DEL, C1, and the characters that reorder text: names and labels come from strangers (terminal escapes).
_UNSAFE = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
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
    """Return a number of bytes as messages have it, see :func:`plugrun.sizes.shown`."""
    from plugrun import sizes  # not for every command

    return sizes.shown(number)


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

    :param template: ``None`` or ``table`` for the usual table, ``json`` for one object a line, else a template as
        :class:`plugrun.cli.template.Template` understands it: ``{{.Names}}``, or ``table {{.ID}}`` with tabs
        between columns.
    :param columns: heading of each field in the usual table.
    :raises InvalidArgument: the template is wrong, or names a field that does not exist.
    """
    if template in {None, "table"}:
        cells = [[str(row[name]) for name in columns] for row in rows]
        return table(list(columns.values()), cells, width=screen_width())
    assert template is not None
    if template == "json":
        return "\n".join(json.dumps(row, default=str) for row in rows)
    from plugrun.cli.template import Template

    whole = template.replace("\\t", "\t").replace("\\n", "\n")
    if whole.startswith("table "):
        return _own_table(rows, whole.removeprefix("table ").lstrip(" "), columns)
    ready = Template(whole)  # even where there is nothing to fill in
    return "\n".join(ready.fill(row) for row in rows)


def _own_table(rows: Sequence[Mapping[str, Any]], template: str, columns: Mapping[str, str]) -> str:
    """Show rows with the columns that a template separates by tabs."""
    from plugrun.cli.template import Template
    from plugrun.cli.template_values import HEADINGS

    ready, heading = Template(template), Template(template, HEADINGS)
    names = {name: columns.get(name, name.upper()) for name in re.findall(r"\.(\w+)", template)}
    lines = [line.split("\t") for line in (heading.fill(names), *map(ready.fill, rows))]
    width = max(map(len, lines))
    first, *rest = [[*line, *[""] * (width - len(line))] for line in lines]
    return table(first, rest)


def fill(template: str, value: Any) -> str:
    """Fill a template in with a value, see :class:`plugrun.cli.template.Template`.

    :raises InvalidArgument: the template is wrong, or names a field that does not exist.
    """
    from plugrun.cli.template import Template

    return Template(template).fill(value)
