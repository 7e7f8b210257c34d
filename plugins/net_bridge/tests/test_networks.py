"""Networks as a whole on a real host: made, kept, brought back, removed."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from fixtures.bridge import devices, ip, pings, setting
from plugrun.api import (
    DriverError,
    FailedPrecondition,
    InvalidArgument,
    NetworkDraft,
    PortMapping,
    Subnet,
    SupportsExplain,
    SupportsNetworks,
    SupportsPorts,
    SupportsReload,
)
from plugrun_net_bridge import holder, naming, publishing

pytestmark = pytest.mark.root


def tables():
    shown = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1] for line in shown.splitlines()}


def chains():
    return subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout


@pytest.fixture(autouse=True)
def forwarding():
    """What a host is that is no router."""
    setting("ipv4/ip_forward", "0")
    setting("ipv6/conf/all/forwarding", "0")
    yield
    setting("ipv4/ip_forward", "0")
    setting("ipv6/conf/all/forwarding", "0")


def test_supports_what_it_says(bench):
    for protocol in (SupportsNetworks, SupportsPorts, SupportsReload, SupportsExplain):
        assert isinstance(bench.driver, protocol)


# --- Drafts ------------------------------------------------------------------------------------------------------


def test_a_draft_is_settled_and_nothing_made(bench):
    before = devices()
    made = bench.driver.make_network(NetworkDraft("12" * 32, "front"), ())
    assert (made.driver, made.interface, made.ipv6) == ("bridge", naming.bridge("12" * 32), False)
    assert made.subnets == (Subnet("10.64.0.0/20", "10.64.0.1"),)
    both = bench.driver.make_network(NetworkDraft("34" * 32, "both", ipv6=True), (made,))
    assert both.subnets[0].subnet == "10.64.16.0/20"
    assert both.subnets[1].subnet.startswith("fd")
    third = bench.again().make_network(NetworkDraft("56" * 32, "third", ipv6=True), (made, both))
    assert third.subnets[1].subnet[:14] == both.subnets[1].subnet[:14] != third.subnets[1].subnet
    assert bench.driver.make_network(NetworkDraft("78" * 32, "six", (Subnet("fd00:7::/64"),)), ()).ipv6
    assert (devices(), tables()) == (before, set())


@pytest.mark.parametrize(
    ("draft", "error", "message"),
    [
        ({"options": {"mtv": "1"}}, InvalidArgument, "knows no network option 'mtv'"),
        ({"options": {"mtu": "67"}}, InvalidArgument, "the mtu '67' is no number from 68 to 65535"),
        ({"options": {"mtu": "9k"}}, InvalidArgument, "the mtu '9k' is no number"),
        ({"options": {"mtu": "1000"}, "ipv6": True}, InvalidArgument, "1000 is too small for IPv6, which needs 1280"),
        ({"options": {"name": "much-too-long-name"}}, InvalidArgument, "'much-too-long-name' cannot be the name"),
        ({"options": {"mtu": "9" * 5000}}, InvalidArgument, "is no number from 68 to 65535"),
        ({"options": {"name": "all"}}, InvalidArgument, "'all' cannot be the name of a bridge"),
        ({"options": {"name": "default"}}, InvalidArgument, "'default' cannot be the name of a bridge"),
        ({"options": {"name": "a/b"}}, InvalidArgument, "'a/b' cannot be the name of a bridge"),
        ({"options": {"name": ""}}, InvalidArgument, "'' cannot be the name of a bridge"),
        ({"options": {"name": "lo"}}, FailedPrecondition, "the host has an interface 'lo' already"),
        ({"options": {"name": "taken0"}}, FailedPrecondition, "'taken0' belongs to network 'other'"),
        ({"subnets": (Subnet("10.9.0.0/24"), Subnet("10.8.0.0/24"))}, InvalidArgument, "one subnet of each kind"),
        ({"subnets": (Subnet("10.7.0.0/16"),)}, FailedPrecondition, r"overlaps network 'other' \(10.7.0.0/24\)"),
        ({"subnets": (Subnet("192.0.2.0/25"),)}, FailedPrecondition, "the host's route to 192.0.2.0/24"),
    ],
)
def test_bad_drafts(bench, draft, error, message):
    other = bench.network("other", options={"name": "taken0"}, subnets=(Subnet("10.7.0.0/24"),))
    subprocess.run(
        "ip link add up0 type bridge; ip link set up0 up; ip addr add 192.0.2.1/24 dev up0", shell=True, check=True
    )
    try:
        with pytest.raises(error, match=message):
            bench.driver.make_network(NetworkDraft("12" * 32, "front", **draft), (other,))
    finally:
        subprocess.run(["ip", "link", "del", "up0"], check=True)


def test_dockers_names_of_options(bench):
    options = {"com.docker.network.bridge.name": "front0", "com.docker.network.driver.mtu": "1400"}
    network = bench.network(options=options)
    bench.up(1, network)
    assert ip("link", "show", "front0")[0]["mtu"] == 1400
    assert network.options == options


def test_a_bridge_that_is_somebody_elses_is_left_alone(bench):
    network = bench.network(options={"name": "front0"})
    subprocess.run(["ip", "link", "add", "front0", "type", "bridge"], check=True)
    try:
        at = bench.container(1, network)
        with pytest.raises(FailedPrecondition, match="the host has another interface 'front0'"):
            bench.driver.setup(at)
        bench.driver.teardown(at, None)
        bench.driver.remove_network(network)
        bench.driver.gc(frozenset())
        assert "front0" in devices()
    finally:
        subprocess.run(["ip", "link", "del", "front0"], check=True)


@pytest.mark.parametrize("end", ["setup", "remove_network", "gc"])
def test_a_bridge_that_a_crash_has_left_without_its_mark_is_known(bench, end):
    network = bench.network()
    bench.driver._store.add_network(network)
    subprocess.run(["ip", "link", "add", network.interface, "type", "bridge"], check=True)
    if end == "setup":
        at, result = bench.up(1, network)
        bench.driver.check(at, result)
    elif end == "gc":
        bench.driver.gc(frozenset())
    else:
        bench.driver.remove_network(network)
    assert (network.interface in devices()) is (end == "setup")


# --- Forwarding --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("six", [False, True])
def test_forwarding_is_turned_on_only_for_containers_and_off_again(bench, six):
    assert (setting("ipv4/ip_forward"), setting("ipv6/conf/all/forwarding")) == ("0", "0")
    bench.up(1, bench.network(ipv6=six))
    assert (setting("ipv4/ip_forward"), setting("ipv6/conf/all/forwarding")) == ("1", "01"[six])
    wanted = bench.driver._rules._wanted()
    assert (set(wanted.former4) >= {"lo"}, "lo" in wanted.former6) == (True, six)
    bench.driver.gc(frozenset())
    assert (setting("ipv4/ip_forward"), setting("ipv6/conf/all/forwarding")) == ("0", "0")


def test_forwarding_stays_for_those_who_came_later(bench):
    bench.up(1, bench.network())
    subprocess.run(["ip", "link", "add", "docker0", "type", "bridge"], check=True)
    try:
        bench.driver.gc(frozenset())
        assert setting("ipv4/ip_forward") == "1"
        rules = subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout
        assert "iifname @former4" in rules
        assert '"docker0"' not in rules
    finally:
        subprocess.run(["ip", "link", "del", "docker0"], check=True)
    bench.driver.gc(frozenset())
    assert setting("ipv4/ip_forward") == "0"
    assert not subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout


def test_a_host_that_is_a_router_stays_one(bench):
    setting("ipv4/ip_forward", "1")
    bench.up(1, bench.network())
    assert not bench.driver._rules._wanted().former4
    bench.driver.gc(frozenset())
    assert setting("ipv4/ip_forward") == "1"


def test_only_our_own_resolver_is_asked_from_an_internal_network(bench):
    network = bench.network(internal=True)._replace(default=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", 53))  # as dnsmasq does, which asks others
        _, result = bench.up(1, network)
        assert "another program listens at port 53" in result.unnamed
        assert [one.served for one in bench.driver._rules._wanted().networks] == [False]
    _, result = bench.up(2, network)
    assert result.nameservers
    assert [one.served for one in bench.driver._rules._wanted().networks] == [True]


def test_an_internal_network_needs_no_forwarding(bench):
    network = bench.network(internal=True, ipv6=True)
    at, _ = bench.up(1, network)
    _, result = bench.up(2, network)
    assert (setting("ipv4/ip_forward"), setting("ipv6/conf/all/forwarding")) == ("0", "0")
    assert setting(f"ipv4/conf/{network.interface}/route_localnet") == "0"
    assert pings(result.addresses[0].partition("/")[0], at.netns)
    with pytest.raises(InvalidArgument, match="no port can be published on network 'front': it is internal"):
        bench.driver.setup(bench.container(3, network)._replace(ports=(PortMapping(80),)))


def test_interfaces_that_listen_to_routers_go_on_to(bench):
    subprocess.run(["ip", "link", "add", "up0", "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "add", "up1", "type", "bridge"], check=True)
    try:
        setting("ipv6/conf/up1/accept_ra", "0")
        assert setting("ipv6/conf/up0/accept_ra") == "1"
        bench.up(1, bench.network(ipv6=True))
        assert (setting("ipv6/conf/up0/accept_ra"), setting("ipv6/conf/up1/accept_ra")) == ("2", "0")
        bench.driver.gc(frozenset())
        assert (setting("ipv6/conf/up0/accept_ra"), setting("ipv6/conf/up1/accept_ra")) == ("1", "0")
    finally:
        subprocess.run(["ip", "link", "del", "up0"], check=True)
        subprocess.run(["ip", "link", "del", "up1"], check=True)


# --- Their life --------------------------------------------------------------------------------------------------


def test_a_bridge_stays_for_the_next_container_and_goes_with_its_network(bench):
    network, other = bench.network("front"), bench.network("back")
    at, result = bench.up(1, network)
    bench.up(2, other)
    bench.driver.teardown(at, result)
    assert network.interface in devices()
    for _ in range(2):
        bench.driver.remove_network(network)
        assert network.interface not in devices()
    assert other.interface in devices()
    assert network.interface not in chains()
    assert other.interface in chains()
    bench.driver.check(at, bench.driver.setup(at))  # comes back


def test_the_bridge_keeps_its_hardware_address(bench):
    network = bench.network()
    first, _ = bench.up(1, network)
    mac = ip("link", "show", network.interface)[0]["address"]
    bench.up(2, network)
    bench.driver.teardown(first, None)
    assert ip("link", "show", network.interface)[0]["address"] == mac


def test_a_bridge_that_nobody_is_on_is_collected(bench):
    network, other = bench.network("front"), bench.network("back")
    at, result = bench.up(1, network)
    kept, there = bench.up(2, other)
    bench.driver.teardown(at, result)
    bench.driver.gc(frozenset({kept.container_id}))
    assert network.interface not in devices()
    assert network.interface not in chains()
    bench.driver.check(kept, there)
    bench.driver.check(at, bench.driver.setup(at))


def test_everything_goes_at_last(bench):
    before = devices(), tables()
    bench.up(1, bench.network("front", ipv6=True), ports=(PortMapping(80, 8080),))
    bench.up(2, bench.network("back"))
    assert len(tables()) == 1
    bench.driver.gc(frozenset())
    assert (devices(), tables()) == before
    bench.driver.gc(frozenset())


def test_an_interface_that_no_record_knows_is_collected(bench):
    at, _ = bench.up(1, bench.network())
    kept, result = bench.up(2, bench.networks[0])
    bench.driver._store.forget(at.container_id, at.network.id)
    bench.driver.gc(frozenset({kept.container_id}))
    assert naming.port(at.container_id, 0) not in devices()
    bench.driver.check(kept, result)


# --- Brought back ------------------------------------------------------------------------------------------------


def test_nothing_is_brought_back_where_nothing_is_missing(bench):
    assert bench.driver.reload() is False
    assert bench.driver.reload(force=True) is False
    assert not (bench.state / "state.db").exists()
    bench.up(1, bench.network())
    assert bench.driver.reload() is False
    assert bench.driver.reload(force=True) is True


def test_rules_that_were_flushed(bench):
    at, result = bench.up(1, bench.network(), ports=(PortMapping(80, 8080),))
    bench.driver.check(at, result)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    assert tables() == set()
    assert bench.again().reload() is True
    bench.driver.check(at, result)
    assert bench.driver.reload() is False


def test_a_bridge_that_was_deleted_gets_its_containers_back(bench):
    network = bench.network(ipv6=True)
    at, result = bench.up(1, network)
    other, _ = bench.up(2, network)
    subprocess.run(["ip", "link", "del", network.interface], check=True)
    assert not pings(result.addresses[0].partition("/")[0])
    assert bench.driver.reload() is True
    bench.driver.check(at, result)
    for place in (0, 1):
        address = result.addresses[place].partition("/")[0]
        assert pings(address)
        assert pings(address, other.netns)


def test_a_container_brings_back_what_is_missing_too(bench):
    network = bench.network()
    at, result = bench.up(1, network)
    subprocess.run(["ip", "link", "set", network.interface, "down"], check=True)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    bench.up(2, network)
    bench.driver.check(at, result)
    assert len(tables()) == 1


# --- Ports -------------------------------------------------------------------------------------------------------


def test_ports_of_a_running_container(bench):
    network = bench.network()
    at, result = bench.up(1, network, ports=(PortMapping(80, 8080), PortMapping(81)))
    chosen = result.ports[1]
    assert result.ports[0] == PortMapping(80, 8080)
    assert chosen.host_port > 1024
    changed = bench.driver.publish(at._replace(ports=(chosen, PortMapping(82, 8082))), result)
    assert changed == result._replace(ports=(chosen, PortMapping(82, 8082)))
    bench.driver.check(at, changed)
    other = bench.container(2, network, ports=(PortMapping(80, 8082),))
    with pytest.raises(FailedPrecondition, match="port 8082/tcp of the host is published by another container"):
        bench.driver.setup(other)
    bench.driver.teardown(other, None)
    with pytest.raises(FailedPrecondition, match="given twice"):
        bench.driver.publish(at._replace(ports=(chosen, PortMapping(1, 99), PortMapping(2, 99))), changed)
    bench.driver.check(at, changed)
    assert bench.driver._store.find(at.container_id, network.id).ports == changed.ports
    nothing = bench.driver.publish(at._replace(ports=()), changed)
    assert nothing.ports == ()
    assert "8082" not in chains()
    bench.up(3, network, ports=(PortMapping(80, 8082),))


def test_a_life_that_a_crash_ended_keeps_no_ports(bench):
    network = bench.network()
    at, _ = bench.up(1, network, ports=(PortMapping(80, 8080),))
    held = bench.driver._store.find(at.container_id, network.id).holder_pid
    again = bench.driver.setup(at._replace(ports=(PortMapping(81, 8081),)))
    assert again.ports == (PortMapping(81, 8081),)
    assert "8080" not in chains()
    assert not Path(f"/proc/{held}/environ").exists() or not Path(f"/proc/{held}/environ").read_bytes()
    bench.driver.check(at, again)
    bench.up(2, network, ports=(PortMapping(80, 8080),))


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("gone", [True, False])
def test_a_holder_that_a_crash_has_left_unrecorded_gives_way(bench, protocol, gone):
    """Killed when it had started the process and not recorded it; the endpoint is still there, or gone by now."""
    mapping = PortMapping(80, 8080, protocol)
    network = bench.network()
    at, result = bench.up(1, network)
    kept, _ = bench.up(2, network, ports=(PortMapping(80, 8081, protocol),))
    recorded = bench.driver._store.find(at.container_id, network.id)
    left = holder.hold([mapping], owner=publishing.owner(bench.driver._instance, recorded))
    if gone:
        bench.driver.teardown(at, result)
        bench.up(3, network, ports=(mapping,))
    else:
        assert bench.driver.publish(at._replace(ports=(mapping,)), result).ports == (mapping,)
    assert not holder.is_alive(left)
    assert holder.is_alive(holder.Holder(*bench.driver._store.find(kept.container_id, network.id)[7:9]))


def test_a_holder_of_another_engine_stays(bench):
    left = holder.hold([PortMapping(80, 8080)], owner="another 1 2")
    try:
        at = bench.container(1, bench.network(), ports=(PortMapping(80, 8080),))
        with pytest.raises(FailedPrecondition, match="8080/tcp of the host is in use"):
            bench.driver.setup(at)
        bench.driver.teardown(at, None)
        assert holder.is_alive(left)
    finally:
        holder.release(left)


def test_only_who_is_on_a_network_publishes_there(bench):
    at = bench.container(1, bench.network())
    with pytest.raises(FailedPrecondition, match="container 'c1' is not on network 'front'"):
        bench.driver.publish(at, None)


def test_a_kernel_that_refuses_is_a_drivers_error(bench, monkeypatch):
    at, result = bench.up(1, bench.network())
    monkeypatch.setattr("plugrun_net_bridge.naming.port", lambda *_: "x" * 16)
    with pytest.raises(DriverError, match="cannot disconnect container 'c1': "):
        bench.driver.teardown(at, result)
    assert [one.name for one in bench.driver._store.all()] == ["c1"]  # to be tried again
