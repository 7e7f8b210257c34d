"""Forwarding of packets between interfaces, which the host does only if somebody turned it on.

Turning it on makes a router of a machine that was none, for everybody who can send it packets. So it is remembered
which interfaces there were: the rules drop what would be forwarded between them. Those that others make later, such as
another engine's bridges, are none of our business. Source: the kernel's ip-sysctl.rst.
"""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from plugrun_net_bridge import sysctl

if TYPE_CHECKING:
    from plugrun_net_bridge.store import Store

_FACTS = {4: "forwarding4", 6: "forwarding6"}
_SWITCHES = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
_ADVERTISED = "accept_ra"


def former(store: Store, version: int) -> tuple[str, ...]:
    """Return the interfaces there were when the driver turned forwarding on, or was about to; none if it did not."""
    return tuple(json.loads(store.fact(_FACTS[version]) or "[]"))


def prepare(store: Store, *, six: bool) -> bool:
    """Remember what :func:`turn_on` is going to turn on; whether that is anything new, of which the rules must know."""
    new = False
    for version in (4, 6) if six else (4,):
        if sysctl.read(_SWITCHES[version]) == "0":
            others = {name for _, name in socket.if_nameindex()} - {one.interface for one in store.networks()}
            store.set_fact(_FACTS[version], json.dumps(sorted(others)))
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


def turn_off(store: Store) -> bool:
    """Take back what :func:`turn_on` did, unless there are interfaces by now that may need it.

    :return: whether nothing is left of it: else the rules must stay, which keep the machine from being a router.
    :raises OSError: the kernel refused.
    """
    now = {name for _, name in socket.if_nameindex()}
    for version, fact in _FACTS.items():
        before = set(former(store, version))
        if before and now - before:
            return False
        if before:
            sysctl.write(_SWITCHES[version], "0")
            store.set_fact(fact, "")
    for name in json.loads(store.fact(_ADVERTISED) or "[]"):
        if sysctl.read(f"ipv6/conf/{name}/{_ADVERTISED}") == "2":
            sysctl.write(f"ipv6/conf/{name}/{_ADVERTISED}", "1")
    store.set_fact(_ADVERTISED, "")
    return True


def _keep_autoconfiguration(store: Store) -> None:
    """Let interfaces go on to listen to routers, which with 1 they do only while the host does not forward."""
    names = {name for name in sysctl.interfaces6() if sysctl.read(f"ipv6/conf/{name}/{_ADVERTISED}") == "1"}
    store.set_fact(_ADVERTISED, json.dumps(sorted(names | set(json.loads(store.fact(_ADVERTISED) or "[]")))))
    for name in sorted(names):
        sysctl.write(f"ipv6/conf/{name}/{_ADVERTISED}", "2")
