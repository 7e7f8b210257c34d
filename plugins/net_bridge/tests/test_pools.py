from __future__ import annotations

import pytest

from plugrun.api import FailedPrecondition, InvalidArgument, Network, Subnet
from plugrun_net_bridge import pools


def net(name, *subnets):
    return Network("a" * 64, name, "bridge", tuple(Subnet(one) for one in subnets))


# --- What a user says ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "settled"),
    [
        (Subnet("10.1.0.0/24"), Subnet("10.1.0.0/24", "10.1.0.1")),
        (Subnet("10.1.0.0/24", "10.1.0.254"), Subnet("10.1.0.0/24", "10.1.0.254")),
        (Subnet("10.1.0.0/24", None, "10.1.0.128/25"), Subnet("10.1.0.0/24", "10.1.0.1", "10.1.0.128/25")),
        (Subnet("10.1.0.0/31"), Subnet("10.1.0.0/31", "10.1.0.0")),
        (Subnet("FD00:0:0:1::/64"), Subnet("fd00:0:0:1::/64", "fd00:0:0:1::1")),
        (Subnet("fd00::/127"), Subnet("fd00::/127", "fd00::1")),
    ],
)
def test_settles_what_makes_sense(given, settled):
    assert pools.settle(given) == settled


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        (Subnet("10.1.0.5/24"), "'10.1.0.5/24' has bits set beyond its prefix", "did you mean 10.1.0.0/24"),
        (Subnet("10.1.0/24"), "'10.1.0/24' is no subnet in CIDR notation", "10.200.0.0/24"),
        (Subnet("front"), "'front' is no subnet", "CIDR|10.200"),
        (Subnet(""), "'' is no subnet", "10.200"),
        (Subnet("10.1.0.0/33"), "'10.1.0.0/33' is no subnet", "10.200"),
        (Subnet("fd00::%} flush ruleset; {/64"), "is no subnet", "10.200"),
        (Subnet("fd00::/64", "fd00::1%eth0"), "the gateway 'fd00::1%eth0' is no IP address", None),
        (Subnet("fd00::/64", None, "fd00::%eth0/80"), "'fd00::%eth0/80' is no IP range", "10.200"),
        (Subnet("10.1.0.1"), "10.1.0.1/32 has no room", "larger"),
        (Subnet("127.0.1.0/24"), "127.0.0.0/8 is loopback", "private"),
        (Subnet("0.0.0.0/0"), "0.0.0.0/8 is this host", "private"),
        (Subnet("fe80::/64"), "fe80::/10 is link-local", "private"),
        (Subnet("10.1.0.0/24", "10.2.0.1"), "the gateway 10.2.0.1 is not in the subnet 10.1.0.0/24", None),
        (Subnet("10.1.0.0/24", "gate"), "the gateway 'gate' is no IP address", None),
        (Subnet("10.1.0.0/24", "10.1.0.255"), "cannot be 10.1.0.255", None),
        (Subnet("fd00::/64", "fd00::"), "cannot be fd00::", None),
        (Subnet("10.1.0.0/24", None, "10.2.0.0/25"), "the IP range 10.2.0.0/25 is not in the subnet", None),
        (Subnet("10.1.0.0/24", None, "fd00::/80"), "the IP range fd00::/80 is not in the subnet", None),
        (Subnet("10.1.0.0/24", None, "10.1.0.3/25"), "the IP range '10.1.0.3/25' has bits set", "10.1.0.0/25"),
    ],
)
def test_refuses_what_makes_none(given, message, hint):
    with pytest.raises(InvalidArgument) as refused:
        pools.settle(given)
    assert message in str(refused.value)
    if hint is not None:
        assert any(word in str(refused.value.hint) for word in hint.split("|"))


# --- What is taken ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subnet", "owner"),
    [
        ("10.64.0.0/16", "network 'front' (10.64.0.0/20)"),
        ("10.64.1.0/24", "network 'front' (10.64.0.0/20)"),
        ("192.0.2.128/25", "the host's route to 192.0.2.0/24"),
        ("fd00::/80", "network 'front' (fd00::/64)"),
    ],
)
def test_names_who_has_a_subnet(subnet, owner):
    taken = pools.taken([net("front", "10.64.0.0/20", "fd00::/64")], ["192.0.2.0/24", "10.64.0.0/20"])
    with pytest.raises(FailedPrecondition) as refused:
        pools.refuse_overlap(Subnet(subnet), taken)
    assert str(refused.value) == f"the subnet {subnet} overlaps {owner}"


def test_default_routes_take_nothing():
    taken = pools.taken([], ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0"])
    pools.refuse_overlap(Subnet("10.1.0.0/24"), taken)
    pools.refuse_overlap(Subnet("fd00::/64"), taken)


def test_chooses_the_first_that_is_free():
    assert pools.choose4([]) == Subnet("10.64.0.0/20", "10.64.0.1")
    others = [net("a", "10.64.0.0/20"), net("b", "10.64.32.0/24")]
    assert pools.choose4(pools.taken(others, [])).subnet == "10.64.16.0/20"
    assert pools.choose4(pools.taken(others, ["10.64.16.0/22"])).subnet == "10.64.48.0/20"
    assert pools.choose6("fd12:3456:789a::/48", []) == Subnet("fd12:3456:789a::/64", "fd12:3456:789a::1")
    taken = pools.taken([net("a", "fd12:3456:789a::/64")], [])
    assert pools.choose6("fd12:3456:789a::/48", taken).subnet == "fd12:3456:789a:1::/64"


def test_goes_on_to_another_pool_where_a_vpn_has_one():
    assert pools.choose4(pools.taken([], ["10.0.0.0/8"])).subnet == "172.24.0.0/20"
    assert pools.choose4(pools.taken([], ["10.0.0.0/8", "172.16.0.0/12"])).subnet == "192.168.128.0/20"


def test_says_when_nothing_is_left():
    with pytest.raises(FailedPrecondition, match=r"no IPv4 subnet is left.*10.64.0.0/12") as refused:
        pools.choose4(pools.taken([], pools.POOLS4))
    assert "--subnet" in str(refused.value.hint)


def test_gives_out_all_of_the_pools():
    taken = []
    for _ in range(256 + 128 + 8):
        taken += pools.taken([net("n", pools.choose4(taken).subnet)], [])
    assert len({one.subnet for one in taken}) == len(taken)
    with pytest.raises(FailedPrecondition, match="no IPv4 subnet is left"):
        pools.choose4(taken)
