"""Messages to the kernel about interfaces, addresses and routes: rtnetlink(7), netlink(7), as far as a bridge needs it.

A library for all of it takes longer to import than a container takes to start; this is the part that starts one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from plugrun_net_bridge.attributes import attribute, attributes

# linux/netlink.h
_REQUEST, _ACK, _DUMP, _CREATE, _EXCL = 0x1, 0x4, 0x300, 0x400, 0x200
_DUMP_INTERRUPTED = 0x10
_ACK_CAPPED, _ACK_TLVS = 0x100, 0x200
_ERROR, _DONE = 2, 3
_ATTRIBUTE_MESSAGE = 1  # NLMSGERR_ATTR_MSG
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12

# linux/rtnetlink.h
NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, GETADDR = 20, 22
NEWROUTE, GETROUTE = 24, 26

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_RECEIVE = 65536
_TRIES = 5

Attributes = dict[int, bytes]


class Message(NamedTuple):
    """One request.

    :param type: ``NEWLINK`` and so on.
    :param payload: the family's own header and attributes.
    :param create: make what is not there; ``EEXIST`` if it is.
    """

    type: int
    payload: bytes
    create: bool = False


def text(kind: int, value: str) -> bytes:
    """Return an attribute that is a string."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """Return an attribute that is an unsigned number of 32 bits."""
    return attribute(kind, value.to_bytes(4, sys.byteorder))


def to_number(value: bytes) -> int:
    """Return the number that an attribute is."""
    return int.from_bytes(value, sys.byteorder)


def to_text(value: bytes) -> str:
    """Return the string that an attribute is."""
    return value.rstrip(b"\0").decode(errors="replace")


class Rtnetlink:
    """A socket to the network namespace in which the calling thread is; it stays with that one."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            with contextlib.suppress(OSError):  # an older kernel: errors without words, dumps without a filter
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, *messages: Message) -> None:
        """Have the kernel do all of ``messages``, in order and in one system call.

        It goes on after one that fails, as each says by itself what it is about.

        :raises OSError: what the first of those that failed says, with the kernel's words.
        """
        first = self._sequence + 1
        self._send([_REQUEST | _ACK | (_CREATE | _EXCL if one.create else 0) for one in messages], messages)
        failures: dict[int, OSError] = {}
        answered = 0
        while answered < len(messages):
            for kind, flags, sequence, payload in self._receive():
                if kind != _ERROR or sequence < first:
                    continue
                answered += 1
                if (failure := _failure(flags, payload)) is not None:
                    failures[sequence] = failure
        if failures:
            raise failures[min(failures)]

    def get(self, message: Message) -> bytes | None:
        """Return the one answer to a request, ``None`` if what it asks for is not there.

        :raises OSError: the kernel refused.
        """
        self._send([_REQUEST], [message])
        for kind, flags, sequence, payload in self._receive():
            if sequence != self._sequence:
                continue
            if kind != _ERROR:
                return payload
            failure = _failure(flags, payload)
            if failure is not None and failure.errno not in {errno.ENODEV, errno.ENXIO}:
                raise failure
        return None

    def dump(self, message: Message) -> list[bytes]:
        """Return all answers to a request.

        :raises OSError: the kernel refused, or there was no moment without a change.
        """
        for _ in range(_TRIES):
            self._send([_REQUEST | _DUMP], [message])
            found, whole = self._collect()
            if whole:
                return found
        raise OSError(errno.EINTR, "the kernel's list changed each time it was read")

    def _collect(self) -> tuple[list[bytes], bool]:
        found: list[bytes] = []
        whole = True
        while True:
            for kind, flags, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & _DUMP_INTERRUPTED
                if kind in {_DONE, _ERROR}:
                    if (failure := _failure(flags, payload)) is not None:
                        raise failure
                    return found, whole
                found.append(payload)

    def _send(self, flags: Sequence[int], messages: Sequence[Message]) -> None:
        parts = []
        for flag, one in zip(flags, messages, strict=True):
            self._sequence += 1
            parts.append(_HEADER.pack(_HEADER.size + len(one.payload), one.type, flag, self._sequence, 0))
            parts.append(one.payload + bytes(-len(one.payload) % 4))
        self._socket.send(b"".join(parts))

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield type, flags, sequence number and payload of the messages in one datagram."""
        data = self._socket.recv(_RECEIVE)
        place = 0
        while place + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, place)
            yield kind, flags, sequence, data[place + _HEADER.size : place + length]
            place += length + (-length % 4)


def _failure(flags: int, payload: bytes) -> OSError | None:
    """Return the error of an ``NLMSG_ERROR`` or ``NLMSG_DONE``, ``None`` if it is no error."""
    code = -int.from_bytes(payload[:4], sys.byteorder, signed=True)
    if code == 0:
        return None
    words = os.strerror(code)
    if flags & _ACK_TLVS:
        # struct nlmsgerr: the error, the header of the request, and without NLM_F_CAPPED the request itself
        request = int.from_bytes(payload[4:8], sys.byteorder)
        said = attributes(payload[20 if flags & _ACK_CAPPED else 4 + request :]).get(_ATTRIBUTE_MESSAGE)
        if said is not None:
            words = f"{words} ({to_text(said).rstrip('.')})"
    return OSError(code, words)
