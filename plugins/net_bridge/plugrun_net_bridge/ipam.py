"""Addresses for endpoints: which one a container gets on a network.

Whole numbers instead of :mod:`ipaddress`, whose import takes longer than everything here.
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from plugrun.api import Attachment, FailedPrecondition, InvalidArgument, Network, Subnet
from plugrun_net_bridge.store import Endpoint, Store


class Span(NamedTuple):
    """The addresses of a subnet as numbers.

    :param first: the first of all; ``last`` is among them too.
    """

    family: socket.AddressFamily
    first: int
    last: int

    def text(self, value: int) -> str:
        """Return an address as text."""
        return socket.inet_ntop(self.family, value.to_bytes(_length(self.family), "big"))

    def usable(self) -> Span:
        """Return it without those that no interface can have.

        In IPv4 the network's own and everybody's, except where there are only two (RFC 3021); in IPv6 that of any
        router (RFC 4291, 2.6.1).
        """
        if self.last - self.first < 2:
            return self
        return self._replace(first=self.first + 1, last=self.last - (self.family == socket.AF_INET))


def span(cidr: str) -> Span:
    """Return the addresses of a range in CIDR notation, which has been checked before."""
    plain, _, prefix = cidr.partition("/")
    family, value = number(plain)
    size = 1 << (8 * _length(family) - int(prefix))
    return Span(family, value, value + size - 1)


def number(address: str) -> tuple[socket.AddressFamily, int]:
    """Return family and number of an address.

    :raises OSError: it is none.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, int.from_bytes(socket.inet_pton(family, address), "big")


def lease(store: Store, at: Attachment, network: Network) -> Endpoint:
    """Choose the addresses of an endpoint and remember it.

    :pre: called in a transaction of the store; the container has no endpoint on the network.
    :raises InvalidArgument: an address that the user wants makes no sense on this network.
    :raises FailedPrecondition: it is in use, or none is left.
    """
    for other in store.of_container(at.container_id):
        if other.number == at.number:
            raise InvalidArgument(f"container {other.name!r} has an interface eth{at.number} already")
    next4, next6 = store.next_given(network.id)
    ip, next4 = _choose(store, network, at.ip, next4, six=False)
    ip6, next6 = _choose(store, network, at.ip6, next6, six=True)
    store.set_next_given(network.id, next4, next6)
    mac = _checked_mac(at.mac) if at.mac is not None else derived_mac(ip or ip6 or at.container_id)
    name = at.name or at.container_id[:12]
    endpoint = Endpoint(at.container_id, network.id, at.number, name, ip, ip6, mac)
    store.add(endpoint)
    return endpoint


def derived_mac(address: str) -> str:
    """Return the hardware address that goes with an address, locally administered.

    One that returns with its address is no news to neighbours, who remember both for a while.
    """
    try:
        packed = number(address)[1].to_bytes(16, "big")
    except OSError:
        packed = bytes.fromhex(address[:8])
    return (b"\x02\x70" + packed[-4:]).hex(":")


def _checked_mac(text: str) -> str:
    try:
        packed = bytes.fromhex(text.replace(":", "").replace("-", ""))
    except ValueError:
        packed = b""
    if len(packed) != 6 or len(text) != 17 or not any(packed) or packed[0] & 1:  # the lowest bit: for many at once
        raise InvalidArgument(
            f"{text!r} is no hardware address of one interface", hint="write it like 02:70:0a:40:00:02"
        )
    return packed.hex(":")


def with_prefix(address: str, network: Network) -> str:
    """Return an address of a network with its prefix length."""
    subnet = _subnet(network, six=":" in address)
    assert subnet is not None
    return f"{address}/{subnet.subnet.partition('/')[2]}"


def _subnet(network: Network, *, six: bool) -> Subnet | None:
    return next((one for one in network.subnets if (":" in one.subnet) == six), None)


def _choose(store: Store, network: Network, wanted: str | None, step: int, *, six: bool) -> tuple[str | None, int]:
    """Return an address of one family, if the network has that, and the step for the next time."""
    subnet = _subnet(network, six=six)
    if wanted is None:
        return (None, step) if subnet is None else _next(store, network, subnet, step)
    if subnet is None:
        family = "IPv6" if six else "IPv4"
        raise InvalidArgument(
            f"the address {wanted} cannot be had: network {network.name!r} has no {family} subnet",
            hint="see its subnets with: plugrun network inspect",
        )
    return _wanted(store, network, subnet, wanted), step


def _wanted(store: Store, network: Network, subnet: Subnet, wanted: str) -> str:
    all_of_it = span(subnet.subnet)
    try:
        family, value = number(wanted)
    except OSError:
        raise InvalidArgument(f"{wanted!r} is no IP address") from None
    if family != all_of_it.family or not all_of_it.first <= value <= all_of_it.last:
        raise InvalidArgument(f"the address {wanted} is not in {subnet.subnet}, the subnet of network {network.name!r}")
    usable = all_of_it.usable()
    if not usable.first <= value <= usable.last:
        raise InvalidArgument(f"no container can have the address {wanted}: it stands for the subnet {subnet.subnet}")
    address = all_of_it.text(value)
    if address == subnet.gateway:
        raise InvalidArgument(f"the address {wanted} is the gateway of network {network.name!r}")
    owner = store.owner(network.id, address)
    if owner is not None:
        raise FailedPrecondition(
            f"the address {wanted} is in use by container {owner.name!r}", hint="choose another one, or none"
        )
    return address


def _next(store: Store, network: Network, subnet: Subnet, step: int) -> tuple[str, int]:
    """Return the next free address after the one last given, and how far that is from the first.

    Not the first free one: an address that was just given back may still be remembered elsewhere.
    """
    usable = span(subnet.subnet).usable()
    if subnet.ip_range is not None:
        part = span(subnet.ip_range)
        usable = usable._replace(first=max(usable.first, part.first), last=min(usable.last, part.last))
    size = usable.last - usable.first + 1
    taken: set[str | None] | None = None
    tries = 0
    while tries < size and (taken is None or tries <= len(taken) + 1):
        place = (step + tries) % size
        address = usable.text(usable.first + place)
        if address != subnet.gateway:
            if taken is None and store.owner(network.id, address) is None:
                return address, place + 1
            taken = taken or {*store.taken(network.id), subnet.gateway}
            if address not in taken:
                return address, place + 1
        tries += 1
    raise FailedPrecondition(
        f"network {network.name!r} has no address left in {subnet.ip_range or subnet.subnet}",
        hint="remove a container, or make a network with a larger --subnet",
    )


def _length(family: socket.AddressFamily) -> int:
    return 4 if family == socket.AF_INET else 16
