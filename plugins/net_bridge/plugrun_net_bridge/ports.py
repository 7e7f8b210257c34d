"""Which ports of the host a container gets: those it asks for if they are free, or free ones."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from plugrun.api import FailedPrecondition, PortMapping
from plugrun_net_bridge.listeners import listeners
from plugrun_net_bridge.mapped import PROTOCOLS, packed, unpacked

_RANGE: Final = "/proc/sys/net/ipv4/ip_local_port_range"
_RESERVED: Final = "/proc/sys/net/ipv4/ip_local_reserved_ports"


_LOOPBACK6: Final = bytes(15) + b"\x01"

_Span = tuple[int, int, bytes, str]
"""First and last of ports in a row, a packed address (``b""`` for all of both kinds, zeros for all of one), whose."""

_OTHERS, _HOST, _THIS = "another container", "the host", "this container"


def settle(ports: Sequence[PortMapping], taken: Iterable[PortMapping]) -> tuple[PortMapping, ...]:
    """Return ``ports`` with a host port chosen wherever it is 0.

    Chosen ones are in a row, of those that the host has for programs that do not care (``ip_local_port_range``), and
    not reserved for others (``ip_local_reserved_ports``).

    :param taken: what other containers have published, settled.
    :raises FailedPrecondition: a port is in use by a program on the host or by another container, or given twice; or
        the host has no such address, or not as many free ports in a row.
    """
    if not ports:
        return ()
    for address in {one.host_address for one in ports}:
        _check_address(address)
    lowest, highest = reach(ports)
    near = [one for one in taken if one.host_port <= highest and one.host_port + one.size > lowest]
    settled = list(ports)
    for protocol in {one.protocol for one in ports}:
        numbers = [number for number, one in enumerate(ports) if one.protocol == protocol]
        fixed = [_span(ports[number], _THIS) for number in numbers if ports[number].host_port]
        spans = [*_taken(protocol, near), *_used(protocol), *fixed]
        if fixed:
            _check(spans, protocol)
        loose = [number for number in numbers if not ports[number].host_port]
        loose.sort(key=lambda number: (-ports[number].size, ports[number].host_address))  # long rows are hard to find
        for _, some in itertools.groupby(loose, key=lambda number: (ports[number].size, ports[number].host_address)):
            alike = list(some)
            for number, found in zip(alike, _choose([ports[number] for number in alike], spans), strict=True):
                settled[number] = found
                spans.append(_span(found, _THIS))
    return tuple(settled)


def reach(ports: Sequence[PortMapping]) -> tuple[int, int]:
    """Return the lowest and the highest port that may be given, so that most of what is taken need not be looked at."""
    first = [one.host_port for one in ports if one.host_port]
    last = [one.host_port + one.size - 1 for one in ports if one.host_port]
    chosen = _numbers(_RANGE) if len(first) < len(ports) else []
    return min(first + chosen), max(last + chosen)


def _taken(protocol: str, taken: Iterable[PortMapping]) -> Iterator[_Span]:
    for one in taken:
        if one.protocol == protocol:
            yield _span(one, _OTHERS)


def _used(protocol: str) -> Iterator[_Span]:
    for port, address in set(listeners(PROTOCOLS[protocol])):
        yield port, port, address, _HOST


def _span(mapping: PortMapping, whose: str) -> _Span:
    first = mapping.host_port
    return first, first + mapping.size - 1, packed(mapping.host_address), whose


def _meet(one: bytes, other: bytes) -> bool:
    """Whether two packed addresses have one in common."""
    if not one or not other:
        return True
    return len(one) == len(other) and (one == other or not any(one) or not any(other))


def _check(spans: Iterable[_Span], protocol: str) -> None:
    """Look through ports in order, with those at hand that reach so far.

    :raises FailedPrecondition: this container is to have one that is in use.
    """
    reaching: list[_Span] = []
    for span in sorted(spans):
        first, _, address, whose = span
        reaching = [other for other in reaching if other[1] >= first]
        for other in reaching:
            if _THIS in {whose, other[3]} and _meet(address, other[2]):
                this, that = (span, other) if whose == _THIS else (other, span)
                raise _in_use(protocol, first, this[2], that[3])
        reaching.append(span)


def _in_use(protocol: str, port: int, address: bytes, whose: str) -> FailedPrecondition:
    if whose == _HOST:
        return port_in_use(unpacked(address), port, PROTOCOLS[protocol])
    name = f"{_at(unpacked(address))}{port}/{protocol}"
    if whose == _THIS:
        return FailedPrecondition(f"port {name} of the host is given twice", hint="leave out one of the two")
    return FailedPrecondition(
        f"port {name} of the host is published by another container", hint="choose another, or leave it to be chosen"
    )


def port_in_use(address: str, port: int, protocol: int) -> FailedPrecondition:
    """Return the error for a port that a program on the host has."""
    name = next(name for name, number in PROTOCOLS.items() if number == protocol)
    listing = "ss -lunp" if name == "udp" else "ss -ltnp"
    place = "" if address in {"0.0.0.0", "::"} else _at(address)  # noqa: S104
    return FailedPrecondition(
        f"port {place}{port}/{name} of the host is in use", hint=f"choose another; {listing} shows which program has it"
    )


def _at(address: str) -> str:
    return f"[{address}]:" if ":" in address else f"{address}:" if address else ""


def _check_address(address: str) -> None:
    """Have the host say whether it has an address.

    :raises FailedPrecondition: it has not.
    """
    if not address:
        return
    if packed(address) == _LOOPBACK6:
        raise FailedPrecondition(f"ports cannot be published at {address} on this host", hint="use 127.0.0.1")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        raise FailedPrecondition(
            f"{address} is no address of this host", hint="ip address shows those it has"
        ) from None


# --- Choosing --------------------------------------------------------------------------------------------------------


def _choose(alike: Sequence[PortMapping], spans: Iterable[_Span]) -> Iterator[PortMapping]:
    """Yield mappings of one size and one address of the host with ports that nobody has.

    Which are free is found out once for all of them: an image may expose every port there is.
    """
    mapping = alike[0]
    lowest, highest = _numbers(_RANGE)
    address = packed(mapping.host_address)
    busy = [(first, last) for first, last, other, _ in spans if _meet(other, address)]
    gaps = list(_gaps(sorted([*busy, *_reserved()]), lowest, highest))
    firsts = [port for first, last in gaps for port in range(first, last + 2 - mapping.size)]
    given: set[int] = set()
    for one in alike:
        while firsts:
            place = random.randrange(len(firsts))  # noqa: S311 - so that who asks next does not get what was just freed
            first, firsts[place] = firsts[place], firsts[-1]
            firsts.pop()
            row = range(first, first + one.size)
            if given.isdisjoint(row):
                given.update(row)
                yield one._replace(host_port=first)
                break
        else:
            row_of = f" {one.size} in a row" if one.size > 1 else ""
            raise FailedPrecondition(
                f"no port{row_of} from {lowest} to {highest} is free for port {one.container_port}/{one.protocol}",
                hint="name a port of the host",
            )


def _gaps(busy: Iterable[tuple[int, int]], lowest: int, highest: int) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each row of ports that is not busy.

    :param busy: in order.
    """
    free = lowest
    for first, last in busy:
        if min(first - 1, highest) >= free:
            yield free, min(first - 1, highest)
        free = max(free, last + 1)
    if free <= highest:
        yield free, highest


def _numbers(path: str) -> list[int]:
    with open(path, encoding="ascii") as stream:
        return [int(word) for word in stream.read().split()]


def _reserved() -> Iterator[tuple[int, int]]:
    with open(_RESERVED, encoding="ascii") as stream:
        for word in stream.read().strip().split(","):
            if word:
                first, _, last = word.partition("-")
                yield int(first), int(last or first)
