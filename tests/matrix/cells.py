"""What a network driver promises a container, told from its plan and its optional protocols, never from its name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fixtures import network
from fixtures.places import Place
from fixtures.probes import ECHO, ask
from plugrun.api import Existing, Host, InvalidArgument, Join, New, SupportsPorts
from plugrun.manager import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fixtures.network import HostCli, World
    from plugrun.api import NamespacePlan

PORT = 8123  # a container of the matrix serves on it
HOST_PORT = 7000  # and the host on this one
PARTNER = "partner"  # the container that others may join


@dataclass(frozen=True)
class Promise:
    """A network driver, and a way to use it.

    :param value: for ``--net``.
    :param ports: whether it publishes ports.
    """

    value: str
    plan: NamespacePlan
    ports: bool


def promise(driver_name: str, plugrun: HostCli, world: World) -> Promise:
    """Find a ``--net`` value that makes sense to a driver: its name; with a container; with a path of a namespace."""
    plugins, root = load(), plugrun.roots.root
    place = root / "network" / driver_name
    driver = plugins.open_network(plugins.select_network(driver_name, root), place, {})
    for target in (None, PARTNER, world.lan.netns):
        try:
            plan = driver.namespace(target)
        except InvalidArgument:
            continue
        value = driver_name if target is None else f"{driver_name}:{target}"
        asked = plugins.parse_network(value)
        assert (asked.driver, asked.target) == (driver_name, target), f"nobody knows what --net {value} means"
        return Promise(value, plan, isinstance(plan, New) and isinstance(driver, SupportsPorts))
    raise AssertionError(f"the driver {driver_name} refuses to be used alone, with a container and with a namespace")


@dataclass(frozen=True)
class Cell:
    """A running container on one storage driver and one network driver."""

    plugrun: HostCli
    world: World
    promised: Promise
    container: str

    def inside(self, script: str) -> str:
        """Run a script in the container; return what it printed, errors too."""
        return self.plugrun("exec", self.container, "sh", "-c", f"exec 2>&1; {script}").ok().stdout

    @property
    def place(self) -> Place:
        """Where the container is, as long as it runs."""
        pid = self.plugrun.roots.run_root / "containers" / self.container / "pidfile"
        return Place("cell", f"/proc/{pid.read_text().strip()}/ns/net")

    def keeps_its_promise(self, served: str) -> None:
        """Reach the container's server, which answers ``served``, and have it reach the host's, as the plan says."""
        place, addresses = self.place, self.addresses()
        alone = place.devices() == {"lo"}
        assert alone or addresses or not isinstance(self.promised.plan, New)
        own, host = f"wget -qO- 127.0.0.1:{PORT}", f"timeout 5 wget -qO- {network.HOST}:{HOST_PORT}"
        seen = self.inside(f"timeout 10 sh -c 'until {own} 2> /dev/null; do :; done'; {host}; true")
        assert seen.startswith(f"{served}\n")
        assert ("unreachable" if alone else "\nhost ") in seen
        for source, address, port in self.doors(addresses):
            assert ask(source, "tcp", address, port) == served, f"from {source.name} at {address}"
        for line in place.routes() if isinstance(self.promised.plan, New) else ():
            if line.startswith("default via "):
                assert ask(place, "icmp", line.split()[2]) == ECHO, line

    def doors(self, addresses: list[str]) -> Iterator[tuple[Place, str, int]]:
        """Yield from where the container is to be reached, and how."""
        plan, place = self.promised.plan, self.place
        if isinstance(plan, New):
            yield from ((self.world.host, address, PORT) for address in addresses)
        elif isinstance(plan, Host):
            assert same(place, self.world.host)
            yield self.world.host, "127.0.0.1", PORT
            yield self.world.lan, network.HOST, PORT
        elif isinstance(plan, Join):
            partner = self.plugrun.place(plan.container)
            assert same(place, partner)
            yield partner, "127.0.0.1", PORT
        elif isinstance(plan, Existing):
            assert same(place, Place("existing", plan.path))
            yield self.world.host, network.LAN, PORT
        if self.promised.ports:
            published = self.plugrun("port", self.container, str(PORT)).ok().stdout.split()
            yield self.world.lan, network.HOST, int(published[0].rpartition(":")[2])

    def addresses(self) -> list[str]:
        """Return the container's own addresses."""
        lines = self.place.run("ip", "-oneline", "addr", "show", "scope", "global").splitlines()
        return [line.split()[3].partition("/")[0] for line in lines]


def same(one: Place, other: Place) -> bool:
    """Whether two are one and the same network namespace."""
    return os.stat(one.netns).st_ino == os.stat(other.netns).st_ino
