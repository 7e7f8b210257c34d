from __future__ import annotations

import pytest

from plugrun.api import Attachment, FailedPrecondition, InvalidArgument, Network, Subnet
from plugrun_net_bridge import ipam
from plugrun_net_bridge.store import Store

SMALL = Subnet("10.1.0.0/29", "10.1.0.1")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "state.db")


def network(store, *subnets):
    made = Network("a" * 64, "front", "bridge", subnets)
    store.add_network(made)
    return made


def container(number, **more):
    return Attachment(f"{number:064x}", "h", None, name=f"c{number}", **more)


def lease(store, on, number, **more):
    with store.transaction():
        return ipam.lease(store, container(number, **more), on)


def test_addresses_are_given_in_turn_and_not_again_at_once(store):
    on = network(store, SMALL)
    assert [lease(store, on, number).ip for number in range(3)] == ["10.1.0.2", "10.1.0.3", "10.1.0.4"]
    store.forget(f"{2:064x}", on.id)
    assert lease(store, on, 3).ip == "10.1.0.5"
    assert lease(store, on, 4).ip == "10.1.0.6"
    assert lease(store, on, 5).ip == "10.1.0.4"  # all around, to the one that is free


def test_every_address_is_given_before_there_is_none(store):
    on = network(store, Subnet("10.1.0.0/29", "10.1.0.3"))
    found = [lease(store, on, number).ip for number in range(5)]
    assert found == ["10.1.0.1", "10.1.0.2", "10.1.0.4", "10.1.0.5", "10.1.0.6"]
    with pytest.raises(FailedPrecondition, match=r"network 'front' has no address left in 10\.1\.0\.0/29") as refused:
        lease(store, on, 9)
    assert "--subnet" in str(refused.value.hint)
    assert len(store.of_network(on.id)) == 5


def test_two_addresses_are_one_for_a_container(store):
    on = network(store, Subnet("10.1.0.0/31", "10.1.0.0"))
    assert lease(store, on, 1).ip == "10.1.0.1"
    with pytest.raises(FailedPrecondition, match="no address left"):
        lease(store, on, 2)


def test_a_range_bounds_what_is_given_but_not_what_is_asked_for(store):
    on = network(store, Subnet("10.1.0.0/24", "10.1.0.1", "10.1.0.254/31"))
    assert lease(store, on, 1).ip == "10.1.0.254"
    with pytest.raises(FailedPrecondition, match=r"no address left in 10\.1\.0\.254/31"):  # not everybody's
        lease(store, on, 2)
    assert lease(store, on, 3, ip="10.1.0.7").ip == "10.1.0.7"


def test_both_kinds(store):
    on = network(store, SMALL, Subnet("fd00::/64", "fd00::1"))
    found = [lease(store, on, number) for number in range(2)]
    assert [(one.ip, one.ip6) for one in found] == [("10.1.0.2", "fd00::2"), ("10.1.0.3", "fd00::3")]
    assert ipam.with_prefix("fd00::3", on) == "fd00::3/64"
    assert ipam.with_prefix("10.1.0.3", on) == "10.1.0.3/29"


def test_a_range_far_up_in_a_large_subnet(store):
    on = network(store, Subnet("fd00::/48", "fd00::1", "fd00:0:0:ffff:ffff::/80"))
    assert [lease(store, on, number).ip6 for number in range(2)] == ["fd00:0:0:ffff:ffff::", "fd00::ffff:ffff:0:0:1"]


def test_an_address_that_is_asked_for(store):
    on = network(store, SMALL, Subnet("fd00::/64", "fd00::1"))
    got = lease(store, on, 1, ip="10.1.0.5", ip6="FD00:0::99", mac="02-AA-bb-CC-dd-EE")
    assert (got.ip, got.ip6, got.mac) == ("10.1.0.5", "fd00::99", "02:aa:bb:cc:dd:ee")
    assert lease(store, on, 2).ip == "10.1.0.2"  # goes on where it was


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"ip": "10.2.0.1"}, "the address 10.2.0.1 is not in 10.1.0.0/29, the subnet of network 'front'"),
        ({"ip": "10.1.0.0"}, "no container can have the address 10.1.0.0"),
        ({"ip": "10.1.0.7"}, "no container can have the address 10.1.0.7"),
        ({"ip": "10.1.0.1"}, "the address 10.1.0.1 is the gateway of network 'front'"),
        ({"ip": "web"}, "'web' is no IP address"),
        ({"ip": "fd00::5"}, "the address fd00::5 is not in 10.1.0.0/29"),
        ({"ip6": "fd00::5"}, "the address fd00::5 cannot be had: network 'front' has no IPv6 subnet"),
        ({"mac": "02:aa"}, "'02:aa' is no hardware address of one interface"),
        ({"mac": "01:00:5e:00:00:01"}, "'01:00:5e:00:00:01' is no hardware address"),
        ({"mac": "00:00:00:00:00:00"}, "'00:00:00:00:00:00' is no hardware address"),
        ({"mac": "zz:00:00:00:00:01"}, "'zz:00:00:00:00:01' is no hardware address"),
    ],
)
def test_refuses_what_makes_no_sense(store, more, message):
    on = network(store, SMALL)
    with pytest.raises(InvalidArgument) as refused:
        lease(store, on, 1, **more)
    assert message in str(refused.value)
    assert store.of_network(on.id) == []


def test_names_the_container_that_has_an_address(store):
    on = network(store, SMALL, Subnet("fd00::/64", "fd00::1"))
    lease(store, on, 1, ip="10.1.0.5", ip6="fd00::5")
    for more in ({"ip": "10.1.0.5"}, {"ip6": "fd00::5"}):
        with pytest.raises(FailedPrecondition, match="is in use by container 'c1'"):
            lease(store, on, 2, **more)
    assert [one.name for one in store.of_network(on.id)] == ["c1"]


def test_an_interface_has_one_network(store):
    on = network(store, SMALL)
    other = on._replace(id="b" * 64)
    lease(store, on, 1)
    with pytest.raises(InvalidArgument, match="container 'c1' has an interface eth0 already"):
        lease(store, other, 1)
    with store.transaction():
        ipam.lease(store, container(1)._replace(number=1), other)


def test_the_hardware_address_follows_the_address(store):
    on = network(store, SMALL)
    first = lease(store, on, 1)
    assert first.mac == "02:70:0a:01:00:02"
    assert lease(store, on, 2).mac != first.mac


def test_networks_do_not_share_their_addresses(store):
    on = network(store, SMALL)
    other = on._replace(id="b" * 64)
    store.add_network(other)
    assert lease(store, on, 1).ip == lease(store, other, 2).ip == "10.1.0.2"


def test_a_full_network_is_searched_once(store):
    on = network(store, Subnet("10.1.0.0/20", "10.1.0.1"))
    for number in range(1000):
        lease(store, on, number)
    with store.transaction():
        store.set_next_given(on.id, 0, 0)
    asked = []
    store._database.execute("SELECT 1")
    store._database._connection.set_trace_callback(asked.append)
    assert lease(store, on, 2000).ip == "10.1.3.234"
    assert len(asked) < 15
