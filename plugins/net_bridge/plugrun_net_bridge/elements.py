"""What the packet rules know, as elements of their sets and maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from plugrun.api import NamedTuple
from plugrun_net_bridge.mapped import Mapped, Published, mapped

_KEY = 5  # fields of an element: of these and no more its set and its key consist


class NetworkRules(NamedTuple):
    """What the rules know of a network.

    :param bridge: its interface.
    :param subnets: of both IP versions, in CIDR notation.
    :param internal: nothing leaves it, and nothing comes in.
    :param served: our resolver listens on the bridge; of an internal network nothing else of the host's is reached.
    """

    bridge: str
    subnets: tuple[str, ...]
    internal: bool
    served: bool = False


class Wanted(NamedTuple):
    """All that the rules are to know.

    :param former4: the interfaces there were when plugrun turned on IPv4 forwarding, between which there must be none;
        ``former6`` likewise.
    """

    networks: Sequence[NetworkRules]
    published: Sequence[Published]
    former4: Sequence[str] = ()
    former6: Sequence[str] = ()


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
    if network.served:
        yield Element("served", bridge)
    for subnet in network.subnets:
        version = 6 if ":" in subnet else 4
        yield Element(f"own{version}", f"{bridge} . {subnet}")
        yield Element(f"subnets{version}", subnet)


def of_all(wanted: Wanted) -> Iterator[Element | Mapped]:
    """Yield every element there is to be."""
    for network in wanted.networks:
        yield from of_network(network)
    yield from mapped(wanted.published)
    for name, interfaces in (("former4", wanted.former4), ("former6", wanted.former6)):
        yield from (Element(name, f'"{one}"') for one in interfaces if '"' not in one)


def by_set(elements: Iterable[Element | Mapped]) -> dict[str, list[Element | Mapped]]:
    """Return elements by the set they are in."""
    found: dict[str, list[Element | Mapped]] = {}
    for element in elements:
        found.setdefault(element.set, []).append(element)
    return found


def count(wanted: Wanted) -> dict[str, int]:
    """Return how many elements each set is to have."""
    keys: dict[str, set[tuple[object, ...]]] = {}
    for one in of_all(wanted):
        keys.setdefault(one.set, set()).add(one[:_KEY])
    return {name: len(some) for name, some in keys.items()}
