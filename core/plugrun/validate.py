"""What users may give, checked at the edge: each function returns the engine's value or quotes what is wrong.

Nothing that gets through here can carry a line break, a NUL or a separator into a file the engine writes.
"""

from __future__ import annotations

import re
import signal

from plugrun.errors import InvalidArgument

# Here and elsewhere patterns are text, which re compiles when first used: all of them would cost each command 4 ms.
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_SIZE = r"(\d+(?:\.\d+)?)\s*([bkmgtp]?)(?:i?b)?"
_CPUS = r"\d+\.?\d*|\.\d+"
_POWERS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_MIN_MEMORY = 6 * 1024 * 1024  # Docker's: less cannot even start a runtime's init
_INFINITY = -1
_LARGEST = 2**63 - 1  # what the kernel and the runtimes store

_ULIMITS = "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"


def hostname(value: str) -> str:
    """Check a host name: RFC 1123 labels, 63 characters at most, because Linux takes no more than 64."""
    if len(value) > 63 or not all(re.fullmatch(_LABEL, label) for label in value.split(".")):
        raise InvalidArgument(
            f"{value!r} cannot be a host name", hint="use at most 63 letters, digits, '-' and '.', ends not '-' or '.'"
        )
    return value


def text(value: str) -> str:
    """Check that a text is UTF-8, as everything about a container is; Python keeps other bytes as lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{value!r} is not UTF-8", hint="containers take no other text") from None
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
    match = re.fullmatch(_SIZE, text.strip(), re.IGNORECASE | re.ASCII)
    if match is None:
        raise InvalidArgument(f"{text!r} is not a size", hint="write a number with b, k, m, g or t, e.g. 512m")
    number = float(match[1]) * 1024 ** _POWERS[match[2].lower()]
    if number > _LARGEST:
        raise InvalidArgument(f"{text[:40]!r} is more bytes than there can be", hint=f"the most is {_LARGEST}")
    return int(number)


def memory(text: str) -> int:
    """Read a memory limit in bytes; at least 6 MiB, as in Docker."""
    found = size(text)
    if found < _MIN_MEMORY:
        raise InvalidArgument(f"{text!r} of memory is not enough to start a container", hint="give at least 6m")
    return found


def memory_and_swap(limit: str | None, swap: str | None) -> tuple[int | None, int | None]:
    """Read ``--memory`` and ``--memory-swap``, which is memory and swap together, or ``-1`` for unlimited swap."""
    bytes_limit = None if limit is None else memory(limit)
    if swap is None:
        return bytes_limit, None
    bytes_swap = _INFINITY if swap == "-1" else size(swap)
    if bytes_limit is None:
        raise InvalidArgument(f"--memory-swap {swap} needs --memory", hint="it is the sum of memory and swap")
    if bytes_swap != _INFINITY and bytes_swap < bytes_limit:
        raise InvalidArgument(
            f"--memory-swap {swap} is less than --memory {limit}", hint="it is the sum of memory and swap"
        )
    return bytes_limit, bytes_swap


def cpus(text: str) -> float:
    """Read a number of CPUs; the kernel accounts in steps of a hundredth."""
    found = float(text) if re.fullmatch(_CPUS, text, re.ASCII) else 0.0
    if not 0.01 <= found < 100_000:
        raise InvalidArgument(f"{text!r} is not a number of CPUs", hint="write e.g. 0.5 or 2; 0.01 is the least")
    return found


def ulimit(text: str) -> tuple[str, tuple[int, int]]:
    """Read ``name=soft[:hard]``; ``-1`` or ``unlimited`` for no limit; without ``hard`` both are the same."""
    name, _, limits = text.partition("=")
    values = [_limit(value) for value in limits.split(":")]
    if name not in _ULIMITS.split() or len(values) > 2 or None in values:
        raise InvalidArgument(f"{text!r} is not a resource limit", hint=f"write NAME=SOFT[:HARD]; names are {_ULIMITS}")
    soft, hard = int(values[0] or 0), int(values[-1] or 0)
    if hard != _INFINITY and (soft > hard or soft == _INFINITY):
        raise InvalidArgument(f"{text!r}: the soft limit is above the hard one")
    return name, (soft, hard)


def _limit(text: str) -> int | None:
    if text in {"-1", "unlimited"}:
        return _INFINITY
    return _integer(text)


def _integer(text: str) -> int | None:
    """Read digits; the length first, because int() itself refuses thousands of them with an error of its own."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        return None
    return found if (found := int(text)) <= _LARGEST else None


def signal_number(text: str) -> int:
    """Read a signal: ``TERM``, ``sigterm``, ``15``, ``RTMIN+3``."""
    found = _integer(text)
    if found is None:
        found = _signal_by_name(text.upper().removeprefix("SIG"))
    if found is not None and 1 <= found <= signal.SIGRTMAX:
        return found
    raise InvalidArgument(f"{text!r} is not a signal", hint="write a name such as TERM or a number such as 15")


def _signal_by_name(name: str) -> int | None:
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    number = getattr(signal, f"SIG{base}", None)
    if not isinstance(number, signal.Signals):
        return None
    if not sign:
        return int(number)
    steps = _integer(offset)
    if base not in {"RTMIN", "RTMAX"} or steps is None:
        return None
    found = number + steps if sign == "+" else number - steps
    return found if signal.SIGRTMIN <= found <= signal.SIGRTMAX else None
