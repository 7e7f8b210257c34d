"""Ports of an endpoint: settled while nobody else settles any, held against programs of the host, then published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from plugrun.api import Attachment, FailedPrecondition, InvalidArgument, Network, PortMapping

if TYPE_CHECKING:
    from plugrun_net_bridge.rules import Rules
    from plugrun_net_bridge.store import Endpoint, Store

T = TypeVar("T")


def settle(store: Store, network: Network, at: Attachment, kept: Sequence[PortMapping] = ()) -> tuple[PortMapping, ...]:
    """Return the ports of an attachment with every host port chosen.

    :pre: called in a transaction of the store, in which the answer is stored.
    :param kept: those that the endpoint has already.
    :raises InvalidArgument: the network is internal.
    :raises FailedPrecondition: a port is in use.
    """
    if not at.ports:
        return ()
    if network.internal:
        raise InvalidArgument(
            f"no port can be published on network {network.name!r}: it is internal, and nothing comes in",
            hint="connect the container to another network too",
        )
    from plugrun_net_bridge import ports

    stays = set(kept)
    fresh = [one for one in at.ports if one not in stays]
    if not fresh:
        return at.ports
    taken = [
        one
        for endpoint in store.published_near(*ports.reach(fresh))
        if (endpoint.container_id, endpoint.network_id) != (at.container_id, network.id)
        for one in endpoint.ports
    ]
    taken += [one for one in at.ports if one in stays]
    settled = iter(ports.settle(fresh, taken))
    return tuple(one if one in stays else next(settled) for one in at.ports)


def hold(endpoint: Endpoint, instance: str, old: Endpoint | None = None) -> Endpoint:
    """Have a process hold the ports of an endpoint; the answer names it.

    :param old: the endpoint before, whose process shares what it has, and stays if it has the same ports.
    :raises FailedPrecondition: a program of the host was quicker.
    """
    from plugrun_net_bridge import holder

    former = holder.NOBODY if old is None else holder.Holder(old.holder_pid, old.holder_start)
    if not endpoint.ports and not former.pid:
        return endpoint._replace(holder_pid=0, holder_start=0)
    if old is not None and set(endpoint.ports) == set(old.ports) and holder.is_alive(former):
        return endpoint._replace(holder_pid=former.pid, holder_start=former.start)
    pid, start = holder.hold(endpoint.ports, former, owner(instance, endpoint))
    return endpoint._replace(holder_pid=pid, holder_start=start)


def let_go(endpoint: Endpoint) -> None:
    """End the process that holds the ports of an endpoint; twice is fine."""
    if endpoint.holder_pid:
        from plugrun_net_bridge import holder

        holder.release(holder.Holder(endpoint.holder_pid, endpoint.holder_start))


def past_strays(store: Store, instance: str, endpoint: Endpoint, work: Callable[[], T]) -> T:
    """Return what ``work`` does; if a port is in use, once more when a crash had left processes that hold ports.

    :param endpoint: the one that is changed; nobody else changes it.
    """
    try:
        return work()
    except FailedPrecondition:
        if not _end_strays(store, instance, endpoint):
            raise
    return work()


def _end_strays(store: Store, instance: str, changed: Endpoint) -> bool:
    """End processes that hold ports for an endpoint that is gone, or were not recorded; whether there were any.

    One of another endpoint that is recorded nowhere may have been started just now.
    """
    from plugrun_net_bridge import holder

    found = False
    for name, process in holder.holders():
        whose, container_id, network_id, *_ = (*name.split(" "), "", "")
        if whose != instance:
            continue
        endpoint = store.find(container_id, network_id)
        own = (container_id, network_id) == (changed.container_id, changed.network_id)
        if endpoint is None or (own and endpoint.holder_pid != process.pid):
            holder.release(process)
            found = True
    return found


def owner(instance: str, endpoint: Endpoint) -> str:
    """Return what a process is found by that was started before a crash and recorded nowhere."""
    return f"{instance} {endpoint.container_id} {endpoint.network_id}"


def change(store: Store, rules: Rules, instance: str, at: Attachment, network: Network) -> Endpoint:
    """Have exactly the ports of an attachment published, without a moment in which those that stay are not.

    :raises FailedPrecondition: a port is in use; nothing has changed.
    """
    with store.transaction():
        old = store.find(at.container_id, network.id)
        if old is None:
            raise FailedPrecondition(f"container {at.name or at.hostname!r} is not on network {network.name!r}")
        wanted = past_strays(store, instance, old, lambda: settle(store, network, at, old.ports))
        new = old._replace(ports=wanted)
        if new.ports == old.ports:
            return old
        store.set_ports(
            old._replace(ports=tuple(dict.fromkeys((*old.ports, *new.ports))))
        )  # so that nobody else gets them
    try:
        new = past_strays(store, instance, old, lambda: hold(new, instance, old))
    except BaseException:
        store.set_ports(old)
        raise
    try:
        rules.replace(old, new)
    except BaseException:
        store.set_ports(old)
        if new.holder_pid != old.holder_pid:
            let_go(new)
        raise
    if new.holder_pid != old.holder_pid:
        let_go(old)
    return new
