"""Names on users' networks: by the resolver where there is one, and by /etc/hosts where there is none."""

from __future__ import annotations

import os
import socket
import time

import pytest

from plugrun import networks
from plugrun.api import InvalidArgument
from plugrun.lifecycle import connect as connecting
from plugrun.lifecycle.create import create
from plugrun.request import ContainerRequest, NetworkChoice

pytestmark = pytest.mark.root


@pytest.fixture
def nobody_resolves():
    """Have port 53 of every address taken, so that no resolver can listen."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 53))
        yield


@pytest.fixture
def network(engine):
    """Make networks."""

    def make(name, **options):
        networks.create(engine, name, driver="bridge", **options)
        return name

    return make


def box(plugrun, name, *options):
    return plugrun("run", "-d", "--name", name, *options, "busybox", "sleep", "1000").ok()


def hosts(plugrun, name):
    """Return name → address, as a container's /etc/hosts has them; the first line with a name counts."""
    found = {}
    for line in plugrun("exec", name, "cat", "/etc/hosts").ok().stdout.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        for one in names:
            found.setdefault(one, address)
    return found


def address_of(engine, name, network):
    record = engine.containers.find(name)
    (found,) = [one for one in record.endpoints if one.name == network]
    return found.addresses[0].partition("/")[0]


def reaches(plugrun, name, other):
    """Whether a container finds another one by name: nobody listens there, and its kernel says so."""
    return "Connection refused" in plugrun("exec", name, "nc", "-w", "2", other, "9").stderr


def test_without_a_resolver_containers_have_each_other_in_their_hosts(
    plugrun, engine, busybox, network, nobody_resolves
):
    net = network("shop")
    first = box(plugrun, "web", "--net", net)
    second = box(plugrun, "db", "--net", net)
    assert first.stderr.count("no resolver knows the names on network shop") == 1
    assert "another program listens at port 53" in first.stderr
    assert "no resolver" not in second.stderr
    for one, other in (("web", "db"), ("db", "web")):
        found = hosts(plugrun, one)
        assert found[other] == found[engine.containers.find(other).short_id] == address_of(engine, other, net)
        assert found[one] == address_of(engine, one, net)
        assert reaches(plugrun, one, other)
    plugrun("stop", "-t", "0", "db").ok()
    assert "db" not in hosts(plugrun, "web")
    assert not reaches(plugrun, "web", "db")
    plugrun("start", "db").ok()
    assert reaches(plugrun, "web", "db")
    assert reaches(plugrun, "db", "web")
    plugrun("rm", "-f", "web").ok()
    assert "web" not in hosts(plugrun, "db")
    assert os.listdir(engine.paths.hosts(engine.networks.find(net).network.id)) == [engine.containers.find("db").id]


def test_one_that_ends_by_itself_goes_too(plugrun, engine, busybox, network, nobody_resolves):
    net = network("shop")
    box(plugrun, "web", "--net", net)
    plugrun("run", "-d", "--name", "short", "--net", net, "busybox", "sleep", "0.5").ok()
    deadline = time.monotonic() + 20
    while "short" in hosts(plugrun, "web"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_with_a_resolver_nobody_is_in_anybodys_hosts(plugrun, engine, busybox, network):
    net = network("shop")
    said = [box(plugrun, name, "--net", net).stderr for name in ("web", "db")]
    assert said == ["", ""]
    assert "db" not in hosts(plugrun, "web")
    assert reaches(plugrun, "web", "db")
    assert reaches(plugrun, "web", "DB")
    assert not (engine.paths.run_root / "hosts").exists()


def test_on_the_default_network_nobody_has_a_name(plugrun, engine, busybox, network, nobody_resolves):
    network("other")  # so that the fixture removes what is left on the host
    for name in ("web", "db"):
        assert box(plugrun, name, "--net", "bridge").stderr == ""
    assert "db" not in hosts(plugrun, "web")
    assert not reaches(plugrun, "web", "db")
    assert reaches(plugrun, "web", address_of(engine, "db", "bridge"))


@pytest.mark.parametrize("resolved", [True, False])
def test_names_follow_a_container_that_is_connected_and_disconnected(
    plugrun, engine, busybox, network, resolved, request
):
    if not resolved:
        request.getfixturevalue("nobody_resolves")
    one, two = network("one"), network("two")
    box(plugrun, "web", "--net", one)
    box(plugrun, "db", "--net", two)
    assert not reaches(plugrun, "web", "db")
    connecting.connect(engine, engine.containers.find("web"), NetworkChoice(two, aliases=("shop",)))
    assert reaches(plugrun, "web", "db")
    for name in ("web", "shop"):
        assert reaches(plugrun, "db", name)
    if not resolved:
        assert hosts(plugrun, "db")["shop"] == address_of(engine, "web", two)
    connecting.disconnect(engine, engine.containers.find("web"), two)
    assert not reaches(plugrun, "web", "db")
    assert not reaches(plugrun, "db", "web")
    assert not {"web", "shop"} & set(hosts(plugrun, "db"))
    marks = [path.name for path in engine.paths.run_root.glob("hosts/*/*")]
    assert len(marks) == (0 if resolved else 2)


def test_one_on_the_default_network_learns_names_when_it_is_connected(plugrun, engine, busybox, network):
    net = network("shop")
    box(plugrun, "web", "--net", "bridge")
    box(plugrun, "db", "--net", net)
    before = plugrun("exec", "web", "cat", "/etc/resolv.conf").ok().stdout
    connecting.connect(engine, engine.containers.find("web"), NetworkChoice(net))
    assert reaches(plugrun, "web", "db")
    assert reaches(plugrun, "db", "web")
    connecting.disconnect(engine, engine.containers.find("web"), net)
    assert plugrun("exec", "web", "cat", "/etc/resolv.conf").ok().stdout == before


def test_one_with_resolvers_of_its_own_still_knows_the_others(plugrun, engine, busybox, network):
    """``--dns`` replaces the network's resolver; the names of containers come from /etc/hosts then."""
    net = network("shop")
    box(plugrun, "db", "--net", net)
    request = ContainerRequest(
        image="busybox", name="web", command=["sleep", "1000"], networks=(NetworkChoice(net),), dns=("192.0.2.1",)
    )
    create(engine, request)
    assert plugrun("start", "web").ok().stderr == ""
    assert plugrun("exec", "web", "cat", "/etc/resolv.conf").ok().stdout == "nameserver 192.0.2.1\n"
    assert reaches(plugrun, "web", "db")
    box(plugrun, "late", "--net", net)
    assert reaches(plugrun, "web", "late")
    assert "late" not in hosts(plugrun, "db")


def test_what_was_edited_in_the_container_stays(plugrun, engine, busybox, network, nobody_resolves):
    net = network("shop")
    box(plugrun, "web", "--net", net)
    plugrun("exec", "web", "sh", "-c", "echo 192.0.2.9 mine >> /etc/hosts").ok()
    box(plugrun, "db", "--net", net)
    found = hosts(plugrun, "web")
    assert (found["mine"], found["db"]) == ("192.0.2.9", address_of(engine, "db", net))


def test_many_that_start_at_once_all_find_each_other(plugrun, engine, busybox, network, nobody_resolves):
    import subprocess

    net = network("shop")
    names = [f"c{number}" for number in range(6)]
    started = [
        subprocess.Popen(plugrun.argv("run", "-d", "--name", name, "--net", net, "busybox", "sleep", "1000"))
        for name in names
    ]
    assert [process.wait(timeout=60) for process in started] == [0] * len(names)
    for name in names:
        assert set(names) <= set(hosts(plugrun, name))


def test_one_that_shares_a_network_shares_the_names(plugrun, engine, busybox, network, nobody_resolves):
    net = network("shop")
    box(plugrun, "web", "--net", net)
    box(plugrun, "side", "--net", "container:web")
    box(plugrun, "third", "--net", "container:side")
    box(plugrun, "db", "--net", net)
    for name in ("side", "third"):
        assert reaches(plugrun, name, "db")
        for file in ("hosts", "resolv.conf"):
            shown = [plugrun("exec", one, "cat", f"/etc/{file}").ok().stdout for one in ("web", name)]
            assert shown[0] == shown[1]
        hostname = plugrun("exec", name, "cat", "/etc/hostname").ok().line
        assert hostname == engine.containers.find(name).config.hostname
    request = ContainerRequest(image="busybox", networks=(NetworkChoice("container:web"),), dns=("192.0.2.1",))
    with pytest.raises(InvalidArgument, match="shares its names and resolvers too"):
        create(engine, request)


@pytest.mark.parametrize(
    "wrong", [{"dns": ("x",)}, {"dns_search": ("a b",)}, {"dns_options": ("",)}, {"extra_hosts": (("a", "b"),)}]
)
def test_nonsense_is_refused_before_anything_is_made(plugrun, engine, busybox, wrong):
    with pytest.raises(InvalidArgument):
        create(engine, ContainerRequest(image="busybox", command=["true"], networks=(NetworkChoice("none"),), **wrong))
    assert engine.containers.all() == []
