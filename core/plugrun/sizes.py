"""Sizes for people, the same in tables and in messages."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def shown(number: int) -> str:
    """Return a number of bytes as Docker shows it: decimal units, three significant digits."""
    value, unit = float(number), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g}{_UNITS[unit]}"
