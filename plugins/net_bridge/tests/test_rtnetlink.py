from __future__ import annotations

import errno
import os

import pytest

from fixtures.bridge import devices, ip
from plugrun import namespaces
from plugrun_net_bridge import inside, links, probe
from plugrun_net_bridge.rtnetlink import Rtnetlink

pytestmark = pytest.mark.root
MAC = "02:70:00:00:00:01"


@pytest.fixture
def link():
    with Rtnetlink() as link:
        yield link
        for name in ("tbr0", "tbr1", "tve0"):
            if name in devices():
                link.send(links.delete_link(name))


@pytest.fixture
def netns(tmp_path):
    pin = tmp_path / "netns"
    namespaces.create(pin)
    with inside.opened(str(pin)) as descriptor:
        yield descriptor, str(pin)
    namespaces.delete(pin)


def test_makes_what_ip_shows(link):
    link.send(links.new_link("tbr0", "bridge", MAC, 1400), links.set_link("tbr0", alias="for a test", up=True))
    (shown,) = ip("-details", "link", "show", "tbr0")
    assert (shown["address"], shown["mtu"], shown["ifalias"]) == (MAC, 1400, "for a test")
    assert shown["linkinfo"]["info_kind"] == "bridge"
    assert "UP" in shown["flags"]
    found = links.find(link, "tbr0")
    assert found == links.Link(shown["ifindex"], "tbr0", True, 1400, 0, "for a test", MAC, "bridge")
    assert links.by_index(link, shown["ifindex"]) == found
    assert found in links.all_links(link)


def test_addresses_and_routes(link):
    link.send(links.new_link("tbr0", "bridge", MAC), links.set_link("tbr0", up=True))
    index = links.find(link, "tbr0").number
    link.send(links.new_address(index, "10.9.0.1/24"), links.new_address(index, "fd00:9::1/64"))
    link.send(links.default_route(index, "10.9.0.7", 105), links.default_route(index, "fd00:9::7", 106))
    assert {"10.9.0.1/24", "fd00:9::1/64"} <= links.addresses(link, index)
    assert links.addresses(link, 1) == {"127.0.0.1/8", "::1/128"}
    (shown,) = ip("address", "show", "tbr0")
    assert shown["addr_info"][0]["broadcast"] == "10.9.0.255"
    assert not any("tentative" in one for one in shown["addr_info"])
    routes = links.routes(link)
    assert links.Route("10.9.0.0/24", "", index, 0) in routes
    assert links.Route("0.0.0.0/0", "10.9.0.7", index, 105) in routes
    assert links.Route("::/0", "fd00:9::7", index, 106) in routes
    assert ip("route", "show", "default")[0]["gateway"] == "10.9.0.7"


def test_a_pair_is_made_into_another_namespace(link, netns):
    descriptor, path = netns
    link.send(links.new_link("tbr0", "bridge", MAC))
    bridge = links.find(link, "tbr0")
    link.send(links.new_veth("tve0", "eth5", netns=descriptor, master=bridge.number, mtu=1300, mac="02:70:00:00:00:05"))
    assert links.find(link, "tve0").master == bridge.number
    (shown,) = ip("link", "show", "eth5", netns=path)
    assert (shown["mtu"], shown["address"]) == (1300, "02:70:00:00:00:05")
    assert "eth5" not in devices()


def test_errors_have_number_and_words(link):
    with pytest.raises(OSError, match="No such device") as refused:
        link.send(links.set_link("nosuch0", up=True))
    assert refused.value.errno == errno.ENODEV
    link.send(links.new_link("tbr0", "bridge", MAC))
    with pytest.raises(FileExistsError):
        link.send(links.new_link("tbr0", "bridge", MAC))
    with pytest.raises(OSError, match=r"\(.*gateway.*\)"):  # the kernel's own words
        link.send(links.default_route(links.find(link, "tbr0").number, "10.9.0.7", 1))


def test_the_first_failure_of_several_is_told_and_the_others_are_tried(link):
    with pytest.raises(FileExistsError):
        link.send(
            links.new_link("tbr0", "bridge", MAC),
            links.new_link("tbr0", "bridge", MAC),
            links.set_link("nosuch0", up=True),
            links.new_link("tbr1", "bridge", MAC),
        )
    assert {"tbr0", "tbr1"} <= devices()
    assert links.find(link, "tbr1").name == "tbr1"  # the answers before were all read


def test_what_is_not_there(link):
    assert links.find(link, "nosuch0") is None
    assert links.by_index(link, 99999) is None


def test_lists_longer_than_one_datagram(link):
    link.send(links.new_link("tbr0", "bridge", MAC), links.set_link("tbr0", up=True))
    index = links.find(link, "tbr0").number
    link.send(links.new_address(index, "10.9.0.1/24"))
    wanted = [f"10.10.{number // 256}.{number % 256}" for number in range(2000)]
    link.send(*(links.new_address(index, f"{one}/32") for one in wanted[:200]))
    link.send(*(links.new_address(index, f"{one}/32") for one in wanted[200:400]))
    assert links.addresses(link, index) >= {f"{one}/32" for one in wanted[:400]}


def test_work_inside_leaves_the_caller_where_it_was(netns):
    descriptor, path = netns
    before = os.stat("/proc/thread-self/ns/net").st_ino
    there = inside.run(descriptor, lambda: os.stat("/proc/thread-self/ns/net").st_ino)
    assert there == os.stat(path).st_ino != before
    with pytest.raises(ZeroDivisionError):
        inside.run(descriptor, lambda: 1 // 0)
    with open("/dev/null") as other, pytest.raises(OSError, match="Invalid argument"):
        inside.run(other.fileno(), lambda: pytest.fail("ran in no namespace"))
    assert os.stat("/proc/thread-self/ns/net").st_ino == before


# --- The probe ---------------------------------------------------------------------------------------------------


def test_the_probe_finds_everything_and_makes_nothing():
    before = devices()
    assert probe.probe() is None
    assert devices() == before


def test_the_probe_says_what_is_missing(link, monkeypatch):
    assert probe._try(link, "nosuchkind") == errno.EOPNOTSUPP  # what a kernel without bridges answers
    monkeypatch.setattr(probe, "_try", lambda _link, kind: errno.EOPNOTSUPP if kind == "veth" else 0)
    assert probe.probe() == "the kernel has no veth interfaces (CONFIG_VETH); use --net host"
    monkeypatch.setattr(probe, "_try", lambda _link, _kind: errno.EPERM)
    assert "CAP_NET_ADMIN" in probe.probe()
    monkeypatch.undo()
    monkeypatch.setattr(probe, "_LIBRARY", "libnosuch.so.1")
    assert probe.probe() == "libnosuch.so.1 is not installed; install the Debian package libnftables1"
    monkeypatch.setattr(probe, "_GET_GENERATION", 200 << 8)  # a part of netfilter that no kernel has
    assert "the kernel has no nftables" in probe.probe()


def test_the_probe_says_that_it_needs_rights():
    pid = os.fork()
    if pid == 0:
        os.setresuid(65534, 65534, 65534)
        os._exit(0 if "CAP_NET_ADMIN" in str(probe.probe()) else 1)
    assert os.waitpid(pid, 0)[1] == 0
