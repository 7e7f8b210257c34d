"""Who reaches whom: the table of what networks promise, for IPv4 and IPv6, and each "no" with a control.

The control is that the same question gets an answer while the rules in question are left out.
"""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import NamedTuple

import pytest

from e2e import stage as stages
from fixtures import packets
from fixtures.names import resolve
from fixtures.probes import LONG, REFUSED, SHORT, TIMED_OUT, UNREACHABLE, ask, ask_all, who

pytestmark = pytest.mark.root

T, TU, TUI = ("tcp",), ("tcp", "udp"), ("tcp", "udp", "icmp")
BLOCKED = f"{TIMED_OUT}, {UNREACHABLE} or {REFUSED}"
VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
BRIDGED = Path("/proc/sys/net/bridge")
BRIDGE_CALLS = ("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")

# The rules of the engine that a "no" rests on, as nft(8) prints them. Several stand for what several rules forbid.
LOCALHOST = ("ip daddr 127.0.0.0/8 drop",)
DIRECT = ("ip daddr @subnets4 drop", "ip6 daddr @subnets6 drop")
INTO = ("oifname @bridges drop",)
FROM_INTERNAL, INTO_INTERNAL = ("iifname @internal drop",), ("oifname @internal drop",)
TO_HOST = ("iifname @internal jump inward",)
LOCAL = ("fib daddr type local jump publish => jump publish",)
WAY_OUT = (stages.WAY_OUT,)


class Row(NamedTuple):
    """A question and its answer.

    :param to: a name whose address is asked at ``port``.
    :param answer: who answers, or why nobody does.
    :param seen_as: whose address the one who answers sees.
    :param versions: of IP.
    :param guards: without these, somebody else answers: ``instead``, or the one who was asked.
    """

    source: str
    protocols: tuple[str, ...]
    to: str
    port: int
    answer: str
    seen_as: str = ""
    guards: tuple[str, ...] = ()
    instead: str = ""
    versions: tuple[int, ...] = (4, 6)


OPEN = {
    "container to container": Row("peer", TUI, "web", 90, "web", "peer"),
    "container to container, internal": Row("inner", TUI, "inner2", 90, "inner2", "inner"),
    "host to container": Row("host", TUI, "web", 90, "web"),
    "host to container, internal": Row("host", TUI, "inner", 90, "inner"),
    "container to host": Row("web", TU, "host", 7000, "host", "web"),
    "container to the internet": Row("web", TUI, "site", 80, "site", "wan"),
    "container to its LAN": Row("web", ("icmp",), "lan", 0, "lan"),
    "LAN to published": Row("lan", TU, "host", 8080, "web", "lan"),
    "LAN to published, other address": Row("lan", TU, "wan", 8080, "web", "lan"),
    "LAN to published on an address": Row("lan", T, "host", 8081, "web", "lan"),
    "LAN to the first of a range": Row("lan", T, "host", 8085, "web", "lan"),
    "LAN to the last of a range": Row("lan", T, "host", 8089, "web", "lan"),
    "LAN to the host's own server": Row("lan", TU, "host", 7000, "host", "lan"),
    "internet to published": Row("internet", TU, "wan", 8080, "web"),
    "host to published": Row("host", TU, "host", 8080, "web"),
    "host to published, localhost": Row("host", TU, "localhost", 8080, "web", versions=(4,)),
    "host to published on localhost": Row("host", T, "localhost", 8082, "web", versions=(4,)),
    "hairpin": Row("web", TU, "host", 8080, "web"),
    "hairpin from a peer": Row("peer", TU, "host", 8080, "web"),
    "hairpin from another network": Row("other", TU, "host", 8080, "web"),
}
CLOSED = {
    "LAN to unpublished by direct route": Row("lan", TUI, "web", 90, TIMED_OUT, guards=DIRECT + INTO),
    "LAN to published by direct route": Row("lan", TU, "web", 80, TIMED_OUT, guards=DIRECT + INTO),
    "LAN to internal by direct route": Row(
        "lan", TUI, "inner", 90, TIMED_OUT, guards=DIRECT + INTO + FROM_INTERNAL + INTO_INTERNAL + WAY_OUT
    ),
    "network to network": Row("other", TUI, "web", 90, BLOCKED, guards=DIRECT + INTO),
    "network to network, published": Row("other", TU, "web", 80, BLOCKED, guards=DIRECT + INTO),
    "network to network, back": Row("peer", TUI, "other", 90, BLOCKED, guards=DIRECT + INTO),
    "internal to the internet": Row("inner", TUI, "site", 80, BLOCKED, guards=FROM_INTERNAL + WAY_OUT),
    "internal to another network": Row(
        "inner", TUI, "web", 90, BLOCKED, guards=DIRECT + INTO + FROM_INTERNAL + WAY_OUT
    ),
    "another network to internal": Row("web", TUI, "inner", 90, BLOCKED, guards=DIRECT + INTO + INTO_INTERNAL),
    "internal to the host": Row("inner", TU, "host", 7000, BLOCKED, guards=TO_HOST + WAY_OUT),
    "internal to its gateway": Row("inner", TU, "gateway of inner", 7000, BLOCKED, guards=TO_HOST, instead="host"),
    "internal to published": Row("inner", TU, "host", 8080, BLOCKED, guards=FROM_INTERNAL + WAY_OUT, instead="web"),
    "internal to the LAN": Row("inner", ("icmp",), "lan", 0, BLOCKED, guards=FROM_INTERNAL + WAY_OUT),
}
ELSEWHERE = {  # nothing leads there; the control is that the same place is reached as it was published
    "LAN to unpublished": ("LAN to published", Row("lan", TU, "host", 90, REFUSED)),
    "LAN to published on another address": (
        "LAN to published on an address",
        Row("lan", T, "wan", 8081, REFUSED),
    ),
    # the kernel lets no packet from ::1 leave: who asks there must be told at once, to try 127.0.0.1
    "host to published, localhost by IPv6": (
        "host to published, localhost",
        Row("host", T, "localhost", 8080, REFUSED, versions=(6,)),
    ),
    "LAN to published on localhost": ("host to published on localhost", Row("lan", T, "host", 8082, REFUSED)),
}
FOREIGN = {  # a published port is no reason to take what is meant for somebody else: CVE-2025-67499
    "LAN through the host": Row("lan", TU, "site", 8080, "site", "lan", guards=LOCAL, instead="web"),
    "container through the host": Row("peer", TU, "site", 8080, "site", "wan", guards=LOCAL, instead="web"),
    "network through the host": Row("other", TU, "site", 8080, "site", "wan", guards=LOCAL, instead="web"),
    "the host itself": Row("host", TU, "site", 8080, "site", "wan", guards=LOCAL, instead="web"),
}
ALL = OPEN | CLOSED | FOREIGN | {name: row for name, (_, row) in ELSEWHERE.items()}


def cases(rows):
    """Parametrize a test with rows, each for the versions of IP that it is about."""
    found = [(name, version) for name in rows for version in ALL[name].versions]
    return pytest.mark.parametrize(("name", "version"), found, ids=[f"{name}-IPv{version}" for name, version in found])


@pytest.fixture(scope="module")
def stage(shared_world, shared_plugrun):
    with stages.staged(shared_world, shared_plugrun) as made:
        yield made


def answers(stage, row, version, patience):
    """Ask; return what came of it by protocol, as the row has it."""
    found = ask_all(stage.places[row.source], row.protocols, stage.addresses[row.to][version], row.port, patience)
    return {protocol: row.to if answer == "echo" else answer for protocol, answer in found.items()}


@cases(OPEN | FOREIGN)
def test_open(stage, name, version):
    row = ALL[name]
    found = answers(stage, row, version, LONG)
    expected = dict.fromkeys(row.protocols, row.answer)
    assert {protocol: who(answer) for protocol, answer in found.items()} == expected
    if row.seen_as:
        peers = {answer.split()[1] for protocol, answer in found.items() if protocol != "icmp"}
        assert peers <= {stage.addresses[row.seen_as][version]}


@cases(CLOSED | ELSEWHERE)
def test_closed(stage, name, version):
    row = ALL[name]
    queries = stage.queries()
    found = answers(stage, row, version, SHORT)
    assert {protocol: who(answer) in row.answer for protocol, answer in found.items()} == dict.fromkeys(found, True), (
        found
    )
    assert stage.queries() == queries, "nobody answers, but somebody was asked"


def test_the_other_controls_are_there():
    assert {control for control, _ in ELSEWHERE.values()} <= OPEN.keys()


@cases(CLOSED | FOREIGN)
def test_it_is_the_rules_that_do_it(stage, name, version):
    row = ALL[name]
    with stage.without(*row.guards):
        found = answers(stage, row, version, LONG)
    assert {protocol: who(answer) for protocol, answer in found.items()} == dict.fromkeys(found, row.instead or row.to)


@VERSIONS
@pytest.mark.parametrize("bridged", [0, 1])
@pytest.mark.skipif(not BRIDGED.exists(), reason="br_netfilter is not loaded: all tests are without it")
def test_hairpin_with_and_without_rules_for_bridged_frames(stage, bridged, version):
    """Docker loads br_netfilter, and then a frame that goes back to where it came from takes another way."""
    before = stage.world.host.run("sysctl", "-n", *BRIDGE_CALLS).split()
    try:
        stage.world.host.run("sysctl", "-qw", *(f"{name}={bridged}" for name in BRIDGE_CALLS))
        assert who(ask(stage.places["web"], "tcp", stage.addresses["host"][version], 8080)) == "web"
    finally:
        stage.world.host.run("sysctl", "-qw", *map("=".join, zip(BRIDGE_CALLS, before, strict=True)))


# --- Frames that no socket sends ------------------------------------------------------------------------------------


ports = itertools.count(20000)


@VERSIONS
@pytest.mark.parametrize("port", [8080, 8082])
def test_localhost_is_not_reached_from_the_lan_by_a_frame_made_by_hand(stage, port, version):
    """moby#45610."""
    source, local, host = (stage.addresses[name][version] for name in ("lan", "localhost", "host"))

    def arrives(to, port):
        lan, world_host = stage.world.lan, stage.world.host
        own_port = next(ports)  # a new one, or address translation would have to choose another
        with stage.places["web"].capture("eth0") as capture:
            packet = packets.syn(source, to, port, from_port=own_port)
            lan.send_frame("eth0", packets.ethernet(world_host.mac("lan0"), lan.mac("eth0"), packet))
            assert who(ask(lan, "tcp", host, 8080)) == "web"  # after which the frame has been dealt with
            return bool(capture.holding(packets.address(source), struct.pack("!HH", own_port, 80)))

    assert not arrives(local, port)
    assert arrives(host, 8080), "frames made by hand arrive nowhere"
    if version == 4:  # the kernel itself drops every such frame to ::1
        with stage.without(*LOCALHOST):
            assert arrives(local, port), "nor without the rule, so this proves nothing"


# --- Names ------------------------------------------------------------------------------------------------------------


def name_server(stage, container):
    lines = stage.plugrun("exec", container, "cat", "/etc/resolv.conf").ok().stdout.splitlines()
    return next(line.split()[1] for line in lines if line.startswith("nameserver"))


def test_names_are_known_on_the_network_and_beyond(stage):
    peer, server = stage.places["peer"], name_server(stage, "peer")
    assert resolve(peer, server, "web") == stage.addresses["web"][4]
    assert resolve(peer, server, "site.example") == stage.addresses["site"][4]
    assert "site.example" in [name for name, _ in stage.world.names.seen]


def test_names_of_another_network_are_not_known(stage):
    other, server = stage.places["other"], name_server(stage, "other")
    assert resolve(other, server, "web") == "NXDOMAIN"
    assert resolve(other, server, "other") == stage.addresses["other"][4]


def test_an_internal_network_knows_its_names_and_asks_nobody_else(stage):
    """CVE-2024-29018."""
    inner, server = stage.places["inner"], name_server(stage, "inner")
    assert resolve(inner, server, "inner2") == stage.addresses["inner2"][4]
    before = len(stage.world.names.seen)
    with stage.world.host.capture("wan0") as capture:
        answer = resolve(inner, server, "secret.site.example", patience=SHORT)
        assert answer in {"NXDOMAIN", "REFUSED", "SERVFAIL", TIMED_OUT}
        assert not capture.holding(b"secret"), "the question left the host"
    assert len(stage.world.names.seen) == before
    assert resolve(stage.places["peer"], name_server(stage, "peer"), "secret.site.example") == "NXDOMAIN"
    assert "secret.site.example" in [name for name, _ in stage.world.names.seen[before:]], "the control"
