"""Questions to the kernel over netlink(7), for what no library answers quickly enough."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Final, Self

from plugrun.api import NamedTuple

NETFILTER: Final = 12
SOCK_DIAG: Final = 4

# linux/netlink.h
REQUEST: Final = 0x1
ACK: Final = 0x4
DUMP: Final = 0x300
CREATE: Final = 0x400
NESTED: Final = 0x8000

_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR
_ERROR, _DONE = 2, 3
_SO_NETNS_COOKIE = 71
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER = 1 << 24  # bytes at most; only what is used is taken
_RECEIVE = 1 << 18

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr


class Changed(Exception):
    """What was listed changed meanwhile."""


class Message(NamedTuple):
    """One of several messages.

    :param flags: with ``ACK`` the sender waits for what the kernel says to it.
    """

    kind: int
    flags: int
    payload: bytes


class Netlink:
    """A socket to the network namespace in which the calling thread is.

    :ivar namespace: what no other namespace has, until the next boot.
    :raises OSError: the kernel knows no such protocol, or this is not root.
    """

    def __init__(self, protocol: int) -> None:
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        with contextlib.ExitStack() as stack:
            stack.callback(made.close)
            for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
                made.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
            self.namespace = _namespace(made)
            stack.pop_all()
        self._descriptor = made.detach()
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        os.close(self._descriptor)

    def ask(self, kind: int, payload: bytes, flags: int = REQUEST | ACK) -> Iterator[bytes]:
        """Send one request and yield the payload of each answer.

        :param flags: ``REQUEST | DUMP`` for a list.
        :raises OSError: the kernel refused.
        :raises Changed: the list is of different moments.
        """
        os.write(self._descriptor, self._message(kind, flags, payload))
        torn = False
        for number, answer, marks, body in self._answers():
            if number != self._sequence:
                continue
            torn = torn or bool(marks & _INTERRUPTED and answer != _ERROR)
            if answer in {_ERROR, _DONE}:
                _check(body)
                break
            yield body
        if torn:  # said at the end: as long as a list is not read to it, the kernel is too busy for another one
            raise Changed

    def tell(self, messages: Sequence[Message]) -> None:
        """Send several messages at once and wait until those with ``ACK`` are acknowledged.

        :raises OSError: what the kernel says of the first that it refused.
        """
        first = self._sequence + 1
        os.write(self._descriptor, b"".join(self._message(*one) for one in messages))
        waiting = {first + place for place, one in enumerate(messages) if one.flags & ACK}
        failure: OSError | None = None
        for number, answer, _, body in self._answers():
            if number < first or answer != _ERROR:
                continue
            try:
                _check(body)
            except OSError as error:
                failure = failure or error
                if number not in waiting:  # refused as a whole
                    break
            waiting.discard(number)
            if not waiting:
                break
        if failure is not None:
            raise failure

    def _message(self, kind: int, flags: int, payload: bytes) -> bytes:
        self._sequence += 1
        return _HEADER.pack(_HEADER.size + len(payload), kind, flags, self._sequence, 0) + payload

    def _answers(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield the sequence number, type, flags and payload of each message that comes."""
        while True:
            data = os.read(self._descriptor, _RECEIVE)
            place = 0
            while place + _HEADER.size <= len(data):
                length, kind, flags, number, _ = _HEADER.unpack_from(data, place)
                yield number, kind, flags, data[place + _HEADER.size : place + length]
                place += length + (-length % 4)


def _check(body: bytes) -> None:
    """Raise the error that an acknowledgement carries, if any."""
    number = -int.from_bytes(body[:4], sys.byteorder, signed=True)
    if number:
        raise OSError(number, os.strerror(number))


def _namespace(one: socket.socket) -> str:
    """Return what no other network namespace has until the next boot: socket(7), ``SO_NETNS_COOKIE``, Linux 5.14."""
    try:
        return one.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8).hex()
    except OSError:
        return str(os.stat("/proc/thread-self/ns/net").st_ino)
