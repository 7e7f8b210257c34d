"""From what a user asks for to a network: options, subnets, the bridge's name. Changes nothing on the system."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from plugrun.api import FailedPrecondition, InvalidArgument, Network, NetworkDraft, Subnet
from plugrun_net_bridge import links, naming, pools
from plugrun_net_bridge.rtnetlink import Rtnetlink

if TYPE_CHECKING:
    from plugrun_net_bridge.store import Store

DRIVER = "bridge"
_KNOWN = {
    "mtu": "mtu",
    "name": "name",
    "com.docker.network.driver.mtu": "mtu",
    "com.docker.network.bridge.name": "name",
}
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z"
_NO_NAMES = {"all", "default"}  # in /proc/sys/net they stand for every interface, and the kernel takes neither
_LEAST_MTU, _LEAST_MTU6, _MOST_MTU = 68, 1280, 65535  # RFC 791, RFC 8200, the kernel's for veth and bridges


def settle(store: Store, draft: NetworkDraft, others: Sequence[Network]) -> Network:
    """Return the network that a draft stands for.

    :raises InvalidArgument: an option or an address makes no sense; quotes it.
    :raises FailedPrecondition: something is taken, or none is left.
    """
    options = _options(draft.options)
    with Rtnetlink() as link:
        routes = [route.destination for route in links.routes(link)]
        interface = _interface(link, options.get("name"), draft, others)
    subnets = _subnets(store, draft, pools.taken(others, routes))
    six = any(":" in one.subnet for one in subnets)
    if six and "mtu" in options and int(options["mtu"]) < _LEAST_MTU6:
        raise InvalidArgument(f"the mtu {options['mtu']} is too small for IPv6, which needs {_LEAST_MTU6}")
    return Network(
        id=draft.id,
        name=draft.name,
        driver=DRIVER,
        subnets=subnets,
        ipv6=six,
        internal=draft.internal,
        interface=interface,
        options=dict(draft.options),
        data={"mtu": int(options["mtu"])} if "mtu" in options else {},
    )


def _options(given: Mapping[str, str]) -> dict[str, str]:
    """Return the options by their own names."""
    found = {}
    for key, value in given.items():
        if key not in _KNOWN:
            raise InvalidArgument(
                f"the bridge driver knows no network option {key!r}", hint=f"it knows {', '.join(sorted(_KNOWN))}"
            )
        found[_KNOWN[key]] = value
    mtu = found.get("mtu")
    if mtu is not None and not (
        mtu.isascii() and mtu.isdigit() and len(mtu) <= 5 and _LEAST_MTU <= int(mtu) <= _MOST_MTU
    ):
        raise InvalidArgument(f"the mtu {mtu!r} is no number from {_LEAST_MTU} to {_MOST_MTU}")
    return found


def _interface(link: Rtnetlink, wanted: str | None, draft: NetworkDraft, others: Sequence[Network]) -> str:
    name = naming.bridge(draft.id) if wanted is None else wanted
    if not re.match(_NAME, name) or name in _NO_NAMES:
        raise InvalidArgument(
            f"{name!r} cannot be the name of a bridge",
            hint="at most 15 letters, digits and ._- are allowed, a letter or digit first",
        )
    owner = next((one for one in others if one.interface == name), None)
    if owner is not None:
        raise FailedPrecondition(f"the bridge {name!r} belongs to network {owner.name!r}", hint="choose another name")
    if links.find(link, name) is not None:
        raise FailedPrecondition(f"the host has an interface {name!r} already", hint="choose another name")
    return name


def _subnets(store: Store, draft: NetworkDraft, occupied: Sequence[pools.Taken]) -> tuple[Subnet, ...]:
    given = [pools.settle(subnet) for subnet in draft.subnets]
    four, six = ([one for one in given if (":" in one.subnet) is wanted] for wanted in (False, True))
    if len(four) > 1 or len(six) > 1:
        raise InvalidArgument(
            f"a bridge network has one subnet of each kind, and these are {', '.join(one.subnet for one in given)}",
            hint="make several networks: a container can be on all of them",
        )
    for one in given:
        pools.refuse_overlap(one, occupied)
    if not four:
        four.append(pools.choose4(occupied))
    if draft.ipv6 and not six:
        six.append(pools.choose6(_own_prefix(store), occupied))
    return (*four, *six)


def _own_prefix(store: Store) -> str:
    """Return the prefix of this engine's own addresses: RFC 4193 has 40 random bits for that, drawn once."""
    with store.transaction():
        digits = store.fact("ula")
        if not digits:
            digits = os.urandom(5).hex()
            store.set_fact("ula", digits, lasting=True)
    return f"fd{digits[:2]}:{digits[2:6]}:{digits[6:]}::/48"
