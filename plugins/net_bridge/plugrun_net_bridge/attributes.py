"""Attributes of netlink messages: type, length, value, padded to four bytes. Source: netlink(7), linux/netlink.h."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED, NLA_F_NET_BYTEORDER


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded for the next."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def attributes(data: bytes, place: int = 0) -> dict[int, bytes]:
    """Return the attributes that follow a header of ``place`` bytes, by kind."""
    found = {}
    while place + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, place)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = data[place + _ATTRIBUTE.size : place + length]
        place += length + (-length % 4)
    return found


def several(data: bytes) -> Iterator[bytes]:
    """Yield the values of attributes that may all be of one kind."""
    place = 0
    while place + _ATTRIBUTE.size <= len(data):
        length, _ = _ATTRIBUTE.unpack_from(data, place)
        if length < _ATTRIBUTE.size:
            break
        yield data[place + _ATTRIBUTE.size : place + length]
        place += length + (-length % 4)
