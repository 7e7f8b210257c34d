from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridged import ip
from plugrun.api import Attachment, NetResult, Network, NetworkDraft, PacketPath, PortMapping
from plugrun_net_bridge.driver import BridgeDriver
from plugrun_net_bridge.naming import port as port_name

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("place_for_namespaces", "alone")]

PORTS = (PortMapping(80, 8080), PortMapping(9000, 9000, "udp", "", 10), PortMapping(100, 200, "tcp", "127.0.0.1", 10))


class Bench:
    """A container on a network of the real driver, on a host with a way out."""

    def __init__(self, state: Path, *, internal: bool = False) -> None:
        ip("link", "add", "uplink", "type", "veth", "peer", "neighbour")
        for words in (("addr", "add", "192.0.2.1/24", "dev", "uplink"), ("link", "set", "uplink", "up")):
            ip(*words)
        ip("route", "add", "default", "via", "192.0.2.2")
        ip("netns", "add", "explained")
        ip("-n", "explained", "link", "set", "lo", "up")
        self.driver = BridgeDriver(state)
        draft = NetworkDraft("a" * 64, "net", ipv6=True, internal=internal)
        self.network: Network = self.driver.make_network(draft, [])
        ports = () if internal else PORTS
        self.at = Attachment("b" * 64, "web", "/run/netns/explained", network=self.network, name="web", ports=ports)
        self.result: NetResult = self.driver.setup(self.at)

    def explain(self) -> dict[str, PacketPath]:
        return {path.title: path for path in self.driver.explain(self.at, self.result)}

    def text(self) -> str:
        return "\n".join(
            f"{title}: {hop.place}: {hop.detail}" for title, path in self.explain().items() for hop in path.hops
        )

    def close(self) -> None:
        self.driver.teardown(self.at, self.result)
        self.driver.gc(frozenset())
        ip("netns", "del", "explained")


Make = Callable[..., Bench]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Bench] = []

    def start(*, internal: bool = False) -> Bench:
        tmp_path.chmod(0o700)
        made.append(Bench(tmp_path, internal=internal))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_names_every_station(make: Make) -> None:
    bench = make()
    paths = bench.explain()
    assert list(paths) == [
        "from the container to other machines, IPv4",
        "from the container to other machines, IPv6",
        "from any address, port 8080/tcp of the host to the container",
        "from any address, port 9000-9009/udp of the host to the container",
        "from 127.0.0.1, port 200-209/tcp of the host to the container",
        "from the container to other containers, IPv4",
        "from the container to other containers, IPv6",
    ]
    address, gateway = bench.result.addresses[0], bench.result.gateways[0]
    out = [(hop.place, hop.detail) for hop in paths["from the container to other machines, IPv4"].hops]
    bridge = bench.network.interface
    assert out[0] == ("eth0 in the container", address)
    assert out[1] == ("routes in the container", f"all else by eth0 to {gateway}")
    assert out[2][1] == f"a port of {bridge}"
    assert out[3][0] == f"{bridge} on the host"
    assert gateway in out[3][1]
    assert out[4] == ("forwarding of the host, IPv4", "on")
    assert ("uplink of the host", "its addresses 192.0.2.1/24, next 192.0.2.2") in out
    assert "ip saddr @subnets4 masquerade" in out[-1][1]
    assert "10.0.0" not in out[-1][1]
    arrival = "\n".join(
        hop.detail for hop in paths["from any address, port 8080/tcp of the host to the container"].hops
    )
    assert f"tcp . 8080 : {address.partition('/')[0]} . 80" in arrival
    assert "oifname @bridges ct status dnat accept" in arrival
    many = paths["from 127.0.0.1, port 200-209/tcp of the host to the container"].hops
    assert "and so on, 10 ports in all" in [hop.detail for hop in many]


def test_nothing_is_missing_of_what_works(make: Make) -> None:
    text = make().text()
    missing = [line for line in text.splitlines() if "missing" in line]
    assert [line for line in missing if "a default route for IPv6" not in line] == []


def test_says_who_listens(make: Make) -> None:
    bench = make()
    assert "no program has port 80/tcp" in bench.text()
    with subprocess.Popen(
        ["ip", "netns", "exec", "explained", "python3", "-c", SERVER], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        text = bench.text()
        server.communicate(b"\n")
    assert "a program has port 80/tcp" in text
    assert "programs have 1 of the ports 9000-9009/udp" in text
    assert "no program has port 100-109/tcp at an address that can be reached" in text


SERVER = """
import socket
one = socket.create_server(("", 80))
two = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
two.bind(("0.0.0.0", 9001))
three = socket.create_server(("127.0.0.1", 100))
print(flush=True)
input()
"""


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("nft flush ruleset", "missing: oifname @bridges ct status dnat accept"),
        ("nft flush chain inet {table} leaving", "missing: ip saddr @subnets4 masquerade"),
        ("nft flush map inet {table} ports4", "missing: tcp . 8080 : "),
        ("nft flush set inet {table} bridges", "missing: the rules do not know it"),
        ("ip link del {port}", "{port} on the host: missing"),
        ("ip link set {port} nomaster", "missing: it is no port of {bridge}"),
        ("ip link set {bridge} down", "; it is down"),
        ("ip link del {bridge}", "{bridge} on the host: missing"),
        ("ip -n explained addr flush dev eth0", "eth0 in the container: missing: "),
        ("ip -n explained route del default", "missing: a default route for IPv4"),
        ("ip -n explained link set eth0 down", "; it is down"),
        ("ip route del default", "routes of the host: missing: a default route for IPv4"),
        ("sysctl -qw net.ipv4.ip_forward=0", "missing: net.ipv4.ip_forward is 0"),
        ("nft add table ip filter {{ chain FORWARD {{ type filter hook forward priority 0; policy drop; }}; }}",
         "chain FORWARD of table ip filter: drops what none of its rules accepts"),
    ],
)  # fmt: skip
def test_says_what_is_missing(make: Make, damage: str, said: str) -> None:
    bench = make()
    names = {
        "table": bench.driver._rules.table.name,
        "port": port_name(bench.at.container_id, bench.at.number),
        "bridge": bench.network.interface,
    }
    assert said.format(**names) not in bench.text()
    words = damage.format(**names)
    program, _, rest = words.partition(" ")
    subprocess.run([program, rest] if program == "nft" else words.split(), check=True)
    assert said.format(**names) in bench.text()


def test_a_container_that_does_not_run(make: Make) -> None:
    bench = make()
    bench.at = bench.at._replace(netns=None)
    assert "the container has no network namespace, as it does not run" in bench.text()


def test_an_internal_network(make: Make) -> None:
    bench = make(internal=True)
    paths = bench.explain()
    assert (
        "the network is internal: nothing leaves it"
        in paths["from the container to other machines, IPv4"].hops[-1].detail
    )
    assert "missing" not in bench.text()
