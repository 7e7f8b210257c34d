"""``--publish 127.0.0.1:8080:80/tcp`` and ``--expose 80/tcp``: Docker's forms of ports.

Source: https://docs.docker.com/engine/network/port-publishing/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from plugrun.cli.addresses import address
from plugrun.errors import InvalidArgument
from plugrun.ports import MAX_PORT, PROTOCOLS, PortMapping

_FORM = "[ADDRESS:][HOST:]PORT[/PROTOCOL]"


def publish(texts: Iterable[str]) -> list[PortMapping]:
    """Read every ``--publish``; the same one twice counts once.

    :raises InvalidArgument: one makes no sense, or two want the same port of the host.
    """
    texts_of = {mapping: text for text in texts for mapping in mappings(text)}
    for one, other in clashes(texts_of):
        raise InvalidArgument(
            f"--publish {texts_of[one]!r} and {texts_of[other]!r} want the same port {other.host_port} of the host",
            hint="give each another one",
        )
    return list(texts_of)


def clashes(ports: Iterable[PortMapping]) -> Iterator[tuple[PortMapping, PortMapping]]:
    """Yield pairs that want the same port of the host."""
    fixed = sorted((one for one in ports if one.host_port), key=lambda one: (one.protocol, one.host_port))
    for number, one in enumerate(fixed):
        for other in islice(fixed, number + 1, None):
            if other.protocol != one.protocol or other.host_port >= one.host_port + one.size:
                break
            if _same_place(one.host_address, other.host_address):
                yield one, other


def mappings(text: str) -> list[PortMapping]:
    """Read one ``[ADDRESS:][HOST[-HOST]:]PORT[-PORT][/PROTOCOL]``; an IPv6 address is in brackets.

    :return: one mapping; of a range at ports that the driver chooses, one a port.
    :raises InvalidArgument: it makes no sense; quotes it.
    """
    whole = mapping(text)
    if whole.host_port or whole.size == 1:
        return [whole]
    ports = range(whole.container_port, whole.container_port + whole.size)
    return [whole._replace(container_port=port, size=1) for port in ports]


def mapping(text: str) -> PortMapping:
    """Read the same as one mapping, whose host port is 0 if it says none."""
    about = f"--publish {text!r}"
    rest, protocol = _protocol(about, text)
    front, _, ports = rest.rpartition(":")
    host_address, outside = _address(about, front)
    first, last = _span(about, ports)
    size = last - first + 1
    if outside in {"", "0"}:
        return PortMapping(first, 0, protocol, host_address, size)
    host_first, host_last = _span(about, outside)
    if (count := host_last - host_first + 1) != size:
        raise InvalidArgument(
            f"{about} has {count} port{'s' * (count > 1)} of the host for {size} of the container",
            hint="give as many of both" if size > 1 else "choose one, or leave the host's out for any that is free",
        )
    return PortMapping(first, host_first, protocol, host_address, size)


def expose(text: str) -> str:
    """Read one ``--expose PORT[-PORT][/PROTOCOL]``.

    :return: the same with its protocol.
    :raises InvalidArgument: it makes no sense; quotes it.
    """
    about = f"--expose {text!r}"
    rest, protocol = _protocol(about, text)
    first, last = _span(about, rest)
    return PortMapping(first, protocol=protocol, size=last - first + 1).inside


def inside(text: str) -> str:
    """Read one ``PORT[/PROTOCOL]`` of a container.

    :return: the same with its protocol.
    :raises InvalidArgument: it makes no sense; quotes it.
    """
    rest, protocol = _protocol(f"port {text!r}", text)
    if not _is_port(rest):
        raise InvalidArgument(
            f"{text!r} is no port", hint="write PORT or PORT/udp; to publish one: plugrun port add CONTAINER PORT"
        )
    return PortMapping(int(rest), protocol=protocol).inside


def _protocol(about: str, text: str) -> tuple[str, str]:
    rest, slash, protocol = text.partition("/")
    if slash and protocol.lower() not in PROTOCOLS:
        raise InvalidArgument(f"{about} has the unknown protocol {protocol!r}", hint="use tcp, udp or sctp")
    return rest, protocol.lower() or "tcp"


def _address(about: str, text: str) -> tuple[str, str]:
    """Return the host's address, ``""`` for all of them, and what is said of its ports."""
    what = f"{about}: the address"
    if text.startswith("["):
        inner, bracket, outside = text[1:].partition("]")
        if not bracket or (outside and not outside.startswith(":")):
            raise InvalidArgument(f"{about} is not {_FORM}", hint="write e.g. [::1]:8080:80")
        return address(inner, what, 6), outside[1:]
    front, colon, outside = text.rpartition(":")
    if ":" in front:
        raise InvalidArgument(f"{about} is not {_FORM}", hint="an IPv6 address needs brackets: [::1]:8080:80")
    return address(front, what, 4) if front else "", outside if colon else text


def _span(about: str, text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not _is_port(first) or (dash and not _is_port(last)):
        raise InvalidArgument(
            f"{about}: {text!r} is no port" if text else f"{about} is not {_FORM}",
            hint=f"ports are 1 to {MAX_PORT}, or a range such as 8000-8010",
        )
    if int(last or first) < int(first):
        raise InvalidArgument(f"{about}: the range {text} goes backwards", hint=f"write {last}-{first}")
    return int(first), int(last or first)


def _is_port(text: str) -> bool:
    return re.fullmatch(r"\d{1,5}", text, re.ASCII) is not None and 1 <= int(text) <= MAX_PORT


def _same_place(one: str, other: str) -> bool:
    """Whether two addresses of the host, or all of a kind, have one in common."""
    if one == other or "" in {one, other}:
        return True
    return (":" in one) is (":" in other) and bool({one, other} & {"0.0.0.0", "::"})  # noqa: S104 - compared only
