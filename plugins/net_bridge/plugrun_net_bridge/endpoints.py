"""An endpoint: the pair of interfaces between a bridge and a container, and what is set inside."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from plugrun.api import DriverError, FailedPrecondition, Network
from plugrun_net_bridge import inside, ipam, links, naming, sysctl
from plugrun_net_bridge.bridges import delete
from plugrun_net_bridge.rtnetlink import Message, Rtnetlink

if TYPE_CHECKING:
    from plugrun_net_bridge.links import Link
    from plugrun_net_bridge.store import Endpoint

_METRIC = 100


def interface(endpoint: Endpoint) -> str:
    """Return the name of an endpoint's interface in the container."""
    return f"eth{endpoint.number}"


def addresses(endpoint: Endpoint, network: Network) -> tuple[str, ...]:
    """Return the addresses of an endpoint, with prefix length."""
    return tuple(ipam.with_prefix(one, network) for one in (endpoint.ip, endpoint.ip6) if one is not None)


def gateways(network: Network) -> tuple[str, ...]:
    """Return the addresses of the default routes of endpoints on a network."""
    return () if network.internal else tuple(one.gateway for one in network.subnets if one.gateway is not None)


def make(link: Rtnetlink, endpoint: Endpoint, network: Network, bridge: Link, *, netns: int, alias: str) -> None:
    """Make the interfaces of an endpoint and bring them up.

    :param netns: descriptor of the container's namespace.
    :param alias: marks the one on the host.
    :raises FailedPrecondition: the bridge is full.
    :raises DriverError: the kernel refused.
    """
    name = naming.port(endpoint.container_id, endpoint.number)
    pair = links.new_veth(
        name, interface(endpoint), netns=netns, master=bridge.number, mtu=bridge.mtu, mac=endpoint.mac
    )
    try:
        _make_pair(link, name, pair, alias)
        inside.run(netns, lambda: _configure(endpoint, network))
        sysctl.write(f"ipv6/conf/{name}/disable_ipv6", "1")  # a port of a bridge has nothing to say itself
        link.send(links.set_link(name, up=True))
    except OSError as error:
        if error.errno == errno.EXFULL:
            raise FailedPrecondition(
                f"network {network.name!r} is full: a bridge has at most 1023 containers",
                hint="make another network: a container can be on several",
            ) from error
        raise DriverError(
            f"cannot connect container {endpoint.name!r} to network {network.name!r}: {error.strerror}"
        ) from error


def let_reach_itself(link: Rtnetlink, endpoint: Endpoint) -> None:
    """Let a container that publishes ports reach them by an address of the host, as others do.

    Its packets come back to it. Where the host has bridges show their frames to the rules (br_netfilter, which Docker
    and Kubernetes load), a frame is translated while still on the bridge, which then has to send it back to its port.
    """
    if endpoint.ports and any(sysctl.read(f"bridge/bridge-nf-call-{one}") == "1" for one in ("iptables", "ip6tables")):
        link.send(links.set_hairpin(naming.port(endpoint.container_id, endpoint.number)))


def unmake(link: Rtnetlink, container_id: str, number: int) -> None:
    """Delete the interfaces of an endpoint; absent is fine.

    :raises OSError: the kernel refused.
    """
    delete(link, naming.port(container_id, number))


def mute(link: Rtnetlink, container_id: str, number: int) -> None:
    """Take an endpoint off its bridge, whose namespace is about to go and will take the interfaces along.

    Until it does, which may be a while, others may have its address and its place on the bridge.
    """
    try:
        link.send(links.set_link(naming.port(container_id, number), up=False, master=0))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def _make_pair(link: Rtnetlink, name: str, pair: Message, alias: str) -> None:
    for make_room in (_put_aside, delete, None):
        try:
            link.send(pair)
            break
        except OSError as error:
            former = links.find(link, name)
            ours = former is None or former.alias in {"", alias}  # of the container's former life
            if error.errno != errno.EEXIST or not ours or make_room is None:
                raise
            make_room(link, name)
    link.send(links.set_link(name, alias=alias))


def _put_aside(link: Rtnetlink, name: str) -> None:
    """Take the name from an interface of the container's former life, which the kernel has not finished to clear.

    Deleting it would take ten times as long.
    """
    former = links.find(link, name)
    if former is None:
        return
    aside = f"prx{os.urandom(5).hex()}"
    try:
        link.send(links.set_link(former.number, up=False, master=0), links.rename(former.number, aside))
    except OSError as error:
        if error.errno != errno.ENODEV:  # gone meanwhile, as is its name
            raise


def _configure(endpoint: Endpoint, network: Network) -> None:
    """Set up the container's interface, in a thread that is in its namespace."""
    name = interface(endpoint)
    if endpoint.ip6 is None:
        sysctl.write(f"ipv6/conf/{name}/disable_ipv6", "1")
    else:
        for setting in ("disable_ipv6", "accept_ra", "accept_dad"):
            sysctl.write(f"ipv6/conf/{name}/{setting}", "0")
    index = socket.if_nametoindex(name)
    messages = [links.set_link(index, up=True)]
    messages += [links.new_address(index, one) for one in addresses(endpoint, network)]
    messages += [links.default_route(index, one, _METRIC + endpoint.number) for one in gateways(network)]
    with Rtnetlink() as link:
        link.send(*messages)
