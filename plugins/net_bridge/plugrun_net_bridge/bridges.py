"""A network on the host: its bridge, with addresses, settings and rules."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from plugrun.api import FailedPrecondition, Network
from plugrun_net_bridge import ipam, links, naming, sysctl

if TYPE_CHECKING:
    from plugrun_net_bridge.links import Link
    from plugrun_net_bridge.rtnetlink import Rtnetlink
    from plugrun_net_bridge.rules import Rules
    from plugrun_net_bridge.store import Store

_MTU = 1500


class Bridges:
    """The bridges of one engine.

    :param instance: tells the interfaces of several engines on one host apart.
    """

    def __init__(self, store: Store, rules: Rules, instance: str) -> None:
        self._store = store
        self._rules = rules
        self._instance = instance

    def alias(self, network_id: str, container_id: str = "-") -> str:
        """Return what an interface is marked with, so that it is recognised without any record."""
        return f"plugrun {self._instance} {container_id} {network_id}"

    def mine(self, link: Link) -> tuple[str, str] | None:
        """Return the ids of container (``-`` for a bridge) and network of an interface that this engine made."""
        words = link.alias.split(" ")
        return (words[2], words[3]) if words[:2] == ["plugrun", self._instance] and len(words) == 4 else None

    def intact(self, link: Rtnetlink, network: Network) -> Link | None:
        """Return the bridge of a network if there is nothing left to do."""
        found = links.find(link, network.interface)
        whole = found is not None and found.up and found.alias == self.alias(network.id)
        return found if whole and self._store.knows(network.id) else None

    def make(self, link: Rtnetlink, network: Network) -> None:
        """Make the bridge of a network, or whatever is missing of it. It is up once all else is there.

        :pre: nobody else does so.
        :raises FailedPrecondition: the host has another interface of its name.
        :raises OSError: the kernel refused.
        """
        self._store.add_network(network)
        index = self._device(link, network)
        six = any(":" in one.subnet for one in network.subnets)
        _configure6(network.interface, six=six)
        self._let_through(network, six=six)
        for subnet in network.subnets:
            if subnet.gateway is not None:
                _add_address(link, index, ipam.with_prefix(subnet.gateway, network))
        link.send(links.set_link(index, up=True))

    def remove(self, link: Rtnetlink, network: Network) -> None:
        """Remove the bridge of a network, unless it is somebody else's. Absent is fine."""
        found = links.find(link, network.interface)
        if found is not None and (self.mine(found) is not None or _is_unmarked(found, network)):
            delete(link, network.interface)

    def remove_port(self, link: Rtnetlink, container_id: str, number: int) -> None:
        """Remove the interface of an endpoint on the host, unless it is somebody else's. Absent is fine."""
        name = naming.port(container_id, number)
        found = links.find(link, name)
        if found is not None and (self.mine(found) or ("",))[0] == container_id:
            delete(link, name)

    def _device(self, link: Rtnetlink, network: Network) -> int:
        found = links.find(link, network.interface)
        made = found is None
        if made:
            gateway = next(one.gateway for one in network.subnets if one.gateway is not None)
            mtu = network.data.get("mtu") or _usual_mtu(link)
            link.send(links.new_link(network.interface, "bridge", ipam.derived_mac(gateway), mtu))
            found = links.find(link, network.interface)
        if found is not None and (made or _is_unmarked(found, network)):
            link.send(links.set_link(found.number, alias=self.alias(network.id)))
            found = links.find(link, network.interface)
        if found is None or found.alias != self.alias(network.id):
            raise FailedPrecondition(
                f"the host has another interface {network.interface!r}, the name of network {network.name!r}'s bridge",
                hint=f"rename it, or delete it with: ip link delete {network.interface}",
            )
        return found.number

    def _let_through(self, network: Network, *, six: bool) -> None:
        """Add the rules; only behind them anything is opened."""
        from plugrun_net_bridge import forwarding

        new = not network.internal and forwarding.prepare(self._store, six=six)
        with self._rules.used() as table:
            if new:
                table.rebuild()
            elif not table.ensure():
                table.add_network(self._rules.of(network))
        if not network.internal:
            forwarding.turn_on(self._store, six=six)
            # lets the host reach published ports by 127.0.0.1; the rules drop such packets from elsewhere
            sysctl.write(f"ipv4/conf/{network.interface}/route_localnet", "1")


def _is_unmarked(link: Link, network: Network) -> bool:
    """Whether a crash has left a bridge without its mark: the kernel does not take both at once.

    A name of the user's choice may be somebody else's; one from the network's id is not.
    """
    return not link.alias and link.kind == "bridge" and link.name == naming.bridge(network.id)


def delete(link: Rtnetlink, name: str) -> None:
    """Delete an interface; absent is fine."""
    try:
        link.send(links.delete_link(name))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def _configure6(name: str, *, six: bool) -> None:
    """Set what has to be before the bridge is up: without IPv6 it must not even begin to talk it."""
    if six:
        sysctl.write(f"ipv6/conf/{name}/disable_ipv6", "0")
        sysctl.write(f"ipv6/conf/{name}/accept_ra", "0")
        sysctl.write(f"ipv6/conf/{name}/accept_dad", "0")
    else:
        sysctl.write(f"ipv6/conf/{name}/disable_ipv6", "1")


def _add_address(link: Rtnetlink, index: int, address: str) -> None:
    try:
        link.send(links.new_address(index, address))
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise


def _usual_mtu(link: Rtnetlink) -> int:
    """Return what fits through the host's way to the internet, at most that of Ethernet."""
    found = [_MTU]
    for route in links.routes(link):
        if route.destination.endswith("/0") and route.interface:
            out = links.by_index(link, route.interface)
            found += [out.mtu] if out is not None else []
    return min(found)
