"""What users may give, checked at the edge: each function returns the engine's value or quotes what is wrong.

Nothing that gets through here can carry a line break, a NUL or a separator into a file the engine writes.
"""

from __future__ import annotations

import re
import signal

from plugrun.errors import InvalidArgument

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgtp]?)(?:i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_MIN_MEMORY = 6 * 1024 * 1024  # Docker's: less cannot even start a runtime's init
_INFINITY = -1

_ULIMITS = "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"


def hostname(value: str) -> str:
    """Check a host name: RFC 1123 labels, 63 characters at most, because Linux takes no more than 64."""
    if len(value) > 63 or not all(_LABEL.fullmatch(label) for label in value.split(".")):
        raise InvalidArgument(
            f"{value!r} cannot be a host name", hint="use at most 63 letters, digits, '-' and '.', ends not '-' or '.'"
        )
    return value


def env_name(name: str) -> str:
    """Check the name of an environment variable: anything but empty, ``=`` and control characters."""
    if not name or "=" in name or not name.isprintable() or " " in name:
        raise InvalidArgument(f"{name!r} cannot name an environment variable")
    return name


def env(text: str) -> str:
    """Check ``NAME=value``: execve(2) ends a string at NUL."""
    env_name(text.partition("=")[0])
    if "\0" in text:
        raise InvalidArgument(f"environment variable {text!r} contains a NUL character")
    return text


def label(text: str) -> tuple[str, str]:
    """Split ``key=value``; a bare key has the empty value."""
    key, _, value = text.partition("=")
    if not key or not key.isprintable():
        raise InvalidArgument(f"--label {text!r} has no key", hint="write KEY=VALUE")
    return key, value


def size(text: str) -> int:
    """Read a number of bytes with an optional binary unit: ``64m``, ``1.5g``, ``1024``."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidArgument(f"{text!r} is not a size", hint="write a number with b, k, m, g or t, e.g. 512m")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


def memory(text: str) -> int:
    """Read a memory limit in bytes; at least 6 MiB, as in Docker."""
    found = size(text)
    if found < _MIN_MEMORY:
        raise InvalidArgument(f"{text!r} of memory is not enough to start a container", hint="give at least 6m")
    return found


def memory_swap(text: str) -> int:
    """Read ``--memory-swap``: bytes, or ``-1`` for unlimited."""
    return -1 if text == "-1" else size(text)


def cpus(text: str) -> float:
    """Read a number of CPUs; the kernel accounts in steps of a hundredth."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.01 <= found < 100_000:  # also refuses nan and inf
        raise InvalidArgument(f"{text!r} is not a number of CPUs", hint="write e.g. 0.5 or 2; 0.01 is the least")
    return found


def ulimit(text: str) -> tuple[str, tuple[int, int]]:
    """Read ``name=soft[:hard]``; ``-1`` or ``unlimited`` for no limit; without ``hard`` both are the same."""
    name, equals, limits = text.partition("=")
    values = [_limit(value) for value in limits.split(":")]
    if not equals or name not in _ULIMITS.split() or len(values) > 2 or None in values:
        raise InvalidArgument(f"{text!r} is not a resource limit", hint=f"write NAME=SOFT[:HARD]; names are {_ULIMITS}")
    soft, hard = int(values[0] or 0), int(values[-1] or 0)
    if hard != _INFINITY and (soft > hard or soft == _INFINITY):
        raise InvalidArgument(f"{text!r}: the soft limit is above the hard one")
    return name, (soft, hard)


def _limit(text: str) -> int | None:
    if text in {"-1", "unlimited"}:
        return _INFINITY
    return int(text) if text.isascii() and text.isdecimal() else None


def signal_number(text: str) -> int:
    """Read a signal: ``TERM``, ``sigterm``, ``15``, ``RTMIN+3``."""
    if text.isascii() and text.isdecimal():
        if 1 <= int(text) <= signal.SIGRTMAX:
            return int(text)
    elif (found := _signal_by_name(text.upper().removeprefix("SIG"))) is not None:
        return found
    raise InvalidArgument(f"{text!r} is not a signal", hint="write a name such as TERM or a number such as 15")


def _signal_by_name(name: str) -> int | None:
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    number = getattr(signal, f"SIG{base}", None)
    if not isinstance(number, signal.Signals):
        return None
    if not sign:
        return int(number)
    if base not in {"RTMIN", "RTMAX"} or not offset.isdecimal():
        return None
    found = number + int(sign + offset)
    return found if signal.SIGRTMIN <= found <= signal.SIGRTMAX else None
