"""Flows of UDP that the kernel has in mind, and that rules are not asked about any more: nf_conntrack_netlink.

A connection of TCP ends with one of its ends. A flow of UDP does not: as long as a client keeps sending, its packets go
where the first one went, be that a container which no longer has the port, or whoever got its address since. And what a
client sent before a port was published never reaches the container. So whoever changes published ports ends the flows.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from plugrun.api import NamedTuple
from plugrun_net_bridge.attributes import attribute, attributes
from plugrun_net_bridge.netlink import ACK, DUMP, NESTED, REQUEST, Changed, Netlink

if TYPE_CHECKING:
    from plugrun_net_bridge.mapped import Mapped

_CONNTRACK: Final = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_GET, _DELETE = 1, 2
_FAMILIES: Final = {4: socket.AF_INET, 16: socket.AF_INET6}

# linux/netfilter/nfnetlink_conntrack.h
_ORIGINAL, _REPLY, _FILTER = 1, 2, 25
_ADDRESSES, _PROTOCOL = 1, 2
_SOURCES, _TARGETS = (1, 3), (2, 4)  # CTA_IP_V4_SRC, CTA_IP_V6_SRC; CTA_IP_V4_DST, CTA_IP_V6_DST
_NUMBER, _TARGET_PORT = 1, 3
_FILTER_ORIGINAL = 1
_BY_NUMBER = 1 << 3  # CTA_FILTER_FLAG(CTA_PROTO_NUM)


class _Flow(NamedTuple):
    """A flow: who sends, to whom, and who answers to whom, all addresses packed.

    :param name: what the kernel knows it by.
    """

    name: bytes
    source: bytes
    target: bytes
    port: int
    answering: bytes
    answered: bytes

    def was_sent_to(self, element: Mapped) -> bool:
        """Whether it went through a port that was published."""
        return element.first <= self.port <= element.last and self.answering == element.to

    def missed(self, element: Mapped) -> bool:
        """Whether it would go through a port that is published, and does not."""
        untouched = self.answering == self.target and self.answered == self.source
        return untouched and element.first <= self.port <= element.last and element.host in {b"", self.target}


def end_flows(netlink: Netlink, removed: Sequence[Mapped], added: Sequence[Mapped]) -> None:
    """End what goes the way of ``removed``, and what would go that of ``added``. Without connection tracking, nothing.

    It costs nothing where no UDP port is among them, and else some microseconds for each flow of UDP on the host.
    """
    gone = [one for one in removed if one.protocol == socket.IPPROTO_UDP]
    new = [one for one in added if one.protocol == socket.IPPROTO_UDP]
    for length in {len(one.to) for one in gone + new}:
        with contextlib.suppress(OSError, Changed):
            for flow in _flows(netlink, _FAMILIES[length]):
                if any(map(flow.was_sent_to, gone)) or any(map(flow.missed, new)):
                    _end(netlink, _FAMILIES[length], flow)


def _end(netlink: Netlink, family: int, flow: _Flow) -> None:
    with contextlib.suppress(FileNotFoundError):  # it has ended by itself
        payload = _header(family) + attribute(_ORIGINAL | NESTED, flow.name)
        list(netlink.ask(_CONNTRACK | _DELETE, payload, REQUEST | ACK))


def _flows(netlink: Netlink, family: int) -> list[_Flow]:
    """Return the flows of UDP; the kernel leaves out all others, if it can: Linux 5.8."""
    protocol = attribute(_PROTOCOL | NESTED, attribute(_NUMBER, bytes([socket.IPPROTO_UDP])))
    only = b"".join(
        (
            attribute(_ORIGINAL | NESTED, protocol),
            attribute(_FILTER | NESTED, attribute(_FILTER_ORIGINAL, _BY_NUMBER.to_bytes(4, sys.byteorder))),
        )
    )
    try:
        return list(_listed(netlink, _header(family) + only))
    except OSError:
        return list(_listed(netlink, _header(family)))


def _listed(netlink: Netlink, request: bytes) -> Iterator[_Flow]:
    for answer in netlink.ask(_CONNTRACK | _GET, request, REQUEST | DUMP):
        found = attributes(answer, 4)
        original, reply = attributes(found[_ORIGINAL]), attributes(found[_REPLY])
        protocol = attributes(original[_PROTOCOL])
        if protocol[_NUMBER][0] == socket.IPPROTO_UDP:
            there, back = attributes(original[_ADDRESSES]), attributes(reply[_ADDRESSES])
            yield _Flow(
                name=found[_ORIGINAL],
                source=_one(there, _SOURCES),
                target=_one(there, _TARGETS),
                port=int.from_bytes(protocol[_TARGET_PORT], "big"),
                answering=_one(back, _SOURCES),
                answered=_one(back, _TARGETS),
            )


def _one(addresses: dict[int, bytes], kinds: tuple[int, int]) -> bytes:
    return next(addresses[kind] for kind in kinds if kind in addresses)


def _header(family: int) -> bytes:
    """Return a ``struct nfgenmsg``."""
    return bytes((family, 0, 0, 0))
