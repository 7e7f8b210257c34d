"""What containers, firewalls and crashes cannot do to the networks of others."""

from __future__ import annotations

import socket

import pytest

from fixtures import packets
from fixtures.network import HOST, HOST6, LAN, SITE, SITE6, WAN6
from fixtures.probes import ECHO, SHORT, TIMED_OUT, Server, ask, who

pytestmark = pytest.mark.root

FOREIGN = """
table inet theirs {
	chain input {
		type filter hook input priority filter; policy accept;
		tcp dport 12345 drop
	}
}
table ip nat {
	map m {
		type inet_service : ipv4_addr
		elements = { 1 : 192.0.2.1 }
	}
}
"""


@pytest.fixture
def world(shared_world):
    yield shared_world
    shared_world.load_rules("")


@pytest.fixture
def plugrun(shared_plugrun, world):
    yield shared_plugrun
    shared_plugrun.remove_all()


# --- Containers -----------------------------------------------------------------------------------------------------


def advertisement(router, device):
    """Return a frame in which a place says to all others on its link that it routes for a prefix."""
    link = router.run("ip", "-oneline", "addr", "show", "dev", device, "scope", "link").split()[3].partition("/")[0]
    packet = packets.router_advertisement(link, "2001:db8:bad::")
    return packets.ethernet(bytes.fromhex("333300000001"), router.mac(device), packet)


def test_a_container_cannot_announce_itself_as_a_router(plugrun, world):
    """CVE-2020-13401."""
    plugrun("network", "create", "--ipv6", "front").ok()
    rogue, peer = (plugrun.start(name, "--net", "front") for name in ("rogue", "peer"))
    (bridge,) = (name for name in world.host.devices() if name.startswith("pr-"))
    frame = advertisement(rogue, "eth0")

    def routes_after():
        with peer.capture("eth0") as capture:
            rogue.send_frame("eth0", frame)
            assert ask(rogue, "icmp", peer.addresses()[6]) == ECHO  # after which the frame has been there
            assert frame in capture.frames()
        return "\n".join((*world.host.routes(), *peer.routes()))

    assert "2001:db8:bad" not in routes_after()
    world.host.sysctl(**{f"net__ipv6__conf__{bridge}__accept_ra": 2})
    peer.sysctl(net__ipv6__conf__eth0__accept_ra=2)
    found = routes_after()
    assert f"2001:db8:bad::/64 dev {bridge}" in found, "the control"
    assert "2001:db8:bad::/64 dev eth0" in found


def test_a_container_has_no_raw_sockets_unless_asked_for(plugrun):
    plugrun.start("web")
    plugrun.start("raw", "--cap-add", "NET_RAW")
    results = [plugrun("exec", name, "ping", "-c1", "-W1", "127.0.0.1").code for name in ("web", "raw")]
    assert results == [1, 0]


@pytest.fixture
def no_router(world):
    world.host.sysctl(net__ipv4__ip_forward=0, net__ipv6__conf__all__forwarding=0)
    yield
    world.host.sysctl(net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1)


def test_a_host_that_was_no_router_does_not_become_one(no_router, host_plugrun, world):
    """moby's TestFilterForwardPolicy."""
    plugrun = host_plugrun
    plugrun("network", "create", "--ipv6", "front").ok()
    web = plugrun.start("web", "--net", "front", "-p", "8080:80")
    for site in (SITE, SITE6):
        assert who(ask(web, "tcp", site, 80)) == "site"
        assert ask(world.lan, "tcp", site, 80, SHORT) == TIMED_OUT
    with Server(web, 80):
        for host in (HOST, HOST6):
            assert who(ask(world.lan, "tcp", host, 8080)) == "web"
    rules = (f"meta nfproto ipv{one} iifname @former{one} ct status ! dnat drop" for one in (4, 6))
    with world.without(*rules):
        for site in (SITE, SITE6):
            assert who(ask(world.lan, "tcp", site, 80)) == "site", "the control: without the rule it is a router"


def test_a_host_goes_on_to_listen_to_its_own_router(no_router, host_plugrun, world):
    """The kernel stops that when it begins to forward."""
    host_plugrun("network", "create", "--ipv6", "front").ok()
    host_plugrun.start("web", "--net", "front")
    assert world.host.run("sysctl", "-n", "net.ipv6.conf.all.forwarding") == "1\n", "or this proves nothing"
    world.internet.send_frame("eth0", advertisement(world.internet, "eth0"))
    assert ask(world.internet, "icmp", WAN6) == ECHO
    assert "2001:db8:bad::/64 dev wan0" in "\n".join(world.host.routes())
    world.host.run("ip", "-6", "route", "flush", "2001:db8:bad::/64")


# --- Firewalls ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [("network", "reload"), ("create", "--name", "new", "busybox"), ("stop", "-t", "0", "other")],
    ids=["reload", "create", "stop"],
)
def test_rules_that_a_firewall_flushed_are_back_after_the_next_command(plugrun, world, command):
    """CVE-2025-54410, netavark#1258."""
    plugrun("network", "create", "front").ok()
    web, other = plugrun.start("web", "--net", "front", "-p", "8080:80"), plugrun.start("other")
    address = web.addresses()[4]
    with Server(web, 80):
        world.load_rules(FOREIGN)
        assert ask(world.lan, "tcp", HOST, 8080, SHORT) != f"web {LAN}"
        assert who(ask(other, "tcp", address, 80)) == "web", "no rules, no isolation: the control"
        plugrun(*command).ok()
        assert ask(world.lan, "tcp", HOST, 8080) == f"web {LAN}"
        if command[0] != "stop":
            assert ask(other, "tcp", address, 80, SHORT) == TIMED_OUT


def test_the_rules_of_others_stay_byte_for_byte(plugrun, world):
    world.load_rules(FOREIGN)
    theirs = world.ruleset()
    plugrun("network", "create", "--ipv6", "front").ok()
    plugrun.start("web", "--net", "front", "-p", "8080:80", "-p", "9000-9100:9000-9100")
    plugrun("port", "add", "web", "9990:90").ok()
    plugrun("network", "reload").ok()
    assert foreign(world) == theirs
    plugrun("rm", "-f", "web").ok()
    plugrun("network", "rm", "front").ok()
    assert foreign(world) == theirs


def foreign(world):
    return "".join(world.host.run("nft", "list", "table", *table) for table in (("inet", "theirs"), ("ip", "nat")))


# --- Neighbours -------------------------------------------------------------------------------------------------------


def test_an_answer_from_elsewhere_is_no_way_around_the_rules(plugrun, world):
    """A container that the LAN may not reach still gets its own answers from there."""
    web = plugrun.start("web")
    with Server(world.lan, 7000, addresses=(LAN,)):
        assert ask(web, "tcp", LAN, 7000) == f"lan {HOST}"
        assert ask(web, "udp", LAN, 7000) == f"lan {HOST}"
    world.lan.ip(f"route replace {web.addresses()[4]} via {HOST}")
    with world.lan.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, web.capture("eth0") as capture:
        sender.bind((LAN, 7000))  # where the answers came from
        sender.sendto(b"unasked", (web.addresses()[4], 80))
        assert ask(web, "icmp", LAN) == ECHO
        assert not capture.holding(b"unasked")
