"""Each rule is there for a packet: with the rule it goes one way, and without it the other."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bridged import HARDWARE, NEVER, SOON, Bridged
from plugrun.api import PortMapping
from plugrun_net_bridge import ruleset
from plugrun_net_bridge.table import NetworkRules, Published, Table, Wanted

pytestmark = pytest.mark.root

NETWORKS = (
    NetworkRules("br0", ("10.64.0.0/24", "10.64.8.0/24", "fd64::/64", "fd64:8::/64"), internal=False),
    NetworkRules("br1", ("10.64.1.0/24", "fd64:1::/64"), internal=False),
    NetworkRules("br2", ("10.64.2.0/24", "fd64:2::/64"), internal=True, served=True),
)
PUBLISHED = (
    Published(PortMapping(80, 8080), "10.64.0.2", "fd64::2"),
    Published(PortMapping(80, 8081, "tcp", "192.0.2.1"), "10.64.0.2", None),
    Published(PortMapping(80, 8082, "tcp", "2001:db8::1"), None, "fd64::2"),
    Published(PortMapping(9000, 9000, size=100), "10.64.0.2", "fd64::2"),
    Published(PortMapping(80, 8084, "udp", "127.0.0.1"), "10.64.0.2", None),
    Published(PortMapping(80, 8085), "10.64.2.2", "fd64:2::2"),
    Published(PortMapping(80, 8086, "tcp", "0.0.0.0"), "10.64.0.2", "fd64::2"),
    Published(PortMapping(80, 8087, "tcp", "::"), "10.64.0.2", "fd64::2"),
    Published(PortMapping(9200, 9200, "tcp", "192.0.2.1", 10), "10.64.0.2", "fd64::2"),
)
USUAL = Wanted(NETWORKS, PUBLISHED)
ROUTER = Wanted(NETWORKS, PUBLISHED, former4=("lan", "wan"), former6=("lan", "wan"))
LATER = Wanted(NETWORKS, PUBLISHED, former4=("lan",), former6=("lan",))
UNSERVED = Wanted([one._replace(served=False) for one in NETWORKS], PUBLISHED)
SERVED = "iifname @served "
ASK4 = SERVED + "iifname . ip daddr @own4 meta l4proto { 6, 17 } th dport 53 accept"
ASK6 = SERVED + "iifname . ip6 daddr @own6 meta l4proto { 6, 17 } th dport 53 accept"
FORMER = "meta nfproto ipv{0} iifname @former{0} ct status ! dnat drop"

Probe = Callable[[Bridged, float], bool]


class Case(NamedTuple):
    """A rule, and a packet that arrives because of it, or does not.

    :param rule: as it stands in the chains.
    :param arrives: with the rule.
    :param instead: what the rule is replaced by, to see that the packet's fate changes.
    :param wanted: what the rules know.
    """

    rule: str
    arrives: bool
    probe: Probe
    instead: str = ""
    wanted: Wanted = USUAL


def talk(
    client: str,
    address: str,
    port: int,
    server: str,
    at: int = 80,
    *,
    kind: str = "tcp",
    seen: str | None = None,
    origin: str | None = None,
    listen: str | None = None,
) -> Probe:
    """Return a probe: whether a client gets an answer from a server.

    :param seen: the client's address as the server is to see it.
    """

    def probe(net: Bridged, wait: float) -> bool:
        with net.server(server, listen or ("::" if ":" in address else "0.0.0.0"), at, kind) as listening:
            found = net.seen_by(listening, client, address, port, wait=wait, origin=origin)
        return found is not None and seen in {None, found}

    return probe


def frame_to_loopback(net: Bridged, wait: float) -> bool:
    """Send a frame from the neighbour to 127.0.0.1, where a port is published."""
    udp = struct.pack("!HHHH", 1234, 8084, 9, 0) + b"?"
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0)
    header += socket.inet_aton("192.0.2.2") + socket.inet_aton("127.0.0.1")
    total = sum(struct.unpack("!10H", header))
    header = header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[12:]
    with net.inside("lan"):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    with wire, net.server("web", "0.0.0.0", 80, "udp") as server:
        server.settimeout(wait)
        wire.sendto(header + udp, ("eth0", 0x0800, 0, 0, bytes.fromhex(HARDWARE.replace(":", ""))))
        with contextlib.suppress(TimeoutError):
            return server.recv(1) == b"?"
    return False


def stray_answer(net: Bridged, wait: float) -> bool:
    """Send an answer to a question that nobody asked, and see whether it gets out as it is."""
    with net.inside("lan"):
        neighbour = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    with net.inside("web"):
        container = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    with neighbour, container:
        neighbour.settimeout(wait)
        container.sendto(struct.pack("!HHIIBBHHH", 80, 4321, 1, 1, 5 << 4, 0x12, 1024, 0, 0), ("192.0.2.2", 0))
        with contextlib.suppress(TimeoutError):
            return neighbour.recv(100)[12:16] == socket.inet_aton("10.64.0.2")
    return False


def forget_neighbours(net: Bridged) -> None:
    for machine, device in (("own", "eth0"), ("host", "br2")):
        net.run(machine, "-6", "neigh", "flush", "dev", device)


def resolve_anew(net: Bridged, wait: float) -> bool:
    """Have an internal network's container ask for the name server's hardware address first."""
    forget_neighbours(net)
    return talk("own", "fd64:2::1", 53, "host", 53, kind="udp")(net, wait)


def resolve_back(net: Bridged, wait: float) -> bool:
    """Have the host ask for that of the container."""
    forget_neighbours(net)
    return talk("host", "fd64:2::2", 80, "own")(net, wait)


LOCAL = "fib daddr type local jump publish"
ARRIVING, STARTED = "priority dstnat; policy accept;", "ip6 daddr ::1 accept"

CASES = [
    # before
    Case('iifname "lo" accept', True, talk("host", "127.0.0.1", 5000, "host", 5000)),
    Case("ip daddr 127.0.0.0/8 drop", False, frame_to_loopback),
    Case("iifname . ip daddr @own4 accept", True, talk("web", "10.64.0.1", 5000, "host", 5000)),
    Case("iifname . ip6 daddr @own6 accept", True, talk("web", "fd64::1", 5000, "host", 5000)),
    Case("ip daddr @subnets4 drop", False, talk("lan", "10.64.0.1", 5000, "host", 5000)),
    Case("ip6 daddr @subnets6 drop", False, talk("lan", "fd64::1", 5000, "host", 5000)),
    # arriving, started
    Case(f"{ARRIVING} {LOCAL}", True, talk("lan", "192.0.2.1", 8080, "web"), ARRIVING),
    Case(f"{ARRIVING} {LOCAL}", True, talk("lan", "198.51.100.2", 8080, "wan", 8080), f"{ARRIVING}\njump publish"),
    Case(f"{ARRIVING} {LOCAL}", True, talk("lan", "2001:db8:1::2", 8080, "wan", 8080), f"{ARRIVING}\njump publish"),
    Case(f"{STARTED} {LOCAL}", True, talk("host", "192.0.2.1", 8080, "web"), STARTED),
    Case(f"{STARTED} {LOCAL}", True, talk("host", "198.51.100.2", 8080, "wan", 8080), f"{STARTED}\njump publish"),
    Case("ip6 daddr ::1 accept", True, talk("host", "::1", 8080, "host", 8080)),
    # publish
    Case("dnat ip to ip daddr . meta l4proto . th dport map @addrs4", True, talk("lan", "192.0.2.1", 8081, "web")),
    Case("dnat ip to meta l4proto . th dport map @ports4", True, talk("lan", "192.0.2.1", 8080, "web")),
    Case(
        "dnat ip to ip daddr . meta l4proto . th dport map @ranges4", True, talk("lan", "192.0.2.1", 9099, "web", 9099)
    ),
    Case("dnat ip6 to ip6 daddr . meta l4proto . th dport map @addrs6", True, talk("lan", "2001:db8::1", 8082, "web")),
    Case("dnat ip6 to meta l4proto . th dport map @ports6", True, talk("lan", "2001:db8::1", 8080, "web")),
    Case(
        "dnat ip6 to ip6 daddr . meta l4proto . th dport map @ranges6",
        True,
        talk("lan", "2001:db8::1", 9000, "web", 9000),
    ),
    # leaving
    Case(
        'oifname "lo" accept',
        True,
        talk("host", "10.64.0.1", 5000, "host", 5000, seen="10.64.0.1", origin="10.64.0.1"),
    ),
    Case("oifname . ip saddr @own4 ct status dnat masquerade", True, talk("app", "192.0.2.1", 8080, "web")),
    Case(
        "oifname . ip6 saddr @own6 ct status dnat masquerade",
        True,
        talk("app", "2001:db8::1", 8080, "web", origin="fd64::3"),
    ),
    Case("oifname . ip saddr @own4 accept", True, talk("web", "10.64.8.3", 80, "app", seen="10.64.0.2")),
    Case("oifname . ip6 saddr @own6 accept", True, talk("web", "fd64:8::3", 80, "app", seen="fd64::2")),
    Case("ip saddr @subnets4 masquerade", True, talk("web", "198.51.100.2", 80, "wan", seen="198.51.100.1")),
    Case("ip6 saddr @subnets6 masquerade", True, talk("web", "2001:db8:1::2", 80, "wan", seen="2001:db8:1::1")),
    Case("oifname @bridges ip saddr 127.0.0.0/8 masquerade", True, talk("host", "127.0.0.1", 8080, "web")),
    # passing
    Case(
        "ct state established,related accept iifname . oifname",
        True,
        talk("web", "192.0.2.2", 80, "lan"),
        "iifname . oifname",
    ),
    Case("iifname . oifname @same accept", True, talk("web", "10.64.8.3", 80, "app")),
    Case("iifname . oifname @same accept", True, talk("web", "fd64:8::3", 80, "app")),
    Case("iifname @internal drop", False, talk("own", "198.51.100.2", 80, "wan")),
    Case("iifname @internal drop", False, talk("own", "2001:db8:1::2", 80, "wan")),
    Case("iifname @internal drop", False, talk("own", "192.0.2.1", 8080, "web")),
    Case("oifname @internal drop", False, talk("lan", "192.0.2.1", 8085, "own")),
    Case("oifname @internal drop", False, talk("lan", "2001:db8::1", 8085, "own")),
    Case("oifname @internal drop", False, talk("web", "192.0.2.1", 8085, "own")),
    Case("iifname @bridges ct state invalid drop", False, stray_answer),
    Case("oifname @bridges ct status dnat accept", True, talk("lan", "192.0.2.1", 8080, "web")),
    Case("oifname @bridges drop", False, talk("lan", "203.0.113.2", 80, "web")),
    Case("oifname @bridges drop", False, talk("lan", "2001:db8:2::2", 80, "web")),
    Case(FORMER.format(4), False, talk("lan", "198.51.100.2", 80, "wan"), wanted=ROUTER),
    Case(FORMER.format(6), False, talk("lan", "2001:db8:1::2", 80, "wan"), wanted=ROUTER),
    Case(FORMER.format(4), False, talk("lan", "198.51.100.2", 80, "wan"), wanted=LATER),
    Case(FORMER.format(6), False, talk("lan", "2001:db8:1::2", 80, "wan"), wanted=LATER),
    # entering, inward
    Case("iifname @internal jump inward", False, talk("own", "10.64.2.1", 5000, "host", 5000)),
    Case("iifname @internal jump inward", False, talk("own", "fd64:2::1", 5000, "host", 5000)),
    Case("iifname @internal jump inward", False, talk("own", "192.0.2.1", 5000, "host", 5000)),
    Case("ct state established,related accept iifname @served", True, talk("host", "10.64.2.2", 80, "own"), SERVED),
    Case(ASK4, False, talk("own", "10.64.2.1", 53, "host", 53, kind="udp"), ASK4.removeprefix(SERVED), UNSERVED),
    Case(ASK6, False, talk("own", "fd64:2::1", 53, "host", 53), ASK6.removeprefix(SERVED), UNSERVED),
    Case(
        ASK4,
        True,
        talk("own", "10.64.2.1", 53, "host", 53, kind="udp"),
    ),
    Case(
        ASK6,
        True,
        talk("own", "fd64:2::1", 53, "host", 53),
    ),
    Case("icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept", True, resolve_anew),
    Case("nd-neighbor-solicit, nd-neighbor-advert", True, resolve_anew, "nd-neighbor-advert"),
    Case("nd-neighbor-solicit, nd-neighbor-advert", True, resolve_back, "nd-neighbor-solicit"),
    Case("accept drop }", False, talk("own", "10.64.2.1", 5000, "host", 5000), "accept\n}"),
]

ALONE_ENOUGH = [
    (("ip daddr @subnets4 drop", "oifname @bridges drop"), talk("lan", "10.64.0.2", 80, "web")),
    (("ip6 daddr @subnets6 drop", "oifname @bridges drop"), talk("lan", "fd64::2", 80, "web")),
    (("ip daddr @subnets4 drop", "oifname @bridges drop"), talk("lan", "10.64.0.2", 80, "web", kind="udp")),
    (("ip daddr @subnets4 drop", "oifname @bridges drop"), talk("far", "10.64.0.2", 80, "web")),
    (("ip6 daddr @subnets6 drop", "oifname @bridges drop"), talk("far", "fd64::2", 80, "web")),
]
"""Rules of which one is enough for a packet: it arrives only without both."""


@pytest.fixture(scope="module")
def net() -> Iterator[Bridged]:
    net = Bridged("r-")
    # An address behind a container, as that of a VPN: the rules know nothing of its subnet.
    net.run("web", "addr", "add", "203.0.113.2/32", "dev", "lo")
    net.run("web", "addr", "add", "2001:db8:2::2/128", "dev", "lo", "nodad")
    net.host("route", "add", "203.0.113.0/24", "via", "10.64.0.2")
    net.host("route", "add", "2001:db8:2::/64", "via", "fd64::2")
    net.host("route", "add", "local", "::1", "dev", "br0", "table", "local", "metric", "1024")
    yield net
    net.close()


class Rules:
    """The table with some rules replaced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, net: Bridged, memory: Path) -> None:
        self._monkeypatch, self._net, self._memory = monkeypatch, net, memory
        self._whole = re.sub(r"#.*", "", ruleset.CHAINS)

    def see_bridged(self, sees: str) -> None:
        """Have the rules see also what a bridge passes on, as Docker does, or not."""
        for name in ("iptables", "ip6tables"):
            with contextlib.suppress(FileNotFoundError):  # not in this kernel
                self._net.sysctl(f"net/bridge/bridge-nf-call-{name}", sees)

    def build(self, *replaced: tuple[str, str], wanted: Wanted = USUAL) -> Table:
        text = self._whole
        for rule, instead in replaced:
            text, times = re.subn(r"\s+".join(map(re.escape, rule.split())), instead, text)
            assert times == 1, rule
        self._monkeypatch.setattr(ruleset, "CHAINS", text)
        table = Table("rules", self._memory, lambda: wanted)
        with self._net.inside("host"):
            table.rebuild()
        return table


@pytest.fixture
def rules(net: Bridged, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Rules]:
    rules = Rules(monkeypatch, net, tmp_path / "note")
    rules.see_bridged("0")
    yield rules
    with net.inside("host"):
        Table("rules", tmp_path / "note", lambda: Wanted((), ())).remove()


@pytest.mark.parametrize("case", CASES, ids=[f"{number}-{case.rule[:40]}" for number, case in enumerate(CASES)])
def test_each_rule_decides(net: Bridged, rules: Rules, case: Case) -> None:
    rules.build(wanted=case.wanted)
    assert case.probe(net, SOON if case.arrives else NEVER) == case.arrives
    rules.build((case.rule, case.instead), wanted=case.wanted)
    assert case.probe(net, NEVER if case.arrives else SOON) != case.arrives


@pytest.mark.parametrize(("pair", "probe"), ALONE_ENOUGH)
def test_two_rules_guard_containers_and_one_is_enough(
    net: Bridged, rules: Rules, pair: tuple[str, str], probe: Probe
) -> None:
    for rule in pair:
        rules.build((rule, ""))
        assert not probe(net, NEVER)
    rules.build(*((rule, "") for rule in pair))
    assert probe(net, SOON)


def test_every_rule_has_a_case() -> None:
    tried = " ".join(case.rule for case in CASES)
    for line in ruleset.CHAINS.splitlines():
        rule = line.partition("#")[0].strip()
        if rule and not re.match(r"chain|type|\}", rule):
            assert rule in tried or rule == "drop", rule


OPEN = [
    talk("lan", "192.0.2.1", 8080, "web", seen="192.0.2.2"),  # the service sees who it is
    talk("lan", "2001:db8::1", 8080, "web", seen="2001:db8::2"),
    talk("wan", "198.51.100.1", 9050, "web", 9050),
    talk("lan", "192.0.2.1", 8086, "web"),  # at all addresses of one IP version
    talk("lan", "2001:db8::1", 8087, "web"),
    talk("lan", "192.0.2.1", 9205, "web", 9205),  # many at one address
    talk("host", "2001:db8::1", 8080, "web"),
    talk("host", "127.0.0.1", 9050, "web", 9050),
    talk("host", "127.0.0.1", 8084, "web", kind="udp"),
    talk("host", "10.64.0.2", 80, "web"),
    talk("host", "fd64::2", 80, "web"),
    talk("host", "10.64.2.2", 80, "own"),
    talk("app", "192.0.2.1", 8080, "web"),
    talk("app", "10.64.0.1", 8080, "web"),
    talk("web", "10.64.0.3", 80, "app", seen="10.64.0.2"),
    talk("far", "192.0.2.1", 8080, "web"),
    talk("far", "10.64.1.1", 8080, "web"),
    talk("far", "2001:db8::1", 8080, "web"),
    talk("far", "192.0.2.1", 5000, "host", 5000),
    talk("lan", "198.51.100.2", 80, "wan"),
]
TO_ITSELF = [
    talk("web", "192.0.2.1", 8080, "web"),
    talk("web", "10.64.0.1", 8080, "web"),
    talk("web", "2001:db8::1", 8080, "web"),
]
CLOSED = [
    talk("lan", "192.0.2.1", 8084, "web", kind="udp"),  # published at 127.0.0.1 only
    talk("wan", "198.51.100.1", 8081, "web"),  # at another address only
    talk("lan", "192.0.2.1", 9100, "web", 9100),  # the next to a range
    talk("lan", "2001:db8::1", 8086, "web"),  # of the other IP version
    talk("lan", "192.0.2.1", 8087, "web"),
    talk("wan", "198.51.100.1", 9205, "web", 9205),  # many at another address
    talk("own", "10.64.2.1", 8080, "web"),
    talk("own", "10.64.0.2", 80, "web"),
    talk("web", "10.64.2.2", 80, "own"),
    talk("web", "10.64.1.1", 5000, "host", 5000),
]


@pytest.mark.parametrize("bridged", ["0", "1"])
@pytest.mark.parametrize("probe", OPEN)
def test_lets_through(net: Bridged, rules: Rules, probe: Probe, bridged: str) -> None:
    rules.see_bridged(bridged)
    rules.build()
    assert probe(net, SOON)


@pytest.mark.parametrize("bridged", ["0", "1"])
@pytest.mark.parametrize("probe", CLOSED)
def test_lets_nobody_through(net: Bridged, rules: Rules, probe: Probe, bridged: str) -> None:
    rules.see_bridged(bridged)
    rules.build()
    assert not probe(net, NEVER)


@pytest.mark.parametrize("probe", TO_ITSELF)
def test_lets_a_container_reach_its_own_published_port(net: Bridged, rules: Rules, probe: Probe) -> None:
    """Where bridges show their frames to the rules, a bridge does not send one back to where it came from."""
    rules.build()
    assert probe(net, SOON)
