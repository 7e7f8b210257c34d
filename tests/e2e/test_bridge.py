"""The bridge driver as users see it: addresses, several networks, shared ones, ports that come and go, bad input."""

from __future__ import annotations

import errno
import json
import subprocess

import pytest

from e2e.refusals import assert_refused
from fixtures.names import AAAA, resolve
from fixtures.network import HOST, HOST6
from fixtures.probes import REFUSED, Server, ask, listen, who
from matrix.cells import same

pytestmark = pytest.mark.root


@pytest.fixture
def plugrun(shared_plugrun):
    yield shared_plugrun
    shared_plugrun.remove_all()


@pytest.fixture
def front(plugrun):
    """A network of known addresses."""
    plugrun("network", "create", "--subnet", "10.90.0.0/24", "--subnet", "fd90::/64", "front").ok()
    return "front"


# --- Addresses ------------------------------------------------------------------------------------------------------


def test_chosen_addresses_are_kept_over_a_restart(plugrun, front):
    options = ("--ip", "10.90.0.77", "--ip6", "fd90::77", "--mac-address", "02:00:00:00:00:77")
    place = plugrun.start("web", "--net", front, *options)
    for _ in range(2):
        assert place.addresses() == {4: "10.90.0.77", 6: "fd90::77"}
        assert place.mac("eth0").hex(":") == "02:00:00:00:00:77"
        plugrun("stop", "-t", "0", "web").ok()
        plugrun("start", "web").ok()
        place = plugrun.place("web")


def test_addresses_come_from_the_range_until_it_is_used_up(plugrun):
    plugrun("network", "create", "--subnet", "10.91.0.0/24", "--ip-range", "10.91.0.128/31", "tiny").ok()
    found = set()
    for name in ("one", "two"):
        found |= set(plugrun.start(name, "--net", "tiny").addresses().values())
    assert found == {"10.91.0.128", "10.91.0.129"}
    refused = plugrun("run", "--name", "three", "--net", "tiny", "busybox", "true")
    assert_refused(refused, 125, "no address left in 10.91.0.128/31")
    plugrun("rm", "-f", "one", "three")
    assert set(plugrun.start("four", "--net", "tiny").addresses().values()) < found


def test_a_network_without_ipv6_has_none_at_all(plugrun):
    """CVE-2024-32473."""
    plugrun("network", "create", "four").ok()
    plugrun("network", "create", "--ipv6", "both").ok()
    four, both = plugrun.start("web", "--net", "four"), plugrun.start("other", "--net", "both")
    assert "inet6" not in four.run("ip", "addr", "show", "dev", "eth0")
    shown = both.run("ip", "addr", "show", "dev", "eth0")
    assert "inet6" in shown, "the control"
    assert "tentative" not in shown, "IPv6 works only later"


def test_one_container_on_several_networks(plugrun, front):
    plugrun("network", "create", "back").ok()
    place = plugrun.start("web", "--net", front, "--net", "back")
    peer = plugrun.start("peer", "--net", "back")
    assert place.devices() - {"lo"} == {"eth0", "eth1"}
    with Server(place, 80):
        assert who(ask(peer, "tcp", place.addresses("eth1")[4], 80)) == "web"
    assert sum(line.startswith("default") for line in place.routes()) >= 1


# --- Names ------------------------------------------------------------------------------------------------------------


def test_names_are_known_as_soon_as_run_returns(plugrun, front):
    peer = plugrun.start("peer", "--net", front)
    for number in range(2):
        place = plugrun.start(f"web{number}", "--net", front, "--network-alias", f"www{number}")
        for known in (place.name, f"www{number}"):
            assert resolve(peer, "10.90.0.1", known) == place.addresses()[4]
            assert resolve(peer, "10.90.0.1", known, AAAA) == place.addresses()[6]
    plugrun("rm", "-f", "web0").ok()
    assert resolve(peer, "10.90.0.1", "web0") == "NXDOMAIN"


# --- Shared namespaces ------------------------------------------------------------------------------------------------


def test_sharing_a_containers_network_adds_nothing_to_it(plugrun, shared_world, front):
    owner = plugrun.start("web", "--net", front)
    before = (shared_world.host.devices(), owner.run("ip", "addr"), shared_world.ruleset())
    sharer = plugrun.start("side", "--net", "container:web")
    assert same(owner, sharer)
    assert (shared_world.host.devices(), owner.run("ip", "addr"), shared_world.ruleset()) == before
    assert_refused(plugrun("rm", "web"), 1, "web is running")
    plugrun("stop", "-t", "0", "web").ok()
    assert_refused(plugrun("rm", "web"), 1, "web has a network that running containers share: side")
    plugrun("stop", "-t", "0", "side").ok()
    assert_refused(plugrun("start", "side"), 1, "web is not running", "plugrun start web")
    plugrun("start", "web").ok()
    plugrun("start", "side").ok()
    assert same(plugrun.place("web"), plugrun.place("side"))


def test_a_namespace_by_its_path(plugrun, shared_world):
    lan = shared_world.lan
    before = lan.run("ip", "addr")
    place = plugrun.start("probe", "--net", f"ns:{lan.netns}")
    assert same(place, lan)
    assert plugrun("exec", "probe", "wget", "-qO-", "http://203.0.113.80").ok().stdout == "site 192.0.2.9\n"
    plugrun("rm", "-f", "probe").ok()
    assert lan.run("ip", "addr") == before
    for path, words in (("/nosuch", "/nosuch"), ("/etc/passwd", "/etc/passwd")):
        assert_refused(plugrun("run", "--rm", "--net", f"ns:{path}", "busybox", "true"), 125, words)


# --- Ports ---------------------------------------------------------------------------------------------------------


def test_ports_come_and_go_while_it_runs(plugrun, shared_world):
    lan = shared_world.lan
    place = plugrun.start("web", "-p", "8080:80")
    with Server(place, 80, 90):
        assert who(ask(lan, "tcp", HOST, 8080)) == "web"
        assert ask(lan, "tcp", HOST, 9090) == REFUSED
        plugrun("port", "add", "web", "9090:90").ok()
        assert who(ask(lan, "tcp", HOST, 9090)) == who(ask(lan, "tcp", HOST, 8080)) == "web"
        plugrun("port", "rm", "web", "8080:80").ok()
        assert ask(lan, "tcp", HOST, 8080) == REFUSED
        assert who(ask(lan, "tcp", HOST, 9090)) == "web"
    plugrun("stop", "-t", "0", "web").ok()
    plugrun("start", "web").ok()
    with Server(plugrun.place("web"), 80, 90):
        assert who(ask(lan, "tcp", HOST, 9090)) == "web"
        assert ask(lan, "tcp", HOST, 8080) == REFUSED
    plugrun("rm", "-f", "web").ok()
    assert ask(lan, "tcp", HOST, 9090) == REFUSED


def test_a_port_of_a_server_on_the_host_stays_its_own(plugrun, shared_world):
    with Server(shared_world.host, 8080, addresses=(HOST, HOST6)):
        for options in (["-p", "8080:80"], ["-p", f"{HOST}:8080:80"], ["-p", "8079-8081:79-81"]):
            assert_refused(
                plugrun("run", "-d", "--name", "web", *options, "busybox", "sleep", "1000"), 125, "8080", "in use"
            )
            plugrun("rm", "-f", "web")
        assert who(ask(shared_world.lan, "tcp", HOST, 8080)) == "host"
        plugrun.start("web", "-p", "198.51.100.1:8080:80")  # nobody listens there
        assert who(ask(shared_world.lan, "tcp", HOST, 8080)) == "host"


def test_a_server_that_comes_later_is_told_that_a_port_is_published(plugrun, shared_world):
    plugrun.start("web", "-p", "8080:80", "-p", "8080:80/udp")
    for protocol in ("tcp", "udp"):
        with pytest.raises(OSError, match="in use") as refused:
            listen(shared_world.host, protocol, "0.0.0.0", 8080)
        assert refused.value.errno == errno.EADDRINUSE
    plugrun("stop", "-t", "0", "web").ok()
    with Server(shared_world.host, 8080, addresses=(HOST,)):
        assert who(ask(shared_world.lan, "tcp", HOST, 8080)) == "host"
        assert_refused(plugrun("start", "web"), 1, "8080", "in use")


def test_whoever_is_moved_to_another_network_is_published_there(plugrun, shared_world, front):
    place = plugrun.start("web", "--net", front, "-p", "8080:80")
    plugrun("network", "create", "back").ok()
    plugrun("network", "connect", "back", "web").ok()
    plugrun("network", "disconnect", front, "web").ok()
    assert place.devices() - {"lo"} == {"eth1"}
    with Server(place, 80):
        assert who(ask(shared_world.lan, "tcp", HOST, 8080)) == "web"


# --- What is shown --------------------------------------------------------------------------------------------------


def test_explain_names_what_there_really_is(plugrun, shared_world, front):
    web = plugrun.start("web", "--net", front, "-p", "8080:80")
    text = plugrun("network", "explain", "web").ok().stdout
    (bridge,) = json.loads(plugrun("network", "inspect", front).ok().stdout)
    for word in (bridge["Interface"], "eth0", web.addresses()[4], "10.90.0.1", "8080", "wan0"):
        assert word in text, word
    shared_world.load_rules("")
    assert "8080" in plugrun("network", "explain", "web").ok().stdout  # which also brought the rules back, or says so


# --- Bad input ------------------------------------------------------------------------------------------------------

FRONT = ("--net", "front")
BAD_RUNS = {
    "unknown network": (["--net", "nosuch"], ["no network or network driver 'nosuch'", "network create nosuch"]),
    "network twice": ([*FRONT, *FRONT], ["network front is given twice"]),
    "address outside": ([*FRONT, "--ip", "10.99.0.1"], ["10.99.0.1 is not in 10.90.0.0/24"]),
    "address in use": ([*FRONT, "--ip", "10.90.0.50"], ["10.90.0.50 is in use by container 'web'"]),
    "address of the gateway": ([*FRONT, "--ip", "10.90.0.1"], ["10.90.0.1 is the gateway of network 'front'"]),
    "address of the subnet": ([*FRONT, "--ip", "10.90.0.0"], ["10.90.0.0", "stands for the subnet"]),
    "IPv6 address outside": ([*FRONT, "--ip6", "fd91::1"], ["fd91::1 is not in fd90::/64"]),
    "no IPv6 to choose from": (["--net", "four", "--ip6", "fd91::1"], ["network 'four' has no IPv6 subnet"]),
    "address on the host's network": (["--net", "host", "--ip", "10.0.0.1"], ["network host gives no addresses"]),
    "hardware address": ([*FRONT, "--mac-address", "01:00:00:00:00:01"], ["'01:00:00:00:00:01'"]),
    "port in use": (["-p", "8080:80"], ["port 8080/tcp of the host is published by another container"]),
    "port in a range in use": (["-p", "8070-8090:70-90"], ["8080/tcp of the host is published by another container"]),
    "port twice": (["-p", "9000:80", "-p", "9000:81"], ["want the same port 9000 of the host"]),
    "port of no address": (["-p", "203.0.113.80:9000:80"], ["203.0.113.80 is no address of this host"]),
    "port at localhost by IPv6": ([*FRONT, "-p", "[::1]:9000:80"], ["at ::1 on this host; use 127.0.0.1"]),
    "port at an address of another kind": (["-p", f"[{HOST6}]:9000:80"], [HOST6, "the container has no IPv6 address"]),
    "port on an internal network": (["--net", "inside", "-p", "9000:80"], ["inside"]),
    "port of a shared network": (["--net", "container:web", "-p", "9000:80"], ["plugrun port add web"]),
    "port on no network": (["--net", "none", "-p", "9000:80"], ["network none publishes no ports"]),
    "two kinds of network": ([*FRONT, "--net", "host"], ["host cannot be used together with others"]),
    "unknown container": (["--net", "container:nosuch"], ["no such container: nosuch"]),
}  # fmt: skip
BAD_COMMANDS = {
    "rm of a network in use": (["network", "rm", "front"], ["network front is in use by web"]),
    "rm of the default network": (["network", "rm", "bridge"], ["is what --net bridge means"]),
    "connect to a host-networked container": (["network", "connect", "front", "onhost"], ["onhost", "host"]),
    "connect to a sharer": (["network", "connect", "four", "side"], ["side has no network of its own"]),
    "connect twice": (["network", "connect", "front", "web"], ["web is on network front already"]),
    "connect at an address in use": (
        ["network", "connect", "--ip", "10.90.0.50", "front", "other"],
        ["10.90.0.50 is in use by container 'web'"],
    ),
    "subnet of the host": (["network", "create", "--subnet", "192.0.2.0/25", "new"], ["192.0.2.0", "overlaps"]),
    "subnet around the host's": (["network", "create", "--subnet", "192.0.0.0/16", "new"], ["192.0.2.0/24"]),
    "subnet of another network": (["network", "create", "--subnet", "10.90.0.0/16", "new"], ["overlaps", "front"]),
    "IPv6 subnet of another network": (["network", "create", "--subnet", "fd90::/48", "new"], ["overlaps", "front"]),
    "subnet of the host by IPv6": (["network", "create", "--subnet", "2001:db8:1::/80", "new"], ["2001:db8:1::/64"]),
    "port add on the host's network": (["port", "add", "onhost", "9000:80"], ["onhost"]),
    "port add in use": (["port", "add", "other", "8080:81"], ["8080/tcp of the host is published by another"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def busy(shared_world, shared_plugrun):
    """An engine with something of everything."""
    plugrun = shared_plugrun
    plugrun("network", "create", "--subnet", "10.90.0.0/24", "--subnet", "fd90::/64", "front").ok()
    plugrun("network", "create", "four").ok()
    plugrun("network", "create", "--internal", "inside").ok()
    plugrun.start("web", *FRONT, "--ip", "10.90.0.50", "-p", "8080:80")
    plugrun.start("side", "--net", "container:web")
    plugrun.start("onhost", "--net", "host")
    for number, options in enumerate(([], ["--net", "four"], ["--net", "inside"])):  # which makes the bridges
        plugrun.start("other" if not number else f"other{number}", *options)
    yield plugrun, (shared_world.ruleset(), shared_world.host.devices(), plugrun("ps", "-aq").stdout)
    plugrun.remove_all()


def unchanged(plugrun, world):
    return world.ruleset(), world.host.devices(), plugrun("ps", "-aq").stdout


@pytest.mark.parametrize("bad", BAD_RUNS)
def test_containers_that_are_refused(busy, shared_world, bad):
    plugrun, before = busy
    options, words = BAD_RUNS[bad]
    assert_refused(plugrun("run", "--rm", *options, "busybox", "true"), 125, *words)
    assert unchanged(plugrun, shared_world) == before


@pytest.mark.parametrize("bad", BAD_COMMANDS)
def test_commands_that_are_refused(busy, shared_world, bad):
    plugrun, before = busy
    arguments, words = BAD_COMMANDS[bad]
    assert_refused(plugrun(*arguments), 1, *words)
    assert unchanged(plugrun, shared_world) == before


def test_without_nftables_one_line_says_what_to_install(busy, shared_world):
    plugrun, before = busy
    path = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    library = next(line.split()[-1] for line in path.splitlines() if "libnftables.so.1" in line)
    hidden = f'mount --bind /dev/null "$(readlink -f {library})" && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hidden, "sh", *plugrun.argv("run", "--rm", *FRONT, "busybox", "true")],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    *warnings, line = done.stderr.splitlines()  # the warning is about those that run already
    assert (done.returncode, len(warnings)) == (125, 1), done.stderr
    for text in (*warnings, line):
        assert "libnftables.so.1 is not installed; install the Debian package libnftables1" in text
    assert unchanged(plugrun, shared_world) == before
