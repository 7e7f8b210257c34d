"""Published ports as elements of the maps of the packet rules: as text for people, and as bytes for the kernel."""

from __future__ import annotations

import functools
import socket
from collections.abc import Iterable, Iterator
from typing import Final

from plugrun.api import FailedPrecondition, NamedTuple, PortMapping
from plugrun_net_bridge.attributes import attribute
from plugrun_net_bridge.netlink import NESTED

PROTOCOLS: Final = {"tcp": 6, "udp": 17, "sctp": 132}
"""Numbers of IP protocols, as nft(8) prints them when it is told not to look for names."""

_ANY = {4: "0.0.0.0/0", 6: "::/0"}
_FAMILIES = {4: socket.AF_INET, 16: socket.AF_INET6}

# linux/netfilter/nf_tables.h: attributes of an element, and of a value
_KEY, _DATA, _KEY_END, _VALUE = 1, 2, 10, 1


class Published(NamedTuple):
    """Ports of one container that are published.

    :param mapping: with its host port settled.
    :param ip: the container's IPv4 address without prefix, ``ip6`` likewise; ``None`` when it has none.
    """

    mapping: PortMapping
    ip: str | None
    ip6: str | None


class Mapped(NamedTuple):
    """One element: where packets to a port, or to ports in a row, are sent.

    :param set: the map.
    :param host: the host's address, packed; ``b""`` for all it has.
    :param protocol: its number.
    :param first: the host's port.
    :param last: the last one, the same unless the map is one of ranges.
    :param to: the container's address, packed.
    :param to_port: the container's port; 0 in a map of ranges, where it is the host's.
    """

    set: str
    host: bytes
    protocol: int
    first: int
    last: int
    to: bytes
    to_port: int

    @property
    def key(self) -> str:
        """The key as nft(8) prints it."""
        if self.to_port:
            host = f"{unpacked(self.host)} . " if self.host else ""
            return f"{host}{self.protocol} . {self.first}"
        return f"{unpacked(self.host) or _ANY[_version(self.to)]} . {self.protocol} . {self.first}-{self.last}"

    def __str__(self) -> str:
        port = f" . {self.to_port}" if self.to_port else ""
        return f"{self.key} : {unpacked(self.to)}{port}"

    @property
    def value(self) -> bytes:
        """The value as the kernel has it."""
        return self.to + (_port(self.to_port) if self.to_port else b"")

    def raw_key(self) -> bytes:
        """Return the attributes that name the element to the kernel."""
        rest = bytes((self.protocol, 0, 0, 0))
        if self.to_port:
            return _data(_KEY, self.host + rest + _port(self.first))
        low, high = (self.host, self.host) if self.host else (bytes(len(self.to)), b"\xff" * len(self.to))
        return _data(_KEY, low + rest + _port(self.first)) + _data(_KEY_END, high + rest + _port(self.last))

    def raw_value(self) -> bytes:
        """Return the attribute with the value."""
        return _data(_DATA, self.value)


def mapped(published: Iterable[Published]) -> Iterator[Mapped]:
    """Yield the elements that published ports are: one for ports in a row that keep their numbers.

    Ports that cannot be reached (:func:`check`) are none: they have to be removed like others.
    """
    for one in published:
        for address in reached_at(one):
            yield from _in_map(one.mapping, packed(address))


def check(published: Iterable[Published]) -> None:
    """See that ports would be reachable.

    :raises FailedPrecondition: some would be nowhere, as the container has no address of that IP version.
    """
    for one in published:
        if not any(reached_at(one)):
            raise _nowhere(one.mapping)


def reached_at(published: Published) -> Iterator[str]:
    """Yield the container's addresses at which the host's ports arrive."""
    wanted = published.mapping.host_address
    if published.ip and ":" not in wanted:
        yield published.ip
    if published.ip6 and (":" in wanted or not wanted):
        yield published.ip6


def _nowhere(mapping: PortMapping) -> FailedPrecondition:
    version = 6 if ":" in mapping.host_address else 4
    port = f"{mapping.host_port}/{mapping.protocol}"
    return FailedPrecondition(
        f"port {port} cannot be published at {mapping.host_address or 'any address'}: "
        f"the container has no IPv{version} address",
        hint="use a network made with --ipv6" if version == 6 else "use a network with an IPv4 subnet",
    )


def _in_map(mapping: PortMapping, to: bytes) -> Iterator[Mapped]:
    first, inside, size = mapping.host_port, mapping.container_port, mapping.size
    protocol, version = PROTOCOLS[mapping.protocol], _version(to)
    host = packed(mapping.host_address)
    if not any(host):  # all of one IP version
        host = b""
    if size > 1 and first == inside:
        yield Mapped(f"ranges{version}", host, protocol, first, first + size - 1, to, 0)
        return
    name = f"{'addrs' if host else 'ports'}{version}"
    for offset in range(size):
        yield Mapped(name, host, protocol, first + offset, first + offset, to, inside + offset)


def packed(address: str) -> bytes:
    """Return an IP address as bytes, ``b""`` for none."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address) if address else b""


def unpacked(address: bytes) -> str:
    """Return what :func:`packed` took."""
    return socket.inet_ntop(_FAMILIES[len(address)], address) if address else ""


def _version(address: bytes) -> int:
    return 4 if len(address) == 4 else 6


def _port(number: int) -> bytes:
    """Return a port as part of a key or a value, each of which is a multiple of four bytes."""
    return number.to_bytes(2, "big") + b"\0\0"


def _data(kind: int, value: bytes) -> bytes:
    return _data_head(kind, len(value)) + value


@functools.cache
def _data_head(kind: int, length: int) -> bytes:
    """Return what is before a value: ten thousand have the same."""
    return attribute(kind | NESTED, attribute(_VALUE, bytes(length)))[:-length]
