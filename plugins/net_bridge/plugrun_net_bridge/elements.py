"""What the packet rules know, as elements of their sets and maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from plugrun.tuples import NamedTuple
from plugrun_net_bridge.mapped import Mapped, Published, mapped

_IPV4, _IPV6 = 2, 10  # NFPROTO_IPV4, NFPROTO_IPV6


class NetworkRules(NamedTuple):
    """What the rules know of a network.

    :param bridge: its interface.
    :param subnets: of both IP versions, in CIDR notation.
    :param internal: nothing leaves it, and nothing comes in.
    """

    bridge: str
    subnets: tuple[str, ...]
    internal: bool


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
    """One element of a set, as nft(8) prints it.

    :param set: the name of the set.
    """

    set: str
    key: str

    def __str__(self) -> str:
        return self.key


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


def of_all(wanted: Wanted) -> Iterator[Element | Mapped]:
    """Yield every element there is to be."""
    for network in wanted.networks:
        yield from of_network(network)
    yield from mapped(wanted.published)
    for number, lonely in ((_IPV4, wanted.lonely4), (_IPV6, wanted.lonely6)):
        if lonely:
            yield Element("lonely", str(number))


def by_set(elements: Iterable[Element | Mapped]) -> dict[str, list[Element | Mapped]]:
    """Return elements by the set they are in."""
    found: dict[str, list[Element | Mapped]] = {}
    for element in elements:
        found.setdefault(element.set, []).append(element)
    return found
