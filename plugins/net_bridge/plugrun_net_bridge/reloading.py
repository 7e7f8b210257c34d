"""What others have removed is made again: rules, bridges, and the places of containers on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugrun_net_bridge import links, naming

if TYPE_CHECKING:
    from plugrun_net_bridge.bridges import Bridges
    from plugrun_net_bridge.rtnetlink import Rtnetlink
    from plugrun_net_bridge.rules import Rules
    from plugrun_net_bridge.store import Store


def reload(store: Store, bridges: Bridges, rules: Rules, link: Rtnetlink, *, force: bool) -> bool:
    """Bring back what is missing of the networks that are up.

    :pre: everybody else is kept out.
    :param force: make the rules anew in any case.
    :return: whether anything was missing, or made anew.
    """
    networks = store.networks()
    if not networks:
        return False
    with rules.used() as table:
        changed = table.ensure()
        if force and not changed:
            table.rebuild()
            changed = True
    for network in networks:
        if bridges.intact(link, network) is None:
            bridges.make(link, network)
            _reattach(store, link, network.id, network.interface)
            changed = True
    return changed


def _reattach(store: Store, link: Rtnetlink, network_id: str, bridge: str) -> None:
    """Make the interfaces of containers ports of a bridge again, which lost them with the former one of its name."""
    master = links.find(link, bridge)
    assert master is not None
    for endpoint in store.of_network(network_id):
        name = naming.port(endpoint.container_id, endpoint.number)
        port = links.find(link, name)
        if port is not None and port.master != master.number:
            link.send(links.set_link(name, up=True, master=master.number))
