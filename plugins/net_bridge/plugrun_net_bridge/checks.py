"""Whether an endpoint is still what it was set up to be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from plugrun.api import Attachment, Drift, FailedPrecondition, NetResult, Network
from plugrun_net_bridge import endpoints, inside, ipam, links, naming
from plugrun_net_bridge.rtnetlink import Rtnetlink
from plugrun_net_bridge.rules import Rules, published

if TYPE_CHECKING:
    from plugrun_net_bridge.bridges import Bridges
    from plugrun_net_bridge.links import Link
    from plugrun_net_bridge.store import Endpoint, Store


class Checks:
    """Compares what is recorded with what is there; each difference is named."""

    def __init__(self, store: Store, bridges: Bridges, rules: Rules) -> None:
        self._store = store
        self._bridges = bridges
        self._rules = rules

    def check(self, at: Attachment, network: Network, prev: NetResult) -> None:
        """Check an endpoint from its record outwards.

        :raises Drift: the first difference.
        """
        endpoint = self._store.find(at.container_id, network.id)
        if endpoint is None:
            raise Drift(f"a record of the container on network {network.name!r}", "none")
        recorded = endpoints.addresses(endpoint, network)
        if set(recorded) != set(prev.addresses):
            raise Drift(f"the addresses {_list(prev.addresses)}", f"{_list(recorded)} recorded")
        with Rtnetlink() as link:
            self._bridge(link, network)
            self._port(link, endpoint, network)
        self._inside(at, endpoint, network)
        with self._rules.used() as table:
            for one in published(endpoint, prev.ports):
                if not table.holds(one):
                    raise Drift(
                        f"port {one.mapping.host_port}/{one.mapping.protocol} to be published", "no rule for it"
                    )

    def _bridge(self, link: Rtnetlink, network: Network) -> None:
        name = network.interface
        found = links.find(link, name)
        if found is None or found.alias != self._bridges.alias(network.id):
            raise Drift(
                f"the bridge {name} of network {network.name!r}", "none" if found is None else "somebody else's"
            )
        _up(found)
        there = links.addresses(link, found.number)
        for subnet in network.subnets:
            if subnet.gateway is not None:
                _has(there, ipam.with_prefix(subnet.gateway, network), name)

    def _port(self, link: Rtnetlink, endpoint: Endpoint, network: Network) -> None:
        name = naming.port(endpoint.container_id, endpoint.number)
        found = links.find(link, name)
        if found is None:
            raise Drift(f"the interface {name} on the host", "none")
        bridge = links.find(link, network.interface)
        if bridge is None or found.master != bridge.number:
            raise Drift(f"{name} to be a port of the bridge {network.interface}", "it is not")
        _up(found)

    @staticmethod
    def _inside(at: Attachment, endpoint: Endpoint, network: Network) -> None:
        try:
            with inside.opened(at.netns) as netns:
                inside.run(netns, lambda: _check_inside(endpoint, network))
        except (FailedPrecondition, OSError) as error:
            raise Drift("a network namespace", f"none at {at.netns}") from error


def _check_inside(endpoint: Endpoint, network: Network) -> None:
    name = endpoints.interface(endpoint)
    with Rtnetlink() as link:
        found = links.find(link, name)
        if found is None:
            raise Drift(f"the interface {name} in the container", "none")
        _up(found)
        if found.mac != endpoint.mac:
            raise Drift(f"the hardware address {endpoint.mac} on {name}", found.mac)
        there = links.addresses(link, found.number)
        for address in endpoints.addresses(endpoint, network):
            _has(there, address, name)
        ways = {route.gateway for route in links.routes(link) if route.destination.endswith("/0")}
        for gateway in endpoints.gateways(network):
            if gateway not in ways:
                raise Drift(f"a default route by {gateway} in the container", _list(sorted(ways - {""})) or "none")


def _up(link: Link) -> None:
    if not link.up:
        raise Drift(f"the interface {link.name} up", "it is down")


def _has(there: set[str], address: str, name: str) -> None:
    if address not in there:
        same = sorted(one for one in there if (":" in one) == (":" in address))
        raise Drift(f"the address {address} on {name}", _list(same) or "none")


def _list(values: Iterable[str]) -> str:
    return ", ".join(values)
