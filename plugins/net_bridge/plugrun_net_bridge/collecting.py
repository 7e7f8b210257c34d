"""Removal of what belongs to nobody: interfaces and processes of a crash, and networks as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugrun_net_bridge import bridges, forwarding, links

if TYPE_CHECKING:
    from plugrun.api import Network
    from plugrun_net_bridge.bridges import Bridges
    from plugrun_net_bridge.rtnetlink import Rtnetlink
    from plugrun_net_bridge.rules import Rules
    from plugrun_net_bridge.store import Store

_BRIDGE = "-"


class Collector:
    """Removes; whoever calls it keeps everybody else out."""

    def __init__(self, store: Store, bridges: Bridges, rules: Rules, instance: str) -> None:
        self._store = store
        self._bridges = bridges
        self._rules = rules
        self._instance = instance

    def orphans(self, link: Rtnetlink, valid: frozenset[str]) -> None:
        """Remove interfaces and port holders of containers that are not valid, of which no record need be left."""
        for one in links.all_links(link):
            owner = self._bridges.mine(one)
            if owner is not None and owner[0] != _BRIDGE and owner[0] not in valid:
                bridges.delete(link, one.name)
        from plugrun_net_bridge import holder

        for name, process in holder.holders():
            instance, container_id, *_ = (*name.split(" "), "", "")
            if instance == self._instance and container_id not in valid:
                holder.release(process)

    def network(self, link: Rtnetlink, network: Network) -> None:
        """Remove the bridge and the rules of a network, on which nobody is."""
        if self._store.exists() and self._store.knows(network.id):
            with self._rules.used() as table:
                table.remove_network(self._rules.of(network))
                self._store.forget_network(network.id)
        self._bridges.remove(link, network)

    def unused(self, link: Rtnetlink) -> None:
        """Remove the bridges and rules of networks on which nobody is; the next container on one brings them back."""
        for network in self._store.networks():
            if not self._store.count(network.id):
                self.network(link, network)

    def everything(self, link: Rtnetlink) -> None:
        """Remove all bridges and all rules; the machine is as it was before.

        But if others have made interfaces that may need forwarding, it stays on, and so does the table.
        """
        for one in links.all_links(link):
            owner = self._bridges.mine(one)
            if owner is not None:
                bridges.delete(link, one.name)
        for network in self._store.networks():
            self._bridges.remove(link, network)  # if a crash has left it without its mark
        off = forwarding.turn_off(self._store)
        with self._rules.used() as table:
            for network in self._store.networks():
                self._store.forget_network(network.id)
            table.remove() if off else table.rebuild()
