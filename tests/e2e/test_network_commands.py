"""``plugrun network``, ``plugrun port`` and what else is said of networks, with a driver that has all there is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time

import pytest

import lab_networks
from e2e.refusals import assert_refused
from fixtures.engine import Cli
from plugrun.container import Status
from plugrun.lifecycle.state import is_running

pytestmark = pytest.mark.root


@pytest.fixture
def plugrun(private_root, tmp_path):
    """The program with the driver ``lab`` installed beside the bundled ones."""
    cli = Cli(private_root, lab_networks.install(tmp_path / "site"))
    yield cli
    cli.remove_all()


@pytest.fixture
def run(plugrun, busybox):
    """Start a container that stays: ``run("web", "-p", "80:80")``."""

    def start(name, *options, command=("sleep", "600")):
        return plugrun("run", "-d", "--name", name, *options, busybox, *command).ok().line

    return start


def inspect(plugrun, name, template):
    return json.loads(plugrun("inspect", "-f", f"{{{{json {template}}}}}", name).ok().line)


def names(plugrun, *arguments):
    """Return the names that ``network ls`` shows, without what bundled drivers have."""
    shown = plugrun("network", "ls", "--format", "{{.Driver}} {{.Name}}", *arguments).ok().stdout.splitlines()
    return [line.removeprefix("lab ") for line in shown if line.startswith("lab ")]


# --- The networks themselves --------------------------------------------------------------------------------------


def test_a_network_from_its_making_to_its_end(plugrun):
    made = plugrun("network", "create", "--label", "a=b", "--opt", "colour=red", "--internal", "front").ok()
    assert made.stdout == "front\n"
    [about] = json.loads(plugrun("network", "inspect", "front").ok().stdout)
    assert (about["Name"], about["Driver"], about["Scope"], about["Internal"]) == ("front", "lab", "local", True)
    assert (about["Labels"], about["Options"], about["EnableIPv6"]) == ({"a": "b"}, {"colour": "red"}, False)
    [config] = about["IPAM"]["Config"]
    assert set(config) == {"Subnet", "Gateway"}
    assert inspect(plugrun, "front", ".Id") == about["Id"]
    assert inspect(plugrun, about["Id"][:12], ".Name") == "front"
    assert plugrun("network", "exists", "front").code == 0
    assert plugrun("network", "rm", "front").ok().stdout == "front\n"
    gone = plugrun("network", "exists", "front")
    assert (gone.code, gone.stdout, gone.stderr) == (1, "", "")
    assert_refused(plugrun("network", "rm", "front"), 1, "no such network: front", "plugrun network ls")


def test_addresses_go_to_the_subnet_they_are_in(plugrun):
    plugrun(
        *("network", "create", "--subnet", "fd00:7::/64", "--subnet", "10.7.0.0/24", "--subnet", "10.8.0.0/24"),
        *("--gateway", "10.8.0.254", "--gateway", "fd00:7::ff", "--ip-range", "10.7.0.128/25", "front"),
    ).ok()
    assert inspect(plugrun, "front", ".IPAM.Config") == [
        {"Subnet": "fd00:7::/64", "Gateway": "fd00:7::ff"},
        {"Subnet": "10.7.0.0/24", "IPRange": "10.7.0.128/25", "Gateway": "10.7.0.1"},
        {"Subnet": "10.8.0.0/24", "Gateway": "10.8.0.254"},
    ]
    assert inspect(plugrun, "front", ".EnableIPv6") is True


def test_ls_shows_the_default_network_too(plugrun):
    plugrun("network", "create", "front").ok()
    lines = plugrun("network", "ls", "-f", "driver=lab").ok().stdout.splitlines()
    assert lines[0].split("  ")[0] == "NETWORK ID"
    rows = [line.split() for line in lines[1:]]
    assert [row[1:3] for row in rows] == [["front", "lab"], ["lab", "lab"]]
    assert plugrun("network", "ls", "-q", "-f", "driver=lab").ok().stdout.split() == [row[0] for row in rows]
    whole = plugrun("network", "ls", "-q", "--no-trunc", "-f", "driver=lab").ok().stdout.split()
    assert [len(one) for one in whole] == [64, 64]
    assert [one[:12] for one in whole] == [row[0] for row in rows]


def test_filters_of_ls(plugrun, busybox):
    plugrun("network", "create", "--label", "tier=web", "front").ok()
    plugrun("network", "create", "--label", "tier=db", "back").ok()
    plugrun("create", "--net", "front", busybox).ok()
    assert names(plugrun, "-f", "name=ron") == ["front"]
    assert names(plugrun, "-f", "label=tier=db") == ["back"]
    assert names(plugrun, "-f", "label!=tier=db") == ["front", "lab"]
    assert plugrun("network", "ls", "-q", "-f", "driver=nosuch").ok().stdout == ""
    assert names(plugrun, "-f", "dangling=true") == ["back"]
    assert names(plugrun, "-f", "dangling=false") == ["front", "lab"]
    assert names(plugrun, "-f", f"id={inspect(plugrun, 'back', '.Id')[:5]}") == ["back"]
    assert_refused(plugrun("network", "ls", "-f", "x=y"), 1, "unknown filter 'x=y'", "dangling=true")


def test_prune_leaves_what_is_used_and_what_is_a_drivers(plugrun, busybox):
    for name in ("front", "back", "old"):
        plugrun("network", "create", "--label", f"is={name}", name).ok()
    plugrun("create", "--net", "front", busybox).ok()
    assert "nobody can be asked" in plugrun("network", "prune").stderr
    assert plugrun("network", "prune", "-f", "--filter", "label=is=old").ok().stdout == "Deleted Networks:\nold\n"
    assert plugrun("network", "prune", "-f", "--filter", "until=1h").ok().stdout == ""
    assert plugrun("network", "prune", "-f").ok().stdout == "Deleted Networks:\nback\n"
    assert names(plugrun) == ["front", "lab"]


def test_a_network_in_use_stays(plugrun, busybox):
    plugrun("network", "create", "front").ok()
    plugrun("create", "--name", "web", "--net", "front", busybox).ok()
    assert_refused(plugrun("network", "rm", "front"), 1, "network front is in use by web", "disconnect front web")
    plugrun("network", "disconnect", "front", "web").ok()
    plugrun("network", "rm", "front").ok()


BAD_NETWORKS = {
    "name": (["../x"], ["'../x' cannot be a network name"]),
    "driver": (["--driver", "nosuch", "front"], ["no network driver 'nosuch'"]),
    "driver without networks": (["--driver", "host", "front"], ["'host' has no networks to make"]),
    "name of a driver": (["host"], ["'host' is the name of a network driver"]),
    "subnet": (["--subnet", "x", "front"], ["--subnet 'x' is no subnet", "10.64.0.0/24"]),
    "address as subnet": (["--subnet", "10.7.0.5/24", "front"], ["'10.7.0.5/24' is an address", "10.7.0.0/24?"]),
    "subnet twice": (["--subnet", "10.7.0.0/24", "--subnet", "10.7.0.0/24", "front"], ["'10.7.0.0/24' is given twice"]),
    "gateway without subnet": (["--gateway", "10.7.0.1", "front"], ["--gateway '10.7.0.1' needs the subnet"]),
    "gateway elsewhere": (["--subnet", "10.7.0.0/24", "--gateway", "10.8.0.1", "front"], ["in no subnet of 10.7"]),
    "gateway of another kind": (["--subnet", "10.7.0.0/24", "--gateway", "fd00::1", "front"], ["is in no subnet"]),
    "gateway that is none": (["--subnet", "10.7.0.0/24", "--gateway", "x", "front"], ["'x' is no IP address"]),
    "two gateways": (
        ["--subnet", "10.7.0.0/24", "--gateway", "10.7.0.1", "--gateway", "10.7.0.2", "front"],
        ["subnet 10.7.0.0/24 has two gateways"],
    ),
    "range elsewhere": (["--subnet", "10.7.0.0/24", "--ip-range", "10.7.0.0/16", "front"], ["is in no subnet of"]),
    "two ranges": (
        ["--subnet", "10.7.0.0/24", "--ip-range", "10.7.0.0/25", "--ip-range", "10.7.0.128/25", "front"],
        ["subnet 10.7.0.0/24 has two ranges"],
    ),
    "option": (["--opt", "x=y", "front"], ["no such option: x"]),
    "option without value": (["--opt", "x", "front"], ["--opt 'x' is not KEY=VALUE"]),
    "taken": (["taken"], ["there is a network taken already"]),
    "overlap": (["--subnet", "10.9.0.128/25", "front"], ["10.9.0.128/25 overlaps 10.9.0.0/24"]),
}  # fmt: skip


def test_networks_that_cannot_be_made(plugrun):
    plugrun("network", "create", "--subnet", "10.9.0.0/24", "taken").ok()
    for arguments, words in BAD_NETWORKS.values():
        assert_refused(plugrun("network", "create", *arguments), 1, *words)
        assert names(plugrun, "-f", "dangling=true") == ["taken"]


def test_what_is_no_network_is_said(plugrun):
    assert_refused(plugrun("network", "inspect", "nosuch"), 1, "no such network: nosuch")
    assert_refused(plugrun("network", "inspect", "host"), 1, "network driver 'host' has no networks")
    assert_refused(plugrun("inspect", "nosuch"), 1, "no such container, image, volume or network: nosuch")
    assert_refused(plugrun("inspect", "--type", "x", "nosuch"), 1, "container, image, volume or network")
    assert_refused(plugrun("network", "rm", "lab"), 1, "no such network: lab")
    assert inspect(plugrun, "lab", ".Default") is True
    assert_refused(plugrun("network", "rm", "lab"), 1, "network lab is what --net lab means")


# --- Containers on them -------------------------------------------------------------------------------------------


def test_a_container_on_two_networks_with_its_own_addresses(plugrun, run):
    plugrun("network", "create", "--subnet", "10.7.0.0/24", "--subnet", "fd00:7::/64", "front").ok()
    plugrun("network", "create", "back").ok()
    container = run(
        "web",
        *("--net", "name=front,ip=10.7.0.9,ip6=fd00:7::9,mac-address=02:00:00:00:00:09,alias=www"),
        *("--net", "back:alias=db", "--dns", "10.7.0.1", "--dns-search", "example.com", "--dns-opt", "ndots:2"),
        *("--add-host", "gate:host-gateway", "-p", "127.0.0.1:8080:80", "-p", "53/udp", "-P", "--expose", "81-82"),
    )
    settings = inspect(plugrun, "web", ".NetworkSettings")
    front = settings["Networks"]["front"]
    assert (front["IPAddress"], front["IPPrefixLen"], front["Gateway"]) == ("10.7.0.9", 24, "10.7.0.1")
    assert (front["GlobalIPv6Address"], front["GlobalIPv6PrefixLen"]) == ("fd00:7::9", 64)
    assert (front["IPv6Gateway"], front["MacAddress"]) == ("fd00:7::1", "02:00:00:00:00:09")
    assert (front["Aliases"], front["NetworkID"]) == (["www"], inspect(plugrun, "front", ".Id"))
    assert front["DNSNames"] == ["web", "www", container[:12]]
    assert settings["Networks"]["back"]["Aliases"] == ["db"]
    assert (settings["IPAddress"], settings["MacAddress"]) == ("10.7.0.9", "02:00:00:00:00:09")
    assert settings["Ports"] == {
        "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "40001"}, {"HostIp": "::", "HostPort": "40001"}],
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
        "81/tcp": [{"HostIp": "0.0.0.0", "HostPort": "40002"}, {"HostIp": "::", "HostPort": "40002"}],
        "82/tcp": [{"HostIp": "0.0.0.0", "HostPort": "40003"}, {"HostIp": "::", "HostPort": "40003"}],
    }
    asked = inspect(plugrun, "web", ".HostConfig")
    assert asked["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
        "53/udp": [{"HostIp": "", "HostPort": ""}],
    }
    assert (asked["NetworkMode"], asked["PublishAllPorts"]) == ("front", True)
    assert (asked["Dns"], asked["DnsSearch"], asked["DnsOptions"]) == (["10.7.0.1"], ["example.com"], ["ndots:2"])
    assert asked["ExtraHosts"] == ["gate:host-gateway"]
    assert inspect(plugrun, "web", ".Config.ExposedPorts") == {"81/tcp": {}, "82/tcp": {}}
    assert inspect(plugrun, "front", ".Containers") == {
        container: {
            "Name": "web",
            "MacAddress": "02:00:00:00:00:09",
            "IPv4Address": "10.7.0.9/24",
            "IPv6Address": "fd00:7::9/64",
        }
    }
    plugrun("stop", "-t", "0", "web").ok()
    assert inspect(plugrun, "front", ".Containers") == {}
    assert inspect(plugrun, "web", ".NetworkSettings.Networks.front.IPAddress") == ""
    assert inspect(plugrun, "web", ".NetworkSettings.Ports") == {"81/tcp": None, "82/tcp": None}


def test_connect_and_disconnect_while_it_runs(plugrun, run):
    plugrun("network", "create", "--subnet", "10.7.0.0/24", "back").ok()
    run("web")
    plugrun("network", "connect", "--ip", "10.7.0.8", "--alias", "www", "back", "web").ok()
    assert "10.7.0.8/24" in plugrun("exec", "web", "ip", "addr", "show", "eth1").ok().stdout
    assert inspect(plugrun, "web", ".NetworkSettings.Networks.back.Aliases") == ["www"]
    assert_refused(plugrun("network", "connect", "back", "web"), 1, "is on network back already")
    plugrun("network", "disconnect", "back", "web").ok()
    assert plugrun("exec", "web", "ip", "addr", "show", "eth1").code != 0
    assert_refused(plugrun("network", "disconnect", "back", "web"), 1, "web is not on network back", "it is on: lab")
    plugrun("network", "disconnect", "-f", "back", "web").ok()
    assert_refused(plugrun("network", "connect", "--ip", "x", "back", "web"), 1, "--ip 'x' is no IPv4 address")
    assert_refused(plugrun("network", "connect", "nosuch", "web"), 1, "no network or network driver 'nosuch'")
    assert_refused(plugrun("network", "connect", "back", "nosuch"), 1, "no such container: nosuch")


# --- Ports --------------------------------------------------------------------------------------------------------


def test_ports_are_added_and_removed_while_it_runs(plugrun, run):
    run("web", "-p", "8080:80", "-p", "127.0.0.1:8443:443")
    both = "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n"
    assert plugrun("port", "web").ok().stdout == f"{both}443/tcp -> 127.0.0.1:8443\n"
    assert plugrun("port", "web", "80").ok().stdout == "0.0.0.0:8080\n[::]:8080\n"
    assert plugrun("port", "web", "443/tcp").ok().stdout == "127.0.0.1:8443\n"
    assert plugrun("port", "add", "web", "[::1]:5353:53/udp", "9").ok().stdout == (
        "9/tcp -> 0.0.0.0:40001\n9/tcp -> [::]:40001\n53/udp -> [::1]:5353\n"
    )
    assert plugrun("port", "web", "53/udp").ok().stdout == "[::1]:5353\n"
    assert plugrun("port", "rm", "web", "8080:80", "443").ok().stdout == ""
    assert plugrun("port", "web", "9").ok().stdout == "0.0.0.0:40001\n[::]:40001\n"  # it stays where it was
    assert plugrun("port", "rm", "web", "40001:9").ok().stdout == ""
    assert plugrun("port", "web").ok().stdout == "53/udp -> [::1]:5353\n"
    assert inspect(plugrun, "web", ".HostConfig.PortBindings") == {"53/udp": [{"HostIp": "::1", "HostPort": "5353"}]}
    plugrun("stop", "-t", "0", "web").ok()
    assert plugrun("port", "web").ok().stdout == ""
    plugrun("start", "web").ok()
    assert plugrun("port", "web").ok().stdout == "53/udp -> [::1]:5353\n"


def test_exposed_ports_are_published_on_the_network_that_is_left(plugrun, run):
    plugrun("network", "create", "back").ok()
    run("web", "--expose", "80", "-P")
    assert plugrun("port", "web", "80").ok().stdout
    plugrun("network", "connect", "back", "web").ok()
    plugrun("network", "disconnect", "lab", "web").ok()
    assert plugrun("port", "web", "80").ok().stdout


def test_a_range_goes_as_a_whole(plugrun, run):
    run("web", "-p", "8000-8002:80-82")
    assert plugrun("port", "web").ok().stdout.splitlines()[::2] == [
        f"{port}/tcp -> 0.0.0.0:{port + 7920}" for port in (80, 81, 82)
    ]
    for text in ("8001:81", "81", "9000-9002:80-82", "127.0.0.1:8000-8002:80-82", "80-82/udp"):
        words = [f"port {text} of container web is not published", "published: 0.0.0.0:8000-8002->80-82/tcp"]
        assert_refused(plugrun("port", "rm", "web", text), 1, *words)
    plugrun("port", "rm", "web", "80-82").ok()
    assert plugrun("port", "web").ok().stdout == ""


def test_what_ports_are_refused(plugrun, run):
    run("web", "-p", "8080:80")
    run("other", "-p", "9090:90")
    refusals = {
        ("add", "web", "8080:81"): ["port 8080 of the host leads to 80/tcp of container web already"],
        ("add", "web", "9090:81"): ["port 9090 is in use"],
        ("add", "web", "x"): ["--publish 'x': 'x' is no port"],
        ("rm", "web", "81"): ["port 81 of container web is not published"],
        ("web", "81"): ["port 81/tcp of container web is not published", "plugrun port add web 81/tcp"],
        ("web", "x"): ["'x' is no port", "plugrun port add"],
        ("add", "web"): ["'web' is no port", "plugrun port add CONTAINER"],
        ("nosuch",): ["no such container: nosuch"],
        ("add", "nosuch", "80"): ["no such container: nosuch"],
    }
    for arguments, words in refusals.items():
        assert_refused(plugrun("port", *arguments), 1, *words)
    assert plugrun("port", "web").ok().stdout == "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n"
    assert plugrun("port", "add", "web", "8080:80").ok().stdout == "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n"


def test_a_container_may_be_named_add(plugrun, run):
    run("add", "-p", "8080:80")
    assert plugrun("port", "add", "80").ok().stdout == "0.0.0.0:8080\n[::]:8080\n"
    assert plugrun("port", "add").ok().stdout == "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n"
    plugrun("port", "add", "add", "81:81").ok()
    assert plugrun("port", "add", "81").ok().stdout == "0.0.0.0:81\n[::]:81\n"


def test_ps_shows_ports_when_there_are_some(plugrun, run):
    run("web")
    assert "PORTS" not in plugrun("ps").ok().stdout
    run("other", "-p", "8080:80", "-p", "8000-8001:90-91/udp", "--expose", "80", "--expose", "5432")
    rows = plugrun("ps", "--format", "{{.Names}} {{.Ports}}").ok().stdout.splitlines()
    assert rows == ["other 0.0.0.0:8080->80/tcp, 0.0.0.0:8000-8001->90-91/udp, 5432/tcp", "web "]
    head, first, _ = plugrun("ps").ok().stdout.splitlines()
    assert first[head.index("PORTS") :].startswith("0.0.0.0:8080->80/tcp")
    plugrun("stop", "-t", "0", "other").ok()
    assert "PORTS" not in plugrun("ps", "-a").ok().stdout


# --- The live system ----------------------------------------------------------------------------------------------


def test_reload_says_whether_something_was_missing(plugrun, run):
    run("web")
    assert "lab: nothing was missing; made anew" in plugrun("network", "reload").ok().stdout.splitlines()
    (plugrun.roots.root / "network" / "lab" / "rules").unlink()
    assert plugrun("network", "reload", "web").ok().stdout == "lab: something was missing, and is back\n"
    run("alone", "--net", "none")
    assert plugrun("network", "reload", "alone").ok().stdout == "no network driver has rules to bring back\n"
    assert "lab: nothing was missing; made anew" in plugrun("network", "reload", "--all", "alone").ok().stdout
    assert_refused(plugrun("network", "reload", "nosuch"), 1, "no such container: nosuch")


def test_rules_of_the_bridge_come_back(plugrun, run):
    plugrun("network", "create", "--driver", "bridge", "--subnet", "10.7.0.0/24", "front").ok()
    run("web", "--net", "front", "-p", "8080:80", command=("httpd", "-f", "-p", "80", "-h", "/etc"))
    look = ["wget", "-qO-", "-T", "1", "http://127.0.0.1:8080/hostname"]
    assert subprocess.run(look, check=False, capture_output=True).returncode == 0
    assert "bridge: nothing was missing" in plugrun("network", "reload", "web").ok().stdout
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    assert subprocess.run(look, check=False, capture_output=True).returncode != 0
    assert "network front of web" in plugrun("doctor").stdout
    assert plugrun("network", "reload", "web").ok().stdout == "bridge: something was missing, and is back\n"
    assert subprocess.run(look, check=False, capture_output=True).returncode == 0
    plugrun("rm", "-f", "web").ok()
    plugrun("network", "rm", "front").ok()


def test_explain_lists_the_stations(plugrun, run):
    plugrun("network", "create", "--subnet", "10.7.0.0/24", "front").ok()
    run("web", "--net", "front")
    interface = inspect(plugrun, "front", ".Interface")
    assert plugrun("network", "explain", "web").ok().stdout == (
        "out of the container (network front)\n"
        f"  eth0{' ' * len(interface[4:])}          leaves from 10.7.0.5/24\n"
        f"  {interface}\\x1b[2J   is routed\n"
    )
    [path] = json.loads(plugrun("network", "explain", "--format", "json", "web").ok().stdout)
    assert (path["Network"], path["Title"]) == ("front", "out of the container")
    assert path["Hops"][0] == {"Place": "eth0", "Detail": "leaves from 10.7.0.5/24"}
    plugrun("stop", "-t", "0", "web").ok()
    assert_refused(plugrun("network", "explain", "web"), 1, "container web does not run", "plugrun start web")
    run("alone", "--net", "none")
    assert_refused(plugrun("network", "explain", "alone"), 1, "no network of container alone can say", "none")
    plugrun("start", "web").ok()
    run("guest", "--net", "container:web")
    assert_refused(plugrun("network", "explain", "guest"), 1, "no network of container guest", "explain web")


def test_doctor_names_an_endpoint_that_drifted(plugrun, run):
    run("web")
    assert "as it was set up" in plugrun("doctor").stdout
    pin = inspect(plugrun, "web", ".NetworkSettings.SandboxKey")
    subprocess.run(["nsenter", f"--net={pin}", "ip", "link", "del", "eth0"], check=True)
    report = plugrun("doctor").stdout
    assert "network lab of web" in report
    assert "expected interface eth0, found none: plugrun network reload web" in report
    assert "set up" not in report


def test_doctor_names_an_endpoint_of_a_dead_container(plugrun, run):
    run("web")
    record = killed(plugrun, "web")
    report = plugrun("doctor").stdout
    assert "network lab of web" in report
    assert "the container does not run, and is still connected: plugrun stop web" in report
    plugrun("stop", "web")
    assert "network lab" not in plugrun("doctor").stdout
    assert record.status is Status.RUNNING


def killed(plugrun, name):
    """Kill a container together with its monitor, so that nobody cleans up; return its record."""
    with contextlib.closing(plugrun.engine()) as opened:
        record = opened.containers.find(name)
        for pid in (record.monitor_pid, record.pid):
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while is_running(record):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return opened.containers.find(name)


def test_ports_added_at_once_are_all_there(plugrun, run):
    run("web")
    adding = [
        subprocess.Popen(plugrun.argv("port", "add", "web", f"{port}:80"), env={**os.environ, **plugrun.env})
        for port in range(8001, 8005)
    ]
    assert [process.wait(60) for process in adding] == [0] * 4
    bindings = inspect(plugrun, "web", ".HostConfig.PortBindings")["80/tcp"]
    assert sorted(one["HostPort"] for one in bindings) == ["8001", "8002", "8003", "8004"]
