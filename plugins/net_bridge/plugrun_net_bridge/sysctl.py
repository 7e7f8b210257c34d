"""Settings below ``/proc/sys/net``, of the network namespace in which the calling thread is."""

from __future__ import annotations

import contextlib
import os

_ROOT = "/proc/sys/net"


def read(name: str) -> str | None:
    """Return a setting, ``None`` if the kernel has none of this name: IPv6 may be missing."""
    try:
        with open(f"{_ROOT}/{name}", encoding="ascii") as stream:
            return stream.read().strip()
    except FileNotFoundError:
        return None


def write(name: str, value: str) -> None:
    """Set it.

    :param name: a path relative to ``/proc/sys/net``, as names of interfaces may have dots.
    :raises OSError: the kernel refused; what it does not have needs no setting and is fine.
    """
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(f"{_ROOT}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)


def interfaces6() -> list[str]:
    """Return the interfaces that have settings for IPv6."""
    try:
        return [name for name in os.listdir(f"{_ROOT}/ipv6/conf") if name not in {"all", "default", "lo"}]
    except FileNotFoundError:
        return []
