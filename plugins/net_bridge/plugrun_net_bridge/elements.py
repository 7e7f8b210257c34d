"""What the packet rules know: each network and each published port as elements of sets and maps."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from plugrun.api import FailedPrecondition, PortMapping
from plugrun.tuples import NamedTuple

PROTOCOLS: Final = {"tcp": 6, "udp": 17, "sctp": 132}
"""Numbers of IP protocols, as nft(8) prints them when it is told not to look for names."""

_ANY = {4: "0.0.0.0/0", 6: "::/0"}


class NetworkRules(NamedTuple):
    """What the rules know of a network.

    :param bridge: its interface.
    :param subnets: of both IP versions, in CIDR notation.
    :param internal: nothing leaves it, and nothing comes in.
    """

    bridge: str
    subnets: tuple[str, ...]
    internal: bool


class Published(NamedTuple):
    """Ports of one container that are published.

    :param mapping: with its host port settled.
    :param ip: the container's IPv4 address without prefix, ``ip6`` likewise; ``None`` when it has none.
    """

    mapping: PortMapping
    ip: str | None
    ip6: str | None


class Wanted(NamedTuple):
    """All that the rules are to know.

    :param lonely4: plugrun itself has turned on IPv4 forwarding, so that nothing but containers may use it;
        ``lonely6`` likewise.
    """

    networks: Sequence[NetworkRules]
    published: Sequence[Published]
    lonely4: bool = False
    lonely6: bool = False


class Element(NamedTuple):
    """One element of a set, or of a map if it has a value, as nft(8) prints it.

    :param set: the name of the set or map.
    """

    set: str
    key: str
    value: str | None = None

    def __str__(self) -> str:
        return self.key if self.value is None else f"{self.key} : {self.value}"


def of_network(network: NetworkRules) -> Iterator[Element]:
    """Yield what a network is in the sets."""
    bridge = f'"{network.bridge}"'
    yield Element("bridges", bridge)
    yield Element("same", f"{bridge} . {bridge}")
    if network.internal:
        yield Element("internal", bridge)
    for subnet in network.subnets:
        version = 6 if ":" in subnet else 4
        yield Element(f"own{version}", f"{bridge} . {subnet}")
        yield Element(f"subnets{version}", subnet)


def of_published(published: Published) -> Iterator[Element]:
    """Yield what published ports are in the maps: one element for ports in a row that keep their numbers.

    :raises FailedPrecondition: they would be reachable nowhere, as the container has no address of that IP version.
    """
    mapping = published.mapping
    versions = list(versions_of(published))
    if not versions:
        version = 6 if ":" in mapping.host_address else 4
        raise FailedPrecondition(
            f"port {mapping.host_port}/{mapping.protocol} cannot be published at "
            f"{mapping.host_address or 'any address'}: the container has no IPv{version} address",
            hint="connect it to a network that has some" if version == 4 else "make a network with --ipv6",
        )
    for version, address in versions:
        yield from _in_map(mapping, version, address)


def versions_of(published: Published) -> Iterator[tuple[int, str]]:
    """Yield the IP versions, 4 and 6, in which a container is reachable, and its address in each."""
    wanted = published.mapping.host_address
    if published.ip and ":" not in wanted:
        yield 4, published.ip
    if published.ip6 and (":" in wanted or not wanted):
        yield 6, published.ip6


def _in_map(mapping: PortMapping, version: int, address: str) -> Iterator[Element]:
    first, inside, size = mapping.host_port, mapping.container_port, mapping.size
    protocol = PROTOCOLS[mapping.protocol]
    address = canonical(address)
    host = "" if mapping.host_address in {"", "0.0.0.0", "::"} else canonical(mapping.host_address)  # noqa: S104
    if size > 1 and first == inside:
        place = host or _ANY[version]
        yield Element(f"ranges{version}", f"{place} . {protocol} . {first}-{first + size - 1}", address)
        return
    name, place = (f"addrs{version}", f"{host} . ") if host else (f"ports{version}", "")
    for offset in range(size):
        yield Element(name, f"{place}{protocol} . {first + offset}", f"{address} . {inside + offset}")


def canonical(address: str) -> str:
    """Return an IP address as nft(8) prints it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_ntop(family, socket.inet_pton(family, address))


def of_all(wanted: Wanted) -> Iterator[Element]:
    """Yield every element there is to be."""
    for network in wanted.networks:
        yield from of_network(network)
    for published in wanted.published:
        yield from of_published(published)
    for version, lonely in ((2, wanted.lonely4), (10, wanted.lonely6)):  # AF_INET, AF_INET6
        if lonely:
            yield Element("lonely", str(version))


def by_set(elements: Iterable[Element]) -> dict[str, list[Element]]:
    """Return elements by the set they are in."""
    found: dict[str, list[Element]] = {}
    for element in elements:
        found.setdefault(element.set, []).append(element)
    return found
