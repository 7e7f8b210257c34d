"""The table of rules as the driver uses it: one process at a time, from what the store remembers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plugrun_net_bridge import locks
from plugrun_net_bridge.elements import NetworkRules, Wanted
from plugrun_net_bridge.mapped import Published
from plugrun_net_bridge.table import Table

if TYPE_CHECKING:
    from plugrun.api import Network, PortMapping
    from plugrun_net_bridge.store import Endpoint, Store


class Rules:
    """The rules of one engine.

    :param state_dir: for the lock and what the table remembers.
    :param instance: tells the tables of several engines on one host apart.
    """

    def __init__(self, store: Store, state_dir: Path, instance: str) -> None:
        self._store = store
        self._lock = state_dir / "rules.lock"
        self.table = Table(f"plugrun_{instance}", state_dir / "rules", self._wanted)

    @contextlib.contextmanager
    def used(self) -> Iterator[Table]:
        """Use the table alone."""
        with locks.alone(self._lock):
            yield self.table

    def ensure(self) -> bool:
        """Bring back rules that somebody has removed; whether there were any.

        :raises DriverError: nftables refused.
        """
        with self.used() as table:
            return table.ensure()

    def of(self, network: Network) -> NetworkRules:
        """Return what the rules need to know of a network."""
        subnets = tuple(one.subnet for one in network.subnets)
        return NetworkRules(network.interface, subnets, network.internal, self._store.is_served(network.id))

    def serve(self, network: Network) -> None:
        """Let containers of an internal network ask our resolver, which listens there.

        :raises DriverError: nftables refused.
        """
        if network.internal and not self._store.is_served(network.id):
            with self.used() as table:
                self._store.set_served(network.id)
                table.add_network(self.of(network))

    def publish(self, endpoint: Endpoint) -> None:
        """Publish the ports of an endpoint, which the store has already.

        :raises DriverError: nftables refused.
        """
        if endpoint.ports:
            with self.used() as table:
                table.change((), published(endpoint, endpoint.ports))

    def unpublish(self, endpoint: Endpoint) -> None:
        """Unpublish them, and have the store forget them before anybody makes the rules anew from it.

        :raises DriverError: nftables refused.
        """
        if endpoint.ports:
            with self.used() as table:
                table.change(published(endpoint, endpoint.ports), ())
                self._store.set_ports(endpoint._replace(ports=()))

    def replace(self, old: Endpoint, new: Endpoint) -> None:
        """Publish the ports of an endpoint instead of those it had, leaving alone those it keeps.

        :raises DriverError: nftables refused; nothing has changed.
        """
        before, after = set(old.ports), set(new.ports)
        removed = [one for one in old.ports if one not in after]
        added = [one for one in new.ports if one not in before]
        with self.used() as table:
            table.change(published(old, removed), published(new, added))
            self._store.set_ports(new)

    def _wanted(self) -> Wanted:
        from plugrun_net_bridge import forwarding

        return Wanted(
            networks=[self.of(network) for network in self._store.networks()],
            published=[one for endpoint in self._store.published() for one in published(endpoint, endpoint.ports)],
            former4=forwarding.former(self._store, 4),
            former6=forwarding.former(self._store, 6),
        )


def published(endpoint: Endpoint, ports: Sequence[PortMapping]) -> list[Published]:
    """Return what the rules need to know of ports of an endpoint."""
    return [Published(one, endpoint.ip, endpoint.ip6) for one in ports]
