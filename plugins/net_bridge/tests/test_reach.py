"""What reaches what, by TCP over real bridges: each refusal beside something that goes through."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

from fixtures.bridge import ip, pings, setting
from plugrun import namespaces
from plugrun.api import PortMapping

pytestmark = pytest.mark.root

SERVE = """
import socket, sys
with socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True) as server:
    print("ready", flush=True)
    while True:
        link, peer = server.accept()
        with link:
            link.sendall(f"{sys.argv[2]} {peer[0].removeprefix('::ffff:')}".encode())
"""
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2) as link:
    print(link.recv(100).decode())
"""


def enter(netns):
    return [] if netns is None else ["nsenter", f"--net={netns}"]


@contextlib.contextmanager
def serving(netns, port, word):
    command = [*enter(netns), sys.executable, "-I", "-c", SERVE, str(port), word]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            process.kill()


def ask(address, port, netns=None):
    """Return what a server says and whom it sees, or nothing if there is no connection."""
    command = [*enter(netns), sys.executable, "-I", "-c", ASK, address, str(port)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


@pytest.fixture(params=["1", "0"], ids=["rules see frames", "rules see packets"])
def br_netfilter(request):
    """Whether bridges show frames to the rules, as they do where Docker or Kubernetes is."""
    names = [f"bridge/bridge-nf-call-{one}" for one in ("iptables", "ip6tables")]
    if not os.path.exists(f"/proc/sys/net/{names[0]}"):
        pytest.skip("br_netfilter is not loaded")
    before = [setting(name) for name in names]
    for name in names:
        setting(name, request.param)
    yield request.param
    for name, value in zip(names, before, strict=True):
        setting(name, value)


@pytest.fixture
def lan(bench):
    """A machine beside the host: 192.0.2.2 and fd00:2::2, where the host is .1 and ::1."""
    pin = bench.directory / "lan"
    namespaces.create(pin)
    make = f"""
    ip link add lan0 type veth peer name eth0 netns {pin}
    ip addr add 192.0.2.1/24 dev lan0; ip addr add fd00:2::1/64 dev lan0 nodad; ip link set lan0 up
    nsenter --net={pin} sh -ec 'ip addr add 192.0.2.2/24 dev eth0; ip addr add fd00:2::2/64 dev eth0 nodad
    ip link set eth0 up; ip route add default via 192.0.2.1; ip -6 route add default via fd00:2::1'
    """
    subprocess.run(["sh", "-ec", make], check=True)
    yield str(pin)
    subprocess.run(["ip", "link", "del", "lan0"], check=True)
    namespaces.delete(pin)
    setting("ipv4/ip_forward", "0")
    setting("ipv6/conf/all/forwarding", "0")


def plain(result):
    return [one.partition("/")[0] for one in result.addresses]


def test_containers_reach_out_and_are_reached_by_published_ports_alone(bench, lan, br_netfilter):
    network = bench.network(ipv6=True)
    web, result = bench.up(1, network, ports=(PortMapping(80, 8080),))
    client, _ = bench.up(2, network)
    with serving(web.netns, 80, "web"), serving(web.netns, 81, "hidden"), serving(lan, 7, "lan"):
        for version, (mine, outer, host) in enumerate(
            (("192.0.2.2", "192.0.2.1", "127.0.0.1"), ("fd00:2::2", "fd00:2::1", "fd00:2::1"))
        ):
            address = plain(result)[version]
            assert ask(mine, 7, web.netns) == ["lan", outer]  # masqueraded
            assert ask(address, 80, client.netns)[0] == "web"
            assert ask(address, 81, client.netns)[0] == "hidden"
            assert ask(address, 81)[0] == "hidden"  # the host itself
            assert ask(outer, 8080, lan)[0] == "web"
            assert ask(outer, 8080)[0] == "web"
            assert ask(host, 8080)[0] == "web"
            assert ask(outer, 8080, client.netns)[0] == "web"
            assert ask(outer, 8080, web.netns)[:1] == ["web"], version  # by way of the host
            assert ask(address, 80, lan) == []  # by direct route
            assert ask(address, 81, lan) == []
    assert ask("192.0.2.1", 8080, lan) == []


def test_networks_do_not_reach_each_other(bench, lan, br_netfilter):
    front, back = bench.network("front", ipv6=True), bench.network("back", ipv6=True)
    web, result = bench.up(1, front)
    near, _ = bench.up(2, front)
    far, _ = bench.up(3, back)
    with serving(web.netns, 80, "web"):
        for address in plain(result):
            assert ask(address, 80, near.netns)[0] == "web"
            assert ask(address, 80, far.netns) == []
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        assert ask(plain(result)[0], 80, far.netns)[0] == "web"  # it was the rules
        bench.driver.reload()
        assert ask(plain(result)[0], 80, far.netns) == []


def test_an_internal_network_is_one(bench, lan):
    inner, outer = bench.network("inner", internal=True, ipv6=True), bench.network("outer", ipv6=True)
    web, result = bench.up(1, inner)
    other, _ = bench.up(2, inner)
    free, _ = bench.up(3, outer)
    with serving(web.netns, 80, "web"), serving(lan, 7, "lan"), serving(None, 9, "host"):
        for mine, theirs, gateway in zip(("192.0.2.2", "fd00:2::2"), plain(result), inner.subnets, strict=True):
            assert ask(theirs, 80, other.netns)[0] == "web"
            assert ask(mine, 7, free.netns)[0] == "lan"
            subprocess.run([*enter(web.netns), "ip", "route", "add", "default", "via", gateway.gateway], check=True)
            assert ask(mine, 7, web.netns) == []
            assert ask(theirs, 80, lan) == []
            assert ask(gateway.gateway, 9, web.netns) == []


def test_the_host_becomes_no_router(bench, lan):
    """Between two of its neighbours, when it was none before (the control: when it was one)."""
    pin = bench.directory / "beyond"
    namespaces.create(pin)
    make = f"""
    ip link add far0 type veth peer name eth0 netns {pin}; ip addr add 198.51.100.1/24 dev far0; ip link set far0 up
    nsenter --net={pin} sh -ec 'ip addr add 198.51.100.2/24 dev eth0; ip link set eth0 up
    ip route add default via 198.51.100.1'
    """
    subprocess.run(["sh", "-ec", make], check=True)
    try:
        setting("ipv4/ip_forward", "1")
        assert pings("198.51.100.2", lan)
        bench.up(1, bench.network("front"))
        assert pings("198.51.100.2", lan)
        bench.driver.gc(frozenset())
        setting("ipv4/ip_forward", "0")
        bench.networks.clear()
        _, result = bench.up(2, bench.network("back"))
        assert setting("ipv4/ip_forward") == "1"
        assert not pings("198.51.100.2", lan)
        assert pings(plain(result)[0])
        assert pings("198.51.100.2")
    finally:
        subprocess.run(["ip", "link", "del", "far0"], check=True)
        namespaces.delete(pin)


def test_a_container_announces_no_router(bench):
    """One that sends router advertisements changes no route, of the host or of its neighbours."""
    network = bench.network(ipv6=True)
    rogue, _ = bench.up(1, network)
    victim, _ = bench.up(2, network)
    before = ip("-6", "route"), ip("-6", "route", netns=victim.netns)
    advertise = """
import socket, struct
prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 600, 600, 0, socket.inet_pton(socket.AF_INET6, "2001:db8:bad::"))
index = socket.if_nametoindex("eth0")
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as link:
    link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    link.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 600, 0, 0) + prefix, ("ff02::1", 0, 0, index))
"""
    send = [*enter(rogue.netns), sys.executable, "-I", "-c", advertise]
    subprocess.run(send, check=True)
    assert pings(network.subnets[1].gateway, rogue.netns)  # so that whatever was sent before has arrived
    assert (ip("-6", "route"), ip("-6", "route", netns=victim.netns)) == before
    command = [*enter(victim.netns), "sh", "-c", "echo 2 > /proc/sys/net/ipv6/conf/eth0/accept_ra"]
    subprocess.run(command, check=True)
    subprocess.run(send, check=True)
    assert pings(network.subnets[1].gateway, victim.netns)
    assert ip("-6", "route", netns=victim.netns) != before[1]  # the control: one that listens
