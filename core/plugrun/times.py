"""Points in time as users and logs write them, in nanoseconds since the epoch, so that none is rounded."""

from __future__ import annotations

import re
import time

from plugrun.errors import InvalidArgument

_SECOND = 1_000_000_000
_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": _SECOND, "m": 60 * _SECOND, "h": 3600 * _SECOND}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
_PART = re.compile(r"(\d+)(?:\.(\d+))?(ns|us|µs|ms|s|m|h)", re.ASCII)
_UNIX = re.compile(r"(\d{1,11})(?:\.(\d{1,9}))?", re.ASCII)
_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d(?::\d\d(?::\d\d)?)?)(?:\.(\d{1,9}))?)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)


def parse_when(text: str, *, now: int | None = None) -> int:
    """Read a point in time as ``docker logs --since`` takes it.

    :param text: RFC 3339 or a part of it (``2026-01-31``, ``2026-01-31T10:00:00``, local time without an offset),
        seconds since the epoch (``1769853600.5``), or a Go duration before now (``1h30m``, ``1.5h``).
    :param now: nanoseconds since the epoch, instead of the clock.
    :return: nanoseconds since the epoch.
    :raises InvalidArgument: none of these.
    """
    if _DURATION.fullmatch(text):
        return (time.time_ns() if now is None else now) - parse_duration(text)
    if match := _UNIX.fullmatch(text):
        return int(match[1]) * _SECOND + _fraction(match[2])
    if (found := parse_timestamp(text)) is not None:
        return found
    raise InvalidArgument(
        f"{text!r} is neither a time nor a duration",
        hint="give e.g. 2026-01-31T10:00:00Z, 2026-01-31, or 10m for ten minutes ago",
    )


def parse_duration(text: str) -> int:
    """Read a Go duration such as ``1h30m`` or ``0.5s``, in nanoseconds.

    :raises InvalidArgument: it is none.
    """
    if not _DURATION.fullmatch(text):
        raise InvalidArgument(f"{text!r} is not a duration", hint="give e.g. 90s, 10m or 1h30m")
    total = 0
    for whole, fraction, unit in _PART.findall(text):
        total += int(whole) * _UNITS[unit]
        if fraction:
            total += int(fraction) * _UNITS[unit] // 10 ** len(fraction)
    return total


def parse_timestamp(text: str) -> int | None:
    """Read RFC 3339, in local time without an offset; ``None`` if it is none."""
    from datetime import datetime

    match = _DATE.fullmatch(text)
    if match is None:
        return None
    day, clock, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock or '00'}{(offset or '').upper()}")
        return int(moment.timestamp()) * _SECOND + _fraction(fraction)
    except (ValueError, OverflowError):
        return None


def _fraction(digits: str | None) -> int:
    return int((digits or "").ljust(9, "0"))
