"""Real containers' namespaces on real bridges, in a host of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest

from fixtures.bridge import Bench, descriptors, devices, ip, pings, setting
from plugrun import namespaces
from plugrun.api import Drift, DriverError, FailedPrecondition, InvalidArgument, New, Subnet
from plugrun_net_bridge import bridges, endpoints, inside, ipam, links, naming, table
from plugrun_net_bridge.driver import BridgeDriver
from plugrun_net_bridge.rtnetlink import Rtnetlink

pytestmark = pytest.mark.root


def plain(result, place=0):
    return result.addresses[place].partition("/")[0]


def port(at):
    return naming.port(at.container_id, at.number)


def gone(name):
    """Wait until the kernel has removed an interface by itself."""
    deadline = time.monotonic() + 10
    while name in devices():
        assert time.monotonic() < deadline, f"{name} is still there"
        os.sched_yield()
    return True


def test_the_plan(bench):
    assert bench.driver.namespace(None) == bench.driver.namespace("front") == New()
    with pytest.raises(InvalidArgument, match="''"):
        bench.driver.namespace("")


# --- What an endpoint is -----------------------------------------------------------------------------------------


def test_containers_and_host_reach_each_other_in_both_kinds(bench):
    network = bench.network(ipv6=True)
    (one, first), (two, second) = bench.up(1, network), bench.up(2, network)
    assert (first.interface, first.gateways) == ("eth0", tuple(subnet.gateway for subnet in network.subnets))
    for place in (0, 1):
        assert pings(plain(second, place), one.netns)
        assert pings(plain(first, place), two.netns)
        assert pings(plain(first, place))
        assert pings(first.gateways[place], one.netns)
    (shown,) = ip("link", "show", "eth0", netns=one.netns)
    assert shown["address"] == first.mac
    for at, result in ((one, first), (two, second)):
        bench.driver.check(at, result)


def test_without_ipv6_there_is_none_of_it(bench):
    both, four = bench.network("both", ipv6=True), bench.network("four")
    at, _ = bench.up(1, four)
    other, _ = bench.up(2, both)
    for netns, name in ((at.netns, "eth0"), (None, four.interface), (None, port(at)), (None, port(other))):
        (shown,) = ip("address", "show", name, netns=netns)
        assert not [one for one in shown["addr_info"] if one["family"] == "inet6"], name
    (shown,) = ip("address", "show", "eth0", netns=other.netns)  # the control
    assert [one for one in shown["addr_info"] if one["local"].startswith("fe80")]


def test_nobody_listens_to_advertisements(bench):
    network = bench.network(ipv6=True)
    at, _ = bench.up(1, network)
    assert setting(f"ipv6/conf/{network.interface}/accept_ra") == "0"
    command = ["nsenter", f"--net={at.netns}", "cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "0"


def test_the_lowest_number_has_the_default_route(bench):
    front, back, inner = bench.network("front"), bench.network("back"), bench.network("inner", internal=True)
    at = bench.container(1, back)._replace(number=1)
    bench.driver.setup(at)
    bench.driver.setup(at._replace(network=front, number=0))
    result = bench.driver.setup(at._replace(network=inner, number=2))
    routes = ip("route", "show", "default", netns=at.netns)
    assert [(one["gateway"], one["dev"], one["metric"]) for one in routes] == [
        (front.subnets[0].gateway, "eth0", 100),
        (back.subnets[0].gateway, "eth1", 101),
    ]
    assert result.gateways == ()
    bench.driver.teardown(at._replace(network=front, number=0), None)
    (route,) = ip("route", "show", "default", netns=at.netns)
    assert route["dev"] == "eth1"


def test_addresses_that_were_asked_for(bench):
    network = bench.network(subnets=(Subnet("10.9.0.0/24"), Subnet("fd00:9::/64")))
    at, result = bench.up(1, network, ip="10.9.0.77", ip6="fd00:9::77", mac="02:00:00:00:00:77")
    assert result.addresses == ("10.9.0.77/24", "fd00:9::77/64")
    assert ip("link", "show", "eth0", netns=at.netns)[0]["address"] == "02:00:00:00:00:77" == result.mac
    other = bench.container(2, network, ip="10.9.0.77")
    with pytest.raises(FailedPrecondition, match=r"10\.9\.0\.77 is in use by container 'c1'"):
        bench.driver.setup(other)
    bench.driver.teardown(other, None)
    bench.driver.check(at, result)


def test_mtu(bench):
    small, usual = bench.network("small", options={"mtu": "1300"}), bench.network("usual")
    assert ip("link", "show", "eth0", netns=bench.up(1, small)[0].netns)[0]["mtu"] == 1300
    assert ip("link", "show", small.interface)[0]["mtu"] == 1300
    assert ip("link", "show", "eth0", netns=bench.up(2, usual)[0].netns)[0]["mtu"] == 1500


def test_mtu_of_the_way_out(bench):
    subprocess.run(
        "ip link add up0 mtu 1380 type veth peer name up1; ip link set up0 up; ip addr add 192.0.2.1/24 dev up0;"
        "ip route add default via 192.0.2.2",
        shell=True,
        check=True,
    )
    try:
        at, _ = bench.up(1, bench.network())
        assert ip("link", "show", "eth0", netns=at.netns)[0]["mtu"] == 1380
    finally:
        subprocess.run(["ip", "link", "del", "up0"], check=True)


# --- Its end -----------------------------------------------------------------------------------------------------


def test_what_leaves_with_its_namespace_takes_the_interface_along(bench):
    network = bench.network()
    at, result = bench.up(1, network)
    _, other = bench.up(2, network)
    assert pings(plain(result))
    bench.driver.teardown(at._replace(leaving=True), result)
    assert not pings(plain(result))  # at once, though the namespace is still there
    assert pings(plain(other))
    namespaces.delete(Path(at.netns))
    assert gone(port(at))


def test_an_interface_that_is_still_dying_is_no_obstacle(bench):
    network = bench.network()
    at, result = bench.up(1, network)
    for _ in range(5):
        bench.driver.teardown(at._replace(leaving=True), result)
        with open(at.netns):  # keeps the kernel from clearing it
            namespaces.delete(Path(at.netns))
            assert port(at) in devices()
            again = bench.container(1, network)
            result = bench.driver.setup(again)
            bench.driver.check(again, result)
            assert pings(plain(result))
        at = again


def test_torn_down_while_its_namespace_goes_on(bench):
    at, result = bench.up(1, bench.network())
    bench.driver.teardown(at, result)
    assert [one["ifname"] for one in ip("link", netns=at.netns)] == ["lo"]
    result = bench.driver.setup(at)
    bench.driver.check(at, result)


def test_a_lost_record_does_not_save_the_interface(bench):
    at, result = bench.up(1, bench.network())
    bench.driver._store.forget(at.container_id, at.network.id)
    bench.driver.teardown(at, result)
    assert port(at) not in devices()


def test_somebody_elses_interface_is_left_alone(bench):
    at = bench.container(1, bench.network())
    subprocess.run(["ip", "link", "add", port(at), "type", "bridge"], check=True)
    try:
        bench.driver.teardown(at, None)
        assert port(at) in devices()
        subprocess.run(["ip", "link", "set", port(at), "alias", "mine"], check=True)
        with pytest.raises(DriverError, match="cannot connect container 'c1' to network 'front': File exists"):
            bench.driver.setup(at)
        assert ip("link", "show", port(at))[0]["ifalias"] == "mine"
    finally:
        subprocess.run(["ip", "link", "del", port(at)], check=True)


def test_no_network_means_all_of_them(bench):
    front, back = bench.network("front"), bench.network("back")
    at, _ = bench.up(1, front)
    other = at._replace(network=back, number=1)
    bench.driver.setup(other)
    with pytest.raises(InvalidArgument, match="'c1' is to be on a bridge, and no network is named"):
        bench.driver.setup(at._replace(network=None))
    bench.driver.teardown(at._replace(network=None), None)
    assert not {port(at), port(other)} & devices()
    assert bench.driver._store.all() == []


def test_a_setup_without_a_namespace_leaves_nothing(bench):
    network = bench.network()
    bench.up(1, network)
    before = devices()
    for netns, message in (
        (None, "no network namespace"),
        ("/nosuch", "/nosuch cannot be opened"),
        ("/dev/null", "c2"),
    ):
        at = bench.container(2, network)._replace(netns=netns)
        with pytest.raises(Exception, match=message):
            bench.driver.setup(at)
        bench.driver.teardown(at, None)
        assert devices() == before
    assert [one.name for one in bench.driver._store.all()] == ["c1"]


def test_a_bridge_is_full(bench):
    network = bench.network()
    at, result = bench.up(1, network)
    before = devices()
    with filled(network.interface, bench.directory / "filler", 1022):
        full = devices()
        late = bench.container(2, network)
        with pytest.raises(
            FailedPrecondition, match="network 'front' is full: a bridge has at most 1023 containers"
        ) as no:
            bench.driver.setup(late)
        assert "another network" in no.value.hint
        bench.driver.teardown(late, None)
        assert devices() == full
        assert bench.driver._store.count(network.id) == 1
        subprocess.run(["ip", "link", "del", "fa0"], check=True)
        bench.driver.check(late, bench.driver.setup(late))
        bench.driver.check(at, result)
        bench.driver.teardown(late, None)
    assert devices() == before


@contextlib.contextmanager
def filled(bridge, pin, ports):
    """Give a bridge more ports, whose other ends are in a namespace: that it goes is the quickest end of them."""
    namespaces.create(pin)
    make = "".join(f"link add fa{n} master {bridge} type veth peer name fb{n} netns {pin}\n" for n in range(ports))
    try:
        subprocess.run(["ip", "-batch", "-"], check=True, text=True, input=make)
        yield
    finally:
        namespaces.delete(pin)
        assert all(gone(f"fa{n}") for n in range(ports))


# --- Drift -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inside", "command", "message"),
    [
        (True, "ip addr del {ip} dev eth0", "expected the address .* on eth0, found none"),
        (True, "ip -6 addr del {ip6} dev eth0", "expected the address .* on eth0, found fe80"),
        (True, "ip link set eth0 down", "expected the interface eth0 up"),
        (
            True,
            "ip link set eth0 address 02:00:00:00:00:01",
            "expected the hardware address .*, found 02:00:00:00:00:01",
        ),
        (True, "ip route del default", "expected a default route by 10.* in the container, found fd"),
        (False, "ip link del {port}", "expected the interface pr.* on the host, found none"),
        (False, "ip link set {port} down", "expected the interface pr.* up, found it is down"),
        (False, "ip link set {port} nomaster", "expected pr.* to be a port of the bridge"),
        (False, "ip addr del {gateway} dev {bridge}", "expected the address .* on pr-"),
        (False, "ip link set {bridge} down", "expected the interface pr-.* up"),
        (False, "ip link set {bridge} alias mine", "expected the bridge .* found somebody else's"),
        (False, "ip link del {bridge}", "expected the bridge pr-.* of network 'front', found none"),
    ],
)
def test_drift_is_named(bench, inside, command, message):
    network = bench.network(ipv6=True)
    at, result = bench.up(1, network)
    bench.driver.check(at, result)
    words = command.format(
        ip=result.addresses[0],
        ip6=result.addresses[1],
        port=port(at),
        bridge=network.interface,
        gateway=f"{network.subnets[0].gateway}/20",
    ).split()
    subprocess.run([*(["nsenter", f"--net={at.netns}"] if inside else []), *words], check=True)
    with pytest.raises(Drift, match=message):
        bench.driver.check(at, result)
    subprocess.run(
        ["ip", "link", "set", network.interface, "alias", bench.driver._bridges.alias(network.id)], check=False
    )


def test_a_lost_record_is_drift(bench):
    at, result = bench.up(1, bench.network())
    with pytest.raises(Drift, match=r"expected the addresses 10\.9\.9\.9/24"):
        bench.driver.check(at, result._replace(addresses=("10.9.9.9/24",)))
    bench.driver._store.forget(at.container_id, at.network.id)
    with pytest.raises(Drift, match="expected a record of the container on network 'front', found none"):
        bench.driver.check(at, result)


# --- Crashes, many at once ---------------------------------------------------------------------------------------


def test_whatever_a_crash_leaves_is_collected(bench):
    """The process is killed at every step of a setup; what is left is found without it."""
    network = bench.network()
    bench.up(1, network)
    before = devices()
    kept = frozenset({f"{1:08x}" * 8})
    for step in (
        "bridges.intact",
        "table.ensure",
        "ipam.lease",
        "endpoints._make_pair",
        "inside.run",
        "links.set_link",
    ):
        at = bench.container(2, network)
        pid = in_child(lambda step=step, at=at: (die_at(step), BridgeDriver(bench.state).setup(at)))
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL, step
        bench.again().gc(kept)
        assert devices() == before, step
        assert [one.name for one in bench.driver._store.all()] == ["c1"]
        result = bench.driver.setup(at)
        bench.driver.check(at, result)
        bench.driver.teardown(at, result)


def in_child(work):
    """Run ``work`` in a process of its own and return its id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - shown, and the process ends here
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    return pid


def die_at(step):
    """Have this process killed when it has just done a step."""
    module, name = step.split(".")
    owners = {"bridges": bridges.Bridges, "table": table.Table, "ipam": ipam, "inside": inside, "links": links}
    owner = owners.get(module, endpoints)
    real = getattr(owner, name)

    def then_die(*args, **named):
        real(*args, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, then_die)


def test_many_at_once(bench):
    """From several processes, on a network that none of them has made yet."""
    network = bench.network()
    ats = [bench.container(number, network) for number in range(1, 25)]

    def some(part):
        driver = BridgeDriver(bench.state)
        for at in ats[part::4]:
            driver.setup(at)

    pids = [in_child(lambda part=part: some(part)) for part in range(4)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0, 0]
    found = [one.ip for one in bench.driver._store.of_network(network.id)]
    assert len(set(found)) == len(ats)
    assert all(pings(one) for one in found[::6])


def test_threads_share_a_driver(bench):
    network = bench.network()
    ats = [bench.container(number, network) for number in range(1, 9)]
    results = {}
    threads = [threading.Thread(target=lambda at=at: results.update({at.name: bench.driver.setup(at)})) for at in ats]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at in ats:
        bench.driver.check(at, results[at.name])
    assert len({one.addresses for one in results.values()}) == len(ats)


def test_nothing_is_left_open(bench):
    at, result = bench.up(1, bench.network(ipv6=True))
    before = descriptors(), threading.active_count(), os.stat("/proc/thread-self/ns/net").st_ino
    for _ in range(10):
        bench.driver.check(at, result)
        bench.driver.teardown(at, result)
        result = bench.driver.setup(at)
        bench.driver.reload()
    assert (descriptors(), threading.active_count(), os.stat("/proc/thread-self/ns/net").st_ino) == before


def test_two_engines_leave_each_other_alone(bench, tmp_path):
    (tmp_path / "other").mkdir()
    other = Bench(tmp_path / "other")
    try:
        at, result = bench.up(1, bench.network())
        network = other.network("front", options={"name": "pr-cccc"})
        assert network.subnets != at.network.subnets  # by the route to it
        at2, result2 = other.up(2, network)
        bench.driver.gc(frozenset({at.container_id}))
        other.driver.check(at2, result2)
        other.driver.gc(frozenset())
        bench.driver.check(at, result)
        with Rtnetlink() as link:
            assert links.find(link, "pr-cccc") is None
    finally:
        other.close()
