"""Connect, disconnect, publish: a container's networks and ports change, while it runs or while it does not."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from plugrun.api import New, SupportsPorts
from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound
from plugrun.lifecycle import host_network, naming, network
from plugrun.lifecycle.endpoints import can_publish, check, choose
from plugrun.lifecycle.keys import current
from plugrun.lifecycle.state import is_running
from plugrun.ports import settled_as_before
from plugrun.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from plugrun.container import ContainerRecord
    from plugrun.endpoint import Endpoint
    from plugrun.engine import Engine
    from plugrun.ports import PortMapping
    from plugrun.request import NetworkChoice

_HIGHEST = 99  # drivers may have two digits for it in the name of an interface


def connect(engine: Engine, record: ContainerRecord, choice: NetworkChoice) -> None:
    """Put a container on one more network; while it runs, at once.

    :raises NotFound: there is no such network.
    :raises FailedPrecondition: it is on it already, or lives in a network namespace that is not its own.
    :post: on failure it is on the networks it was on.
    """
    with engine.locked(record.id):
        record = current(engine, record)
        _refuse_shared(engine, record)
        number = _free_number(record)
        endpoint, wanted = choose(engine, choice, {}, number)
        if not endpoint.network or not isinstance(wanted, New):
            raise InvalidArgument(
                f"a container cannot be connected to network {endpoint.name} once it is made",
                hint=f"make another one: plugrun run --net {endpoint.name} …",
            )
        if any(one.network == endpoint.network for one in record.endpoints):
            raise FailedPrecondition(f"container {record.name} is on network {endpoint.name} already")
        changed = dataclasses.replace(record, endpoints=(*record.endpoints, endpoint))
        if not any(one.publishes for one in record.endpoints) and can_publish(engine, endpoint):
            endpoint = endpoint._replace(publishes=True)
            network.replace(changed, endpoint)
        with Undo(f"connecting container {record.name} to network {endpoint.name}") as undo:
            undo.push("its record", lambda: engine.containers.update(record))
            engine.containers.update(changed)  # first, so that whatever a crash leaves is torn down with the rest
            check(engine, changed)
            if is_running(record):
                netns = network.netns_of(engine, record)
                undo.push("its endpoint", lambda: network.disconnect(engine, changed, endpoint, netns))
                with host_network.setting_up(engine):
                    network.replace(changed, network.connect(engine, changed, endpoint, netns))
            engine.containers.update(changed)
        if is_running(record):
            naming.changed(engine, record, changed)


def _free_number(record: ContainerRecord) -> int:
    """Return a number for one more endpoint: after all others, so that none loses the default route to it."""
    used = {one.number for one in record.endpoints}
    following = max(used, default=-1) + 1
    if following <= _HIGHEST:
        return following
    if len(used) > _HIGHEST:
        raise FailedPrecondition(
            f"container {record.name} is on {len(used)} networks, the most there can be",
            hint=f"take it off one: plugrun network disconnect NETWORK {record.name}",
        )
    return min(set(range(_HIGHEST)) - used)


def disconnect(engine: Engine, record: ContainerRecord, name: str, *, force: bool = False) -> None:
    """Take a container off a network; its ports are then published on another one, if it is on one that can.

    :param name: of the network.
    :param force: a container that is not on it is fine.
    :raises NotFound: it is not on that network.
    :raises FailedPrecondition: it shares another container's network, or the host's.
    """
    with engine.locked(record.id):
        record = current(engine, record)
        endpoint = _endpoint(engine, record, name)
        if endpoint is None:
            if force:
                return
            others = ", ".join(one.name for one in record.endpoints) or "none"
            raise NotFound(f"container {record.name} is not on network {name}", hint=f"it is on: {others}")
        _refuse_shared(engine, record)
        if is_running(record):
            network.disconnect(engine, record, endpoint, network.netns_of(engine, record))
        before = dataclasses.replace(record)
        record.endpoints = tuple(one for one in record.endpoints if one.number != endpoint.number)
        publishing = _pass_on_ports(engine, record) if endpoint.publishes else None
        engine.containers.update(record)
        if is_running(record):
            naming.changed(engine, before, record)
        if publishing is not None:
            _publish(engine, record, publishing)
            engine.containers.update(record)


def publish(
    engine: Engine, record: ContainerRecord, change: Callable[[ContainerRecord], Sequence[PortMapping]]
) -> tuple[PortMapping, ...]:
    """Have other ports of a container published; while it runs, at once.

    :param change: says which, of the container's record as it is then: others may be at it, too.
    :return: them, with the host's ports that were chosen.
    :raises FailedPrecondition: none of its networks can publish ports, or a port is in use; nothing has changed.
    """
    with engine.locked(record.id):
        record = current(engine, record)
        endpoint = next((one for one in record.endpoints if one.publishes), None)
        endpoint = endpoint or next((one for one in record.endpoints if can_publish(engine, one)), None)
        if endpoint is None:
            raise FailedPrecondition(
                f"container {record.name} is on no network that publishes ports: {record.network}",
                hint=f"connect it to one: plugrun network connect NETWORK {record.name}",
            )
        before, record.ports = record.ports, tuple(change(record))
        endpoint = endpoint._replace(publishes=True)
        network.replace(record, endpoint)
        settled = _publish(engine, record, endpoint, before)
        engine.containers.update(record)
        return settled


def _publish(
    engine: Engine, record: ContainerRecord, endpoint: Endpoint, before: Iterable[PortMapping] = ()
) -> tuple[PortMapping, ...]:
    """Have the driver publish a container's ports; those of the host that it chose ``before`` stay."""
    previous = network.result_of(endpoint.result)
    if previous is None or not is_running(record):
        return record.ports
    driver = engine.network(endpoint.driver, endpoint.options)
    assert isinstance(driver, SupportsPorts)
    at = network.attachment(engine, record, endpoint, network.netns_of(engine, record))
    ports = settled_as_before(at.ports, previous.ports, {*before, *record.ports})
    result = driver.publish(at._replace(ports=ports), previous)
    network.replace(record, endpoint._replace(result=network.stored(result)))
    return result.ports


def _pass_on_ports(engine: Engine, record: ContainerRecord) -> Endpoint | None:
    """Mark another endpoint as the one that publishes, if there is one that can, and return it."""
    endpoint = next((one for one in record.endpoints if can_publish(engine, one)), None)
    if endpoint is not None:
        endpoint = endpoint._replace(publishes=True)
        network.replace(record, endpoint)
    elif record.ports or record.config.publish_all:
        engine.warn(f"the ports of container {record.name} are published no more: no network of its publishes ports")
    return endpoint


def _endpoint(engine: Engine, record: ContainerRecord, name: str) -> Endpoint | None:
    for one in record.endpoints:
        if name in {one.name, one.network}:
            return one
    try:
        wanted = engine.networks.find(name).network.id
    except NotFound:
        if not any(one.name == name for one in record.endpoints):
            raise
    return next((one for one in record.endpoints if one.network == wanted), None)


def _refuse_shared(engine: Engine, record: ContainerRecord) -> None:
    wanted = network.plan(engine, record)
    if not isinstance(wanted, New):
        raise FailedPrecondition(
            f"container {record.name} has no network of its own to change: its network is {record.network}",
            hint="make another container on the networks it needs",
        )
