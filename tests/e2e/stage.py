"""Networks and containers for the table of who reaches whom."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING

from fixtures import network
from fixtures.probes import Server

if TYPE_CHECKING:
    from fixtures.network import HostCli, World
    from fixtures.places import Place

PUBLISHED = (
    "8080:80",
    "8080:80/udp",
    "8085-8089:85-89",
    f"{network.HOST}:8081:80",
    f"[{network.HOST6}]:8081:80",
    "127.0.0.1:8082:80",
)
CONTAINERS = {"web": "front", "peer": "front", "other": "back", "inner": "inside", "inner2": "inside"}
NETWORKS = {"front": [], "back": [], "inside": ["--internal"]}
PORTS = (80, 85, 89, 90)  # each container answers on them
WAY_OUT = "no default route"
HOST_PORT = 7000  # the host does, on this one


@dataclass(frozen=True)
class Stage:
    """Everybody who can ask or be asked, by name.

    :param addresses: of each name, by the version of IP; ``localhost`` is a name too.
    """

    world: World
    plugrun: HostCli
    places: Mapping[str, Place]
    servers: Mapping[str, Server]
    addresses: Mapping[str, Mapping[int, str]]

    def queries(self) -> int:
        """Return how many questions all servers have had."""
        return sum(len(server.seen) for server in self.servers.values())

    @contextlib.contextmanager
    def without(self, *guards: str) -> Iterator[None]:
        """Take away rules, and ``WAY_OUT`` too: that a container of an internal network has no default route."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.world.without(*(guard for guard in guards if guard != WAY_OUT)))
            if WAY_OUT in guards:
                stack.enter_context(self._way_out("inner"))
            yield

    @contextlib.contextmanager
    def _way_out(self, name: str) -> Iterator[None]:
        place, gateway = self.places[name], self.addresses[f"gateway of {name}"]
        place.ip(*(f"route add default via {gateway[version]} dev eth0" for version in (4, 6)))
        try:
            yield
        finally:
            place.ip(*(f"route del default via {gateway[version]} dev eth0" for version in (4, 6)))


@contextlib.contextmanager
def staged(world: World, plugrun: HostCli) -> Iterator[Stage]:
    """Make the networks and start the containers; the engine's fixture removes them."""
    for name, options in NETWORKS.items():
        plugrun("network", "create", "--ipv6", *options, name).ok()
    places = {"host": world.host, "lan": world.lan, "internet": world.internet}
    for name, net in CONTAINERS.items():
        ports = [f"--publish={port}" for port in PUBLISHED if name == "web"]
        places[name] = plugrun.start(name, "--net", net, *ports)
    addresses = {
        "host": {4: network.HOST, 6: network.HOST6},
        "wan": {4: network.WAN, 6: network.WAN6},
        "lan": {4: network.LAN, 6: network.LAN6},
        "site": {4: network.SITE, 6: network.SITE6},
        "localhost": {4: "127.0.0.1", 6: "::1"},
    }
    for name in CONTAINERS:
        addresses[name] = places[name].addresses()
        addresses[f"gateway of {name}"] = gateways(world.host, addresses[name])
    # so that what a test is asked by the direct route is known to have a way
    world.lan.ip(
        *(f"route replace {addresses[name][version]} via {addresses['host'][version]}"
          for name in CONTAINERS for version in (4, 6))
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(Server(places[name], *PORTS)) for name in CONTAINERS}
        own = (network.HOST, network.HOST6, *addresses["gateway of inner"].values())
        servers["host"] = stack.enter_context(Server(world.host, HOST_PORT, addresses=own))
        servers["site"] = world.site
        yield Stage(world, plugrun, places, servers, addresses)


def gateways(host: Place, container: Mapping[int, str]) -> dict[int, str]:
    """Return the host's addresses on the network of a container, by the version of IP."""
    interfaces = json.loads(host.run("ip", "-json", "addr"))
    own = [ip_interface(f"{one['local']}/{one['prefixlen']}") for each in interfaces for one in each["addr_info"]]
    return {one.version: str(one.ip) for one in own if ip_address(container[one.version]) in one.network}
