"""Which addresses networks have: the user's subnets checked, and one chosen where the user names none."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from plugrun.api import FailedPrecondition, InvalidArgument, Network, Subnet

IPNetwork = IPv4Network | IPv6Network

# A company's VPN often routes all of 10.0.0.0/8: then there has to be something else.
POOLS4 = ("10.64.0.0/12", "172.24.0.0/13", "192.168.128.0/17")
_PREFIX4, _PREFIX6 = 20, 64

# A pair of routes this wide stands for a default route that wins over another (OpenVPN's def1), not for one net.
_AS_GOOD_AS_DEFAULT = 1

_MEANT_OTHERWISE = {
    "0.0.0.0/8": "this host",  # RFC 6890 lists these
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
    "::/8": "loopback and mapped IPv4",
    "fe80::/10": "link-local",
    "ff00::/8": "multicast",
}


class Taken(NamedTuple):
    """Addresses that a new network cannot have.

    :param owner: whose they are, for messages.
    """

    subnet: IPNetwork
    owner: str


def taken(others: Iterable[Network], routes: Iterable[str]) -> list[Taken]:
    """Return what other networks and the host's routes occupy.

    :param routes: destinations in CIDR notation.
    """
    found = [Taken(ipaddress.ip_network(one.subnet), f"network {net.name!r}") for net in others for one in net.subnets]
    known = {one.subnet for one in found}
    for route in routes:
        subnet = ipaddress.ip_network(route)
        if subnet.prefixlen > _AS_GOOD_AS_DEFAULT and subnet not in known:
            found.append(Taken(subnet, f"the host's route to {subnet}"))
    return found


def choose(pools: Iterable[str], prefix: int, occupied: Sequence[Taken], kind: str) -> Subnet:
    """Return the first subnet of ``pools`` that overlaps nothing.

    :param prefix: its prefix length.
    :param kind: what it is for, for the message.
    :raises FailedPrecondition: there is none.
    """
    for pool in map(ipaddress.ip_network, pools):
        here = [
            (int(one.subnet.network_address), int(one.subnet.broadcast_address))
            for one in occupied
            if one.subnet.version == pool.version and one.subnet.overlaps(pool)
        ]
        size = 1 << (pool.max_prefixlen - prefix)
        first = int(pool.network_address)
        while first < int(pool.broadcast_address):
            in_the_way = [last for begin, last in here if begin < first + size and last >= first]
            if not in_the_way:
                return settle(Subnet(f"{ipaddress.ip_address(first)}/{prefix}"))
            first = (max(in_the_way) // size + 1) * size
    raise FailedPrecondition(
        f"no {kind} subnet is left: networks and routes of the host take all of {', '.join(pools)}",
        hint="choose one with --subnet, or remove networks that are not used: plugrun network prune",
    )


def choose4(occupied: Sequence[Taken]) -> Subnet:
    """Return an IPv4 subnet for a network.

    :raises FailedPrecondition: none is left.
    """
    return choose(POOLS4, _PREFIX4, occupied, "IPv4")


def choose6(prefix: str, occupied: Sequence[Taken]) -> Subnet:
    """Return an IPv6 subnet for a network.

    :param prefix: of this machine's own unique local addresses (RFC 4193), e.g. ``fd12:3456:789a::/48``.
    :raises FailedPrecondition: none is left.
    """
    return choose((prefix,), _PREFIX6, occupied, "IPv6")


def refuse_overlap(subnet: Subnet, occupied: Iterable[Taken]) -> None:
    """Check that a subnet is free.

    :raises FailedPrecondition: it is not; says who has it.
    """
    wanted = ipaddress.ip_network(subnet.subnet)
    for one in occupied:
        if one.subnet.version == wanted.version and one.subnet.overlaps(wanted):
            of = "" if one.owner.endswith(str(one.subnet)) else f" ({one.subnet})"
            raise FailedPrecondition(
                f"the subnet {wanted} overlaps {one.owner}{of}", hint="choose another --subnet, or leave it out"
            )


def settle(subnet: Subnet) -> Subnet:
    """Check what a user says of one subnet, and complete it.

    :raises InvalidArgument: it makes no sense; quotes the value.
    """
    whole = _network(subnet.subnet, "subnet")
    if whole.num_addresses < 2:
        raise InvalidArgument(
            f"the subnet {whole} has no room for a container beside the gateway", hint="make it larger"
        )
    for special, meaning in _MEANT_OTHERWISE.items():
        if whole.version == (reserved := ipaddress.ip_network(special)).version and whole.overlaps(reserved):
            raise InvalidArgument(
                f"the subnet {whole} cannot be a network's: {special} is {meaning}",
                hint="take a private one, such as 10.200.0.0/24 or fd00:200::/64",
            )
    gateway = _gateway(subnet.gateway, whole)
    part = None if subnet.ip_range is None else _part(subnet.ip_range, whole)
    return Subnet(str(whole), gateway, part)


def _network(text: str, what: str) -> IPNetwork:
    plain = text.replace("%", " ")  # any text is accepted for a zone and kept, and would stand in the rules
    try:
        return ipaddress.ip_network(plain)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(plain, strict=False)
    except ValueError:
        raise InvalidArgument(
            f"{text!r} is no {what} in CIDR notation", hint="write it like 10.200.0.0/24 or fd00:200::/64"
        ) from None
    raise InvalidArgument(f"the {what} {text!r} has bits set beyond its prefix", hint=f"did you mean {meant}?")


def _gateway(text: str | None, whole: IPNetwork) -> str:
    if text is None:
        return str(whole[0] if whole.num_addresses == 2 and whole.version == 4 else whole[1])
    try:
        gateway = ipaddress.ip_address(text.replace("%", " "))
    except ValueError:
        raise InvalidArgument(f"the gateway {text!r} is no IP address") from None
    if gateway not in whole:
        raise InvalidArgument(f"the gateway {gateway} is not in the subnet {whole}")
    ends = {whole[0]} if whole.version == 6 else {whole[0], whole[-1]}
    if gateway in ends and whole.num_addresses > 2:
        raise InvalidArgument(f"the gateway cannot be {gateway}: that stands for the subnet {whole}")
    return str(gateway)


def _part(text: str, whole: IPNetwork) -> str:
    part = _network(text, "IP range")
    if part.version != whole.version or part[0] not in whole or part[-1] not in whole:
        raise InvalidArgument(f"the IP range {part} is not in the subnet {whole}")
    return str(part)
