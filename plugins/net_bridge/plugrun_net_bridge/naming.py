"""Names of what is on the host: at most 15 characters for an interface, to be found again from ids alone."""

from __future__ import annotations


def digest(text: bytes) -> int:
    """Return a number of 32 bits for a text: FNV-1a, as short as a hash can be, and no module to load."""
    value = 0x811C9DC5
    for byte in text:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def port(container_id: str, number: int) -> str:
    """Return the name of an endpoint's interface on the host: the beginning of the id, and a digest of all of it."""
    return f"pr{container_id[:4]}{digest(container_id.encode()) & 0xFFFFFF:06x}{number:02d}"


def bridge(network_id: str) -> str:
    """Return the name of a network's bridge, if the user wants no other."""
    return f"pr-{network_id[:6]}{digest(network_id.encode()) & 0xFFFFFF:06x}"
