"""What a container's ``/etc/hosts`` says (hosts(5)).

Part of it changes while the container runs, and the container may edit the rest: that part stands between two lines of
its own, and nothing else is ever replaced. The first line that has a name counts, so the user's come before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from plugrun.errors import DriverError, FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from plugrun.oci.etc_files import About

HOST_GATEWAY = "host-gateway"
_LOCAL = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
_BEGIN = b"# plugrun keeps this part current: this container, and others on its networks\n"
_END = b"# plugrun: the end of that part\n"
_LONGEST = 1 << 20  # bytes: the container can write into the file as much as it likes


def content(about: About, host_file: str, others: Iterable[str]) -> str:
    """Return the whole file.

    :param host_file: the host's own, used if the container shares its network.
    :param others: lines for other containers (:func:`line`).
    :raises InvalidArgument: a name or address that the user gave is none.
    :raises FailedPrecondition: ``host-gateway`` is asked for, and the container has no gateway.
    :raises DriverError: an address that a driver answered is none.
    """
    base = host_file if about.host_network else _LOCAL
    if base and not base.endswith("\n"):
        base += "\n"
    base += "".join(line(_gateway(about, address), [name]) for name, address in about.extra_hosts)
    names = list(dict.fromkeys(filter(None, (about.hostname, about.name if about.places else ""))))
    if not about.places:
        known = any(about.hostname in text.partition("#")[0].split()[1:] for text in base.splitlines())
        return base if known else base + line("127.0.1.1", names)
    return base + part(about, others).decode("utf-8", "surrogateescape")


def part(about: About, others: Iterable[str]) -> bytes:
    """Return the part that changes: the container's own addresses, and other containers'."""
    names = list(dict.fromkeys(filter(None, (about.hostname, about.name))))
    own = [line(bare(address), names) for place in about.places for address in place.addresses]
    text = "".join((*(own or [line("127.0.1.1", names)]), *others))
    return _BEGIN + text.encode("utf-8", "surrogateescape") + _END


def with_part(old: bytes, part: bytes) -> bytes:
    """Return a file with its changing part replaced; one that lost it, or cannot be all, gets it at its end."""
    begin = old.find(_BEGIN)
    end = old.find(_END, begin)
    if begin >= 0 and end >= 0:
        return old[:begin] + part + old[end + len(_END) :]
    if len(old) >= _LONGEST:
        return _LOCAL.encode() + part
    return old + (b"" if not old or old.endswith(b"\n") else b"\n") + part


def line(address: str, names: Sequence[str]) -> str:
    """Return one line.

    :raises DriverError: a name or address would be more than a word.
    """
    for word in (address, *names):
        if not is_word(word):
            raise DriverError(f"{word!r} cannot stand in /etc/hosts: it is no address, and no name")
    return f"{address}\t{' '.join(names)}\n"


def bare(address: str) -> str:
    """Return an address without its prefix length."""
    return address.partition("/")[0]


def is_word(text: str) -> bool:
    """Whether a text can neither be two words of a line, nor begin another line or a comment."""
    return text.isprintable() and text.split() == [text] and "#" not in text


def is_address(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address, without zone or prefix."""
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except (OSError, ValueError):  # not this kind; has a NUL character
            continue
        return True
    return False


def check(extra_hosts: Iterable[tuple[str, str]]) -> None:
    """Check names and addresses that a user gave.

    :raises InvalidArgument: one is none; quotes it.
    """
    for name, address in extra_hosts:
        if not is_word(name):
            raise InvalidArgument(f"{name!r} cannot be a host's name", hint="give it as --add-host NAME:ADDRESS")
        if address != HOST_GATEWAY and not is_address(address):
            raise InvalidArgument(
                f"{address!r}, for the name {name}, is no IP address",
                hint=f"give an IPv4 or IPv6 address, or {HOST_GATEWAY} for the host's on the container's network",
            )


def _gateway(about: About, address: str) -> str:
    if address != HOST_GATEWAY:
        return address
    if about.host_network:
        return "127.0.0.1"
    gateways = [bare(gateway) for place in about.places for gateway in place.gateways]
    found = next((gateway for gateway in gateways if ":" not in gateway), None) or next(iter(gateways), None)
    if found is None:
        raise FailedPrecondition(
            f"{HOST_GATEWAY} stands for nothing: the container has no way to the host",
            hint="use a network that has a gateway, such as the default, or give --add-host an address",
        )
    return found
