"""Questions to the kernel over netlink(7), for what no library answers quickly enough."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Final, Self

NETFILTER: Final = 12
SOCK_DIAG: Final = 4

# linux/netlink.h
REQUEST: Final = 0x1
ACK: Final = 0x4
DUMP: Final = 0x300

_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR
_ERROR, _DONE = 2, 3
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED, NLA_F_NET_BYTEORDER
_SO_NETNS_COOKIE = 71
_RECEIVE = 1 << 18

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr


class Changed(Exception):
    """What was listed changed meanwhile."""


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


class Netlink:
    """A socket to the network namespace in which the calling thread is.

    :raises OSError: the kernel knows no such protocol.
    """

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    @property
    def namespace(self) -> str:
        """What no other network namespace has until the next boot: socket(7), ``SO_NETNS_COOKIE``, Linux 5.14."""
        try:
            return self._socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8).hex()
        except OSError:
            return str(os.stat("/proc/thread-self/ns/net").st_ino)

    def ask(self, kind: int, payload: bytes, flags: int = REQUEST | ACK) -> Iterator[bytes]:
        """Send one request and yield the payload of each answer.

        :param flags: ``REQUEST | DUMP`` for a list.
        :raises OSError: the kernel refused.
        :raises Changed: the list is of different moments.
        """
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(payload), kind, flags, self._sequence, 0)
        self._socket.send(header + payload)
        while True:
            data = self._socket.recv(_RECEIVE)
            place = 0
            while place + _HEADER.size <= len(data):
                length, answer, answer_flags, sequence, _ = _HEADER.unpack_from(data, place)
                body = data[place + _HEADER.size : place + length]
                place += length + (-length % 4)
                if sequence != self._sequence:
                    continue
                if answer_flags & _INTERRUPTED:
                    raise Changed
                if answer in {_ERROR, _DONE}:
                    number = -int.from_bytes(body[:4], sys.byteorder, signed=True)
                    if number:
                        raise OSError(number, os.strerror(number))
                    return
                yield body
