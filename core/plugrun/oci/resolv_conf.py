"""What a container's ``/etc/resolv.conf`` says (resolv.conf(5)).

What the user says counts. Else a network's own resolver is asked, which forwards what it does not know to the host's;
else the host's resolvers, but for those at its loopback addresses, which nobody else can reach. They are not replaced
by resolvers of somebody's choice: who may learn what is asked is the user's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from plugrun.errors import DriverError, InvalidArgument
from plugrun.oci.hosts_file import is_address, is_word

if TYPE_CHECKING:
    from plugrun.oci.etc_files import About, Place

HOST = "/etc/resolv.conf"
STUB = "/run/systemd/resolve/resolv.conf"  # the resolvers behind systemd-resolved, which listens at 127.0.0.53
_NO_NETWORK = "# this network has no resolver\n"
_INTERNAL = "# nothing leaves this container's networks, so it has no resolver\n"
_LOOPBACK = "# the host's resolvers listen at its own loopback addresses only: choose others with --dns ADDRESS\n"
_KEYWORDS = ("nameserver", "search", "options")
Settings = dict[str, list[str]]


def content(about: About, read: Callable[[str], str]) -> str:
    """Return the whole file.

    :param read: returns a file of the host's; ``""`` if there is none.
    :raises InvalidArgument: what the user gave makes no sense.
    :raises DriverError: a resolver's address that a driver answered is none.
    """
    check(about.dns, about.dns_search, about.dns_options)
    given = about.dns or about.dns_search or about.dns_options
    if about.host_network and not given:
        return read(HOST)
    found, comment = _settings(about, read)
    if about.dns:
        found["nameserver"], comment = list(about.dns), ""
    if about.dns_search:
        found["search"] = [] if about.dns_search == (".",) else list(about.dns_search)
    if about.dns_options:
        found["options"] = list(about.dns_options)
    if about.dns_search and any(place.named for place in about.places):
        _ask_as_typed_first(found)
    return comment + _lines(found)


def nameservers(places: Iterable[Place]) -> tuple[str, ...]:
    """Return the networks' own resolvers that a container asks.

    Those of networks that let nothing out answer for everything else that there is no such name: a container that has
    a way out must not ask them, as resolvers in C libraries take the first answer of any.
    """
    places = tuple(places)
    asked = [place for place in places if not place.internal] or places
    found = dict.fromkeys(address for place in asked for address in place.nameservers)
    for address in found:
        if not is_address(address):
            raise DriverError(f"the network driver answered {address!r} for a resolver, which is no address")
    return tuple(found)


def check(dns: Iterable[str], search: Iterable[str], options: Iterable[str]) -> None:
    """Check what a user gave for the file.

    :raises InvalidArgument: something makes no sense; quotes it.
    """
    for address in dns:
        if not is_address(address):
            raise InvalidArgument(f"{address!r} is no address of a resolver", hint="give --dns an IPv4 or IPv6 address")
    for kind, words in (("search", search), ("option", options)):
        for word in words:
            if not is_word(word):
                raise InvalidArgument(f"--dns-{kind} {word!r} is not one word", hint="give the option once for each")


def _settings(about: About, read: Callable[[str], str]) -> tuple[Settings, str]:
    """Return what holds if the user says nothing, and a comment that says why it is little."""
    if not about.connected and not about.host_network:
        return {}, _NO_NETWORK
    own = nameservers(about.places)
    if own:
        return {"nameserver": list(own)}, ""
    if about.places and all(place.internal for place in about.places):
        return {}, _INTERNAL
    found = parse(read(HOST))
    if not about.host_network:
        reachable = list(filter(_leaves_the_host, found.get("nameserver", ())))
        if not reachable:
            found = parse(read(STUB)) or found
            reachable = list(filter(_leaves_the_host, found.get("nameserver", ())))
        found["nameserver"] = reachable
        if any(place.named for place in about.places):
            found["search"] = []  # the name of a container that is not there must not become some other host's
    return found, "" if found["nameserver"] or about.host_network else _LOOPBACK


def parse(text: str) -> Settings:
    """Return the settings of a resolv.conf(5): of ``search`` and ``domain`` the last one counts."""
    found: Settings = {}
    for line in text.splitlines():
        keyword, *words = line.split() or [""]
        if keyword in {"nameserver", "options"}:
            found.setdefault(keyword, []).extend(words[:1] if keyword == "nameserver" else words)
        elif keyword in {"search", "domain"}:
            found["search"] = words
    return found


def _leaves_the_host(address: str) -> bool:
    return is_address(address) and not address.startswith(("127.", "::ffff:127.")) and address != "::1"


def _ask_as_typed_first(found: Settings) -> None:
    """Have the name of a container asked for before it is looked for in the user's search domains."""
    options = found.setdefault("options", [])
    if not any(option.startswith("ndots:") for option in options):
        options.append("ndots:0")


def _lines(found: Settings) -> str:
    lines = [f"nameserver {address}" for address in found.get("nameserver", ())]
    lines += [f"{keyword} {' '.join(found[keyword])}" for keyword in _KEYWORDS[1:] if found.get(keyword)]
    return "".join(f"{line}\n" for line in lines)
