"""Interfaces, addresses and routes as values, and the messages that make them: rtnetlink(7), linux/if_link.h."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from plugrun_net_bridge.attributes import attribute, attributes
from plugrun_net_bridge.rtnetlink import (
    DELLINK,
    GETADDR,
    GETLINK,
    GETROUTE,
    NEWADDR,
    NEWLINK,
    NEWROUTE,
    SETLINK,
    Attributes,
    Message,
    Rtnetlink,
    number,
    text,
    to_number,
    to_text,
)

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, lengths of dst and src, tos, table, protocol, scope, type
_UP = 0x1

# IFLA_*
_MAC, _NAME, _MTU, _MASTER, _INFO, _ALIAS, _NETNS_FD, _EXT_MASK = 1, 3, 4, 10, 18, 20, 28, 29
_KIND, _DATA, _SLAVE_KIND, _SLAVE_DATA, _PEER = 1, 2, 4, 5, 1
_PORT_MODE = 4  # IFLA_BRPORT_MODE
_SKIP_STATS = 8
# IFA_*
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_NO_DAD = 0x02
# RTA_*
_DESTINATION, _OUT, _GATEWAY, _PRIORITY, _TABLE = 1, 4, 5, 6, 15
_MAIN, _STATIC, _UNICAST = 254, 4, 1


class Link(NamedTuple):
    """An interface.

    :param master: index of the bridge it is a port of, or 0.
    :param kind: such as ``veth``; ``""`` for hardware.
    """

    number: int
    name: str
    up: bool
    mtu: int
    master: int
    alias: str
    mac: str
    kind: str


class Route(NamedTuple):
    """A route of the main table.

    :param destination: in CIDR notation.
    :param gateway: ``""`` without one.
    :param interface: its index; 0 if it has none of its own.
    """

    destination: str
    gateway: str
    interface: int
    metric: int


def find(link: Rtnetlink, name: str) -> Link | None:
    """Return an interface by its name."""
    answer = link.get(Message(GETLINK, _LINK.pack(0, 0, 0, 0, 0) + number(_EXT_MASK, _SKIP_STATS) + text(_NAME, name)))
    return None if answer is None else _to_link(answer)


def by_index(link: Rtnetlink, index: int) -> Link | None:
    """Return an interface by its index."""
    answer = link.get(Message(GETLINK, _LINK.pack(0, 0, index, 0, 0) + number(_EXT_MASK, _SKIP_STATS)))
    return None if answer is None else _to_link(answer)


def all_links(link: Rtnetlink) -> list[Link]:
    """Return every interface of the namespace."""
    request = Message(GETLINK, _LINK.pack(0, 0, 0, 0, 0) + number(_EXT_MASK, _SKIP_STATS))
    return [_to_link(answer) for answer in link.dump(request)]


def addresses(link: Rtnetlink, index: int) -> set[str]:
    """Return the addresses of an interface, each with its prefix length."""
    found = set()
    for answer in link.dump(Message(GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0))):
        family, prefix, _, _, owner = _ADDRESS.unpack_from(answer)
        values = attributes(answer[_ADDRESS.size :])
        local = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
        if owner == index and local is not None:
            found.add(f"{socket.inet_ntop(family, local)}/{prefix}")
    return found


def routes(link: Rtnetlink) -> list[Route]:
    """Return the routes of the main table, of both families and all types."""
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        for answer in link.dump(Message(GETROUTE, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))):
            values = attributes(answer[_ROUTE.size :])
            _, prefix, _, _, table, *_ = _ROUTE.unpack_from(answer)
            if _number(values, _TABLE, table) == _MAIN:
                found.append(_to_route(family, prefix, values))
    return found


def new_link(name: str, kind: str, mac: str, mtu: int = 0) -> Message:
    """Return what makes an interface, down.

    A bridge with a hardware address that was asked for keeps that when ports come and go; else it takes the lowest of
    theirs, and containers talk to one which is gone until their neighbour entry for the gateway expires.

    :param mtu: 0 for the kind's own.
    """
    values = text(_NAME, name) + attribute(_MAC, bytes.fromhex(mac.replace(":", "")))
    values += number(_MTU, mtu) if mtu else b""
    return Message(NEWLINK, _LINK.pack(0, 0, 0, 0, 0) + values + _info(kind), create=True)


def new_veth(name: str, peer: str, *, netns: int, master: int, mtu: int, mac: str) -> Message:
    """Return what makes a pair of interfaces, both down: ``name``, a port of the bridge ``master``, and its peer.

    :param netns: descriptor of the namespace that the peer is made in.
    :param mac: of the peer.
    """
    inside = text(_NAME, peer) + number(_MTU, mtu) + attribute(_MAC, bytes.fromhex(mac.replace(":", "")))
    inside += number(_NETNS_FD, netns)
    pair = attribute(_PEER, _LINK.pack(0, 0, 0, 0, 0) + inside)
    values = text(_NAME, name) + number(_MTU, mtu) + number(_MASTER, master) + _info("veth", pair)
    return Message(NEWLINK, _LINK.pack(0, 0, 0, 0, 0) + values, create=True)


def set_link(
    name: str | int, *, up: bool | None = None, alias: str | None = None, master: int | None = None
) -> Message:
    """Return what changes an interface, given its name or index; ``None`` leaves things as they are."""
    index, values = (name, b"") if isinstance(name, int) else (0, text(_NAME, name))
    if alias is not None:
        values += text(_ALIAS, alias)
    if master is not None:
        values += number(_MASTER, master)
    return Message(SETLINK, _LINK.pack(0, 0, index, _UP if up else 0, 0 if up is None else _UP) + values)


def set_hairpin(name: str) -> Message:
    """Return what lets a bridge send a frame back to the port it came from."""
    data = text(_SLAVE_KIND, "bridge") + attribute(_SLAVE_DATA, attribute(_PORT_MODE, b"\1"))
    return Message(NEWLINK, _LINK.pack(0, 0, 0, 0, 0) + text(_NAME, name) + attribute(_INFO, data))  # of an old one


def rename(index: int, name: str) -> Message:
    """Return what gives an interface another name."""
    return Message(SETLINK, _LINK.pack(0, 0, index, 0, 0) + text(_NAME, name))


def delete_link(name: str) -> Message:
    """Return what deletes an interface."""
    return Message(DELLINK, _LINK.pack(0, 0, 0, 0, 0) + text(_NAME, name))


def new_address(index: int, address: str) -> Message:
    """Return what gives an interface an address, usable at once.

    :param address: with its prefix length.
    """
    plain, _, prefix = address.partition("/")
    family, packed = pack(plain)
    values = attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    if family == socket.AF_INET6:
        values += number(_IFA_FLAGS, _NO_DAD)
    elif int(prefix) < 31:
        everybody = int.from_bytes(packed, "big") | (1 << (32 - int(prefix))) - 1
        values += attribute(_IFA_BROADCAST, everybody.to_bytes(4, "big"))
    return Message(NEWADDR, _ADDRESS.pack(family, int(prefix), 0, 0, index) + values, create=True)


def default_route(index: int, gateway: str, metric: int) -> Message:
    """Return what makes ``gateway`` the way to everywhere else."""
    family, packed = pack(gateway)
    values = attribute(_GATEWAY, packed) + number(_OUT, index) + number(_PRIORITY, metric)
    return Message(NEWROUTE, _ROUTE.pack(family, 0, 0, 0, _MAIN, _STATIC, 0, _UNICAST, 0) + values, create=True)


def pack(address: str) -> tuple[socket.AddressFamily, bytes]:
    """Return family and bytes of an address without prefix."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def _info(kind: str, data: bytes = b"") -> bytes:
    return attribute(_INFO, text(_KIND, kind) + (attribute(_DATA, data) if data else b""))


def _to_link(answer: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(answer)
    values = attributes(answer[_LINK.size :])
    info = attributes(values.get(_INFO, b""))
    return Link(
        number=index,
        name=to_text(values[_NAME]),
        up=bool(flags & _UP),
        mtu=_number(values, _MTU, 0),
        master=_number(values, _MASTER, 0),
        alias=to_text(values.get(_ALIAS, b"")),
        mac=values.get(_MAC, b"").hex(":"),
        kind=to_text(info.get(_KIND, b"")),
    )


def _to_route(family: int, prefix: int, values: Attributes) -> Route:
    length = 4 if family == socket.AF_INET else 16
    destination = socket.inet_ntop(family, values.get(_DESTINATION, bytes(length)))
    gateway = values.get(_GATEWAY)
    return Route(
        destination=f"{destination}/{prefix}",
        gateway="" if gateway is None else socket.inet_ntop(family, gateway),
        interface=_number(values, _OUT, 0),
        metric=_number(values, _PRIORITY, 0),
    )


def _number(values: Attributes, kind: int, otherwise: int) -> int:
    return to_number(values[kind]) if kind in values else otherwise
