"""Forwarding of packets between interfaces, which the host does only if somebody turned it on.

Turning it on makes a router of a machine that was none, for everybody who can send it packets. So it is remembered that
it was off: as long as that is so, the rules drop what is forwarded for others. Source: the kernel's ip-sysctl.rst.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from plugrun_net_bridge import sysctl

if TYPE_CHECKING:
    from plugrun_net_bridge.store import Store

_FACTS = {4: "forwarding4", 6: "forwarding6"}
_SWITCHES = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
_ADVERTISED = "accept_ra"


def was_off(store: Store, version: int) -> bool:
    """Whether the driver turned forwarding on, or is about to."""
    return store.fact(_FACTS[version]) != ""


def prepare(store: Store, *, six: bool) -> bool:
    """Remember what :func:`turn_on` is going to turn on; whether that is anything new, of which the rules must know."""
    new = False
    for version in (4, 6) if six else (4,):
        if sysctl.read(_SWITCHES[version]) == "0" and not was_off(store, version):
            store.set_fact(_FACTS[version], "was off")
            new = True
    return new


def turn_on(store: Store, *, six: bool) -> None:
    """Have the host forward packets of both versions.

    :raises OSError: the kernel refused.
    """
    if sysctl.read(_SWITCHES[4]) == "0":
        sysctl.write(_SWITCHES[4], "1")
    if six and sysctl.read(_SWITCHES[6]) == "0":
        _keep_autoconfiguration(store)
        sysctl.write(_SWITCHES[6], "1")


def turn_off(store: Store) -> None:
    """Take back what :func:`turn_on` did: with the rules gone nothing would keep the machine from being a router.

    :raises OSError: the kernel refused.
    """
    for version, fact in _FACTS.items():
        if was_off(store, version):
            sysctl.write(_SWITCHES[version], "0")
            store.set_fact(fact, "")
    for name in json.loads(store.fact(_ADVERTISED) or "[]"):
        if sysctl.read(f"ipv6/conf/{name}/{_ADVERTISED}") == "2":
            sysctl.write(f"ipv6/conf/{name}/{_ADVERTISED}", "1")
    store.set_fact(_ADVERTISED, "")


def _keep_autoconfiguration(store: Store) -> None:
    """Let interfaces go on to listen to routers, which with 1 they do only while the host does not forward."""
    names = [name for name in sysctl.interfaces6() if sysctl.read(f"ipv6/conf/{name}/{_ADVERTISED}") == "1"]
    store.set_fact(_ADVERTISED, json.dumps(names))
    for name in names:
        sysctl.write(f"ipv6/conf/{name}/{_ADVERTISED}", "2")
