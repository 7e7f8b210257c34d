"""Which ports of the host programs use: sock_diag(7), one question for all ports of a protocol."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final

from plugrun.api import NamedTuple
from plugrun_net_bridge.attributes import attributes
from plugrun_net_bridge.netlink import DUMP, REQUEST, SOCK_DIAG, Netlink

_BY_FAMILY: Final = 20  # SOCK_DIAG_BY_FAMILY
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2: family, protocol, extensions, states, any socket
_PORT_AT, _ADDRESS_AT, _ATTRIBUTES_AT = 4, 8, 72
_V6_ONLY = 11  # INET_DIAG_SKV6ONLY
_LISTEN = 1 << 10  # TCP_LISTEN
_ANY_STATE = 0xFFFFFFFF
_STATES = {socket.IPPROTO_TCP: _LISTEN, socket.IPPROTO_UDP: _ANY_STATE, socket.IPPROTO_SCTP: _LISTEN}
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291


class Listener(NamedTuple):
    """A port of the host that a program has.

    :param address: packed, of 4 or 16 bytes; ``b""`` for all addresses of both kinds.
    """

    port: int
    address: bytes


def listeners(protocol: int) -> Iterator[Listener]:
    """Yield the ports on which programs in this network namespace listen, or for UDP, which they have.

    :param protocol: its number.
    """
    with Netlink(SOCK_DIAG) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _REQUEST.pack(family, protocol, 0, _STATES[protocol])
            try:
                for answer in netlink.ask(_BY_FAMILY, request, REQUEST | DUMP):
                    yield _listener(answer)
            except FileNotFoundError:  # the kernel has no such protocol, or cannot list it
                return


def _listener(answer: bytes) -> Listener:
    port = int.from_bytes(answer[_PORT_AT : _PORT_AT + 2], "big")
    if answer[0] == socket.AF_INET:
        return Listener(port, answer[_ADDRESS_AT : _ADDRESS_AT + 4])
    address = answer[_ADDRESS_AT : _ADDRESS_AT + 16]
    if address.startswith(_MAPPED):
        return Listener(port, address[len(_MAPPED) :])
    if not any(address) and attributes(answer, _ATTRIBUTES_AT).get(_V6_ONLY) != b"\1":
        return Listener(port, b"")
    return Listener(port, address)
