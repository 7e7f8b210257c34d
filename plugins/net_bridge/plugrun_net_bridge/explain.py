"""Which way packets go to and from a container, read from the live system; what should be there and is not is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from plugrun.api import Attachment, FailedPrecondition, Hop, NamedTuple, NetResult, Network, PacketPath, PortMapping
from plugrun_net_bridge import inside, links, sysctl
from plugrun_net_bridge.listeners import Listener, listeners
from plugrun_net_bridge.listing import MISSING, Listing, droppers
from plugrun_net_bridge.mapped import PROTOCOLS, Published, mapped, packed, reached_at
from plugrun_net_bridge.naming import port as port_name
from plugrun_net_bridge.rtnetlink import Rtnetlink

if TYPE_CHECKING:
    from plugrun_net_bridge.links import Link, Route
    from plugrun_net_bridge.table import Table

T = TypeVar("T")
_DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}
_FORWARDING = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
_RELOAD = "plugrun network reload makes it anew"


class _Side(NamedTuple):
    """One network namespace.

    :param interfaces: with their addresses.
    """

    interfaces: Sequence[tuple[Link, Sequence[str]]]
    routes: Sequence[Route]

    def find(self, name: str) -> tuple[Link, Sequence[str]] | None:
        return next((one for one in self.interfaces if one[0].name == name), None)

    def way_out(self, version: int) -> tuple[str, str] | None:
        """Return the interface and the gateway of the default route."""
        ways = [one for one in self.routes if one.destination == _DEFAULT[version]]
        if not ways:
            return None
        best = min(ways, key=lambda one: one.metric)
        name = next((link.name for link, _ in self.interfaces if link.number == best.interface), "?")
        return name, best.gateway


def _look() -> _Side:
    """Look at the namespace in which the calling thread is."""
    with Rtnetlink() as link:
        interfaces = [(one, sorted(links.addresses(link, one.number))) for one in links.all_links(link)]
        return _Side(interfaces, links.routes(link))


def explain(table: Table, network: Network, at: Attachment, prev: NetResult) -> Sequence[PacketPath]:
    """Describe the ways in and out of an endpoint: :meth:`plugrun.api.SupportsExplain.explain`.

    :raises OSError: the kernel refused to list something.
    """
    view = _View(table, network, at, prev)
    versions = [version for version in (4, 6) if view.addresses(version)]
    return [
        *(view.out(version) for version in versions),
        *(view.published(mapping) for mapping in prev.ports),
        *(view.between(version) for version in versions),
    ]


class _View:
    """The live system around one endpoint."""

    def __init__(self, table: Table, network: Network, at: Attachment, prev: NetResult) -> None:
        self._network, self._prev = network, prev
        self._bridge, self._interface = network.interface, prev.interface
        self._port = port_name(at.container_id, at.number)
        self._rules = Listing(table.name)
        self._others = [
            Hop(chain, "drops what none of its rules accepts: it must accept what goes to and from this bridge")
            for chain in droppers(table.name)
        ]
        self._host = _look()
        self._inside = _within(at.netns, _look)
        self._listeners = {
            name: _within(at.netns, _listening(PROTOCOLS[name])) or [] for name in {one.protocol for one in prev.ports}
        }

    def addresses(self, version: int) -> list[str]:
        """Return the container's addresses of one IP version, without prefix."""
        plain = [one.partition("/")[0] for one in self._prev.addresses]
        return [one for one in plain if (":" in one) == (version == 6)]

    def out(self, version: int) -> PacketPath:
        """Describe the way to everywhere else."""
        hops = [*self._leave(version), *self._cross_bridge()]
        if self._network.internal:
            hops.append(self._rule("passing", "iifname @internal drop", "the network is internal: nothing leaves it"))
            return self._path(f"from the container to other machines, IPv{version}", hops)
        protocol = "ip" if version == 4 else "ip6"
        passing = self._rule("passing", "iifname @bridges ct state invalid drop", "all else passes")
        hops += [self._forwarding(version), passing, *self._others]
        way = self._host.way_out(version)
        if way is None:
            hops.append(Hop("routes of the host", f"{MISSING}: a default route for IPv{version}"))
        else:
            hops.append(Hop(f"{way[0]} of the host", f"its addresses {self._on_host(way[0], version)}, next {way[1]}"))
        hops.append(
            self._rule("leaving", f"{protocol} saddr @subnets{version} masquerade", "the host's address instead")
        )
        return self._path(f"from the container to other machines, IPv{version}", hops)

    def published(self, mapping: PortMapping) -> PacketPath:
        """Describe the way to a published port."""
        four, six = (next(iter(self.addresses(version)), None) for version in (4, 6))
        one = Published(mapping, four, six)
        hops = []
        for element in mapped([one]):
            place = f"map {element.set} of table inet {self._rules.name}"
            there = self._rules.has(element.set, str(element))
            said = str(element).replace(
                f"{element.protocol} . {element.first}", f"{mapping.protocol} . {element.first}"
            )
            hops.append(Hop(place, said if there else f"{MISSING}: {said}; {_RELOAD}"))
            if len(hops) > 3:  # of many one by one, some show it
                hops.append(Hop(place, f"and so on, {mapping.size} ports in all"))
                break
        hops += [
            self._rule("arriving", "fib daddr type local jump publish", "only what is to the host itself"),
            *(self._forwarding(6 if ":" in address else 4) for address in reached_at(one)),
            self._rule("passing", "oifname @bridges ct status dnat accept"),
            *self._others,
            *self._cross_bridge(),
            Hop(f"{self._interface} in the container", self._who_listens(mapping)),
        ]
        host = f"[{mapping.host_address}]" if ":" in mapping.host_address else mapping.host_address or "any address"
        return self._path(f"from {host}, port {_row(mapping.host_port, mapping)} of the host to the container", hops)

    def between(self, version: int) -> PacketPath:
        """Describe the way to other containers."""
        protocol = "ip" if version == 4 else "ip6"
        hops = [
            *self._leave(version),
            *self._cross_bridge(),
            Hop("containers of this network", f"reached on {self._bridge}, without any rule"),
            self._rule("before", f"{protocol} daddr @subnets{version} drop", "those of other networks are not reached"),
        ]
        return self._path(f"from the container to other containers, IPv{version}", hops)

    # --- Hops --------------------------------------------------------------------------------------------------------

    @staticmethod
    def _path(title: str, hops: Sequence[Hop]) -> PacketPath:
        return PacketPath(title, tuple(hops))

    def _rule(self, chain: str, rule: str, why: str = "") -> Hop:
        text = self._rules.rule(chain, rule)
        said = f"{text}; {_RELOAD}" if text.startswith(MISSING) else text
        return Hop(f"chain {chain} of table inet {self._rules.name}", f"{said} ({why})" if why else said)

    def _leave(self, version: int) -> Iterator[Hop]:
        """Yield the container's own interface and route."""
        place = f"{self._interface} in the container"
        if self._inside is None:
            yield Hop(place, f"{MISSING}: the container has no network namespace, as it does not run")
            return
        found = self._inside.find(self._interface)
        if found is None:
            yield Hop(place, MISSING)
            return
        link, there = found
        wanted = [one for one in self._prev.addresses if (":" in one) == (version == 6)]
        absent = [one for one in wanted if one not in there]
        state = "" if link.up else "; it is down"
        yield Hop(place, f"{MISSING}: {', '.join(absent)}" if absent else ", ".join(wanted) + state)
        way = self._inside.way_out(version)
        if way is not None:
            yield Hop("routes in the container", f"all else by {way[0]} to {way[1]}")
        elif not self._network.internal:
            yield Hop("routes in the container", f"{MISSING}: a default route for IPv{version}")

    def _cross_bridge(self) -> Iterator[Hop]:
        """Yield the interfaces on the host, and whether the rules know the bridge."""
        bridge, port = self._host.find(self._bridge), self._host.find(self._port)
        if port is None:
            yield Hop(f"{self._port} on the host", MISSING)
        else:
            joined = bridge is not None and port[0].master == bridge[0].number
            what = f"a port of {self._bridge}" if joined else f"{MISSING}: it is no port of {self._bridge}"
            yield Hop(f"{self._port} on the host", what + ("" if port[0].up else "; it is down"))
        if bridge is None:
            yield Hop(f"{self._bridge} on the host", MISSING)
            return
        known = self._rules.has("bridges", f'"{self._bridge}"')
        state = "" if bridge[0].up else "; it is down"
        unknown = "" if known else f"; {MISSING}: the rules do not know it; {_RELOAD}"
        yield Hop(f"{self._bridge} on the host", ", ".join(bridge[1]) + state + unknown)

    def _forwarding(self, version: int) -> Hop:
        on = sysctl.read(_FORWARDING[version]) == "1"
        name = _FORWARDING[version].replace("/", ".")
        return Hop(f"forwarding of the host, IPv{version}", "on" if on else f"{MISSING}: net.{name} is 0")

    def _on_host(self, name: str, version: int) -> str:
        found = self._host.find(name)
        addresses = [] if found is None else [one for one in found[1] if (":" in one) == (version == 6)]
        return ", ".join(addresses) or "none"

    def _who_listens(self, mapping: PortMapping) -> str:
        """Say whether a program in the container waits for what comes."""
        if self._inside is None:
            return f"{MISSING}: the container does not run"
        first = mapping.container_port
        own = {b"", *map(packed, self.addresses(4)), *map(packed, self.addresses(6))}
        ports = {
            one.port
            for one in self._listeners[mapping.protocol]
            if first <= one.port < first + mapping.size and (one.address in own or not any(one.address))
        }
        wanted = _row(first, mapping)
        if len(ports) == mapping.size:
            return f"a program has port {wanted}"
        if ports:
            return f"programs have {len(ports)} of the ports {wanted}"
        return f"no program has port {wanted} at an address that can be reached"


def _row(first: int, mapping: PortMapping) -> str:
    last = f"-{first + mapping.size - 1}" if mapping.size > 1 else ""
    return f"{first}{last}/{mapping.protocol}"


def _listening(protocol: int) -> Callable[[], list[Listener]]:
    return lambda: list(listeners(protocol))


def _within(netns: str | None, work: Callable[[], T]) -> T | None:
    """Return what ``work`` does in a container's namespace, ``None`` if it has none."""
    try:
        with inside.opened(netns) as descriptor:
            return inside.run(descriptor, work)
    except FailedPrecondition:
        return None
