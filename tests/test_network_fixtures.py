"""The world of the network tests works as they believe: who reaches whom, and that what is seen is seen."""

from __future__ import annotations

import pytest

from fixtures import packets
from fixtures.names import AAAA, resolve
from fixtures.network import HOST, HOST6, LAN, LAN6, RESOLVER, SITE, SITE6
from fixtures.probes import ECHO, REFUSED, SHORT, TIMED_OUT, UNREACHABLE, Query, Server, ask, who

pytestmark = pytest.mark.root


@pytest.mark.parametrize(("site", "peer"), [(SITE, LAN), (SITE6, LAN6)])
def test_the_neighbour_reaches_the_internet_through_the_host(world, site, peer):
    for protocol in ("tcp", "udp"):
        assert ask(world.lan, protocol, site, 80) == f"site {peer}"
        assert Query(protocol, 80, peer) in world.site.seen
        assert ask(world.lan, protocol, site, 81) == REFUSED
    assert ask(world.lan, "icmp", site) == ECHO


RULES = """
table inet mine {
    chain passing {
        type filter hook forward priority 0
        iifname "lan0" drop
        iifname "wan0" accept
    }
}
"""


def test_what_does_not_come_back(world):
    world.load_rules(RULES)
    for protocol in ("tcp", "udp", "icmp"):
        for site in (SITE, SITE6):
            assert ask(world.lan, protocol, site, 80, patience=0.05) == TIMED_OUT
    assert world.site.seen == []
    assert who(ask(world.internet, "tcp", "10.9.9.9", 80)) == UNREACHABLE


def test_rules_are_left_out_for_a_while(world):
    world.load_rules(RULES)
    before = world.ruleset()
    with pytest.raises(AssertionError, match="has no rule 'iifname'"), world.without("iifname"):
        pass
    with world.without('iifname "lan0" drop'):
        assert who(ask(world.lan, "tcp", SITE, 80)) == "site"
    with world.without('iifname "lan0" drop => tcp dport 8080 drop'):
        assert who(ask(world.lan, "tcp", SITE, 80)) == "site"
        assert ask(world.lan, "tcp", SITE, 8080, patience=0.05) == TIMED_OUT
    assert world.ruleset() == before


def test_names(world):
    assert resolve(world.host, RESOLVER, "Site.example") == SITE
    assert resolve(world.host, RESOLVER, "site.example", AAAA) == SITE6
    assert resolve(world.host, RESOLVER, "four.example", AAAA) == ""
    assert resolve(world.host, RESOLVER, "nosuch.example") == "NXDOMAIN"
    assert resolve(world.host, SITE, "site.example", patience=SHORT) == REFUSED
    assert [name for name, _ in world.names.seen] == ["site.example"] * 2 + ["four.example", "nosuch.example"]


@pytest.mark.parametrize(("source", "to"), [(LAN, HOST), (LAN6, HOST6)])
def test_a_frame_made_by_hand_is_understood(world, source, to):
    with Server(world.host, 80), world.lan.capture("eth0") as capture:
        frame = packets.ethernet(world.host.mac("lan0"), world.lan.mac("eth0"), packets.syn(source, to, 80))
        world.lan.send_frame("eth0", frame)
        assert ask(world.lan, "tcp", to, 80) == f"host {source}"  # whatever was before it was answered too
        answers = capture.holding(packets.address(to) + packets.address(source), b"\0\x50\x9c\x40")
        assert answers, "no SYN and ACK from port 80 to port 40000"
        assert frame in capture.frames()


def test_a_router_advertisement_is_understood(world):
    world.lan.sysctl(net__ipv6__conf__eth0__accept_ra=2)
    packet = packets.router_advertisement("fe80::1", "2001:db8:bad::")
    world.host.send_frame("lan0", packets.ethernet(b"\x33\x33\0\0\0\x01", world.host.mac("lan0"), packet))
    ask(world.host, "udp", LAN6, 9)
    assert "2001:db8:bad::/64 dev eth0" in "\n".join(world.lan.routes())
