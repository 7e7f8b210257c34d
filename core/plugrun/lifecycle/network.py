"""The network step of a start: the namespace, and the drivers' endpoints in it; and one endpoint by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugrun import namespaces, processes
from plugrun.errors import FailedPrecondition, NotFound
from plugrun.lifecycle import host_network
from plugrun.lifecycle.state import is_running
from plugrun.undo import run_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from plugrun.api import Attachment, NamespacePlan, NetResult
    from plugrun.container import ContainerRecord
    from plugrun.endpoint import Endpoint
    from plugrun.engine import Engine
    from plugrun.lifecycle.steps import Starting


class Network:
    """The network namespace and the endpoints in it."""

    name = "network"

    def acquire(self, at: Starting) -> None:
        """Make or find the namespace that the first endpoint's driver plans for, and have all endpoints set up."""
        record = at.record
        with host_network.setting_up(at.engine):  # from the namespace on: one whose start is not seen yet is collected
            at.netns = _namespace(at.engine, record, plan(at.engine, record))
            for endpoint in record.endpoints:
                replace(record, connect(at.engine, record, endpoint, at.netns))

    def release(self, at: Starting) -> None:
        """Have the drivers tear down, last endpoint first, then let the namespace go. They may need it."""
        record, pin = at.record, at.engine.paths.netns(at.record.id)
        netns = str(pin) if pin.exists() else None
        failures = run_all(
            (f"network {endpoint.name}", lambda one=endpoint: _teardown(at.engine, record, one, netns, leaving=True))  # type: ignore[misc]
            for endpoint in reversed(record.endpoints)
        )
        namespaces.delete(pin)
        if any(endpoint.has_names for endpoint in record.endpoints):
            from plugrun.lifecycle import hosts

            hosts.leave(at.engine, record)
        if failures:
            raise ExceptionGroup(f"the networks of container {record.name} could not be torn down", failures)
        record.endpoints = tuple(endpoint._replace(result=None) for endpoint in record.endpoints)


def tell_others(engine: Engine, endpoints: Iterable[Endpoint]) -> None:
    """Have other containers' names brought up to date, once a container has come to networks, or gone from them."""
    if any(endpoint.has_names for endpoint in endpoints):
        from plugrun.lifecycle import hosts

        hosts.refresh(engine, endpoints)


def plan(engine: Engine, record: ContainerRecord) -> NamespacePlan:
    """Return which namespace a container lives in; one without endpoints in its own."""
    from plugrun.api import New

    if not record.endpoints:
        return New()
    first = record.endpoints[0]
    return engine.network(first.driver, first.options).namespace(first.target)


def joined(engine: Engine, record: ContainerRecord) -> list[str]:
    """Return the names of the running containers that share a container's network namespace."""
    return sorted(other.name for other in engine.containers.joined_to(record.id) if is_running(other))


def netns_of(engine: Engine, record: ContainerRecord) -> str | None:
    """Return the path of a running container's network namespace; ``None`` for the host's, or if it is gone."""
    from plugrun.api import New

    wanted = plan(engine, record)
    if isinstance(wanted, New):
        pin = engine.paths.netns(record.id)
        return str(pin) if pin.exists() else None
    try:
        return _namespace(engine, record, wanted)
    except (FailedPrecondition, NotFound):
        return None


def connect(engine: Engine, record: ContainerRecord, endpoint: Endpoint, netns: str | None) -> Endpoint:
    """Have an endpoint set up; return it with what came of it. If it fails, :func:`disconnect` it."""
    driver = engine.network(endpoint.driver, endpoint.options)
    with engine.room():
        return endpoint._replace(result=stored(driver.setup(attachment(engine, record, endpoint, netns))))


def disconnect(engine: Engine, record: ContainerRecord, endpoint: Endpoint, netns: str | None) -> None:
    """Have an endpoint torn down while its container runs on."""
    _teardown(engine, record, endpoint, netns, leaving=False)


def replace(record: ContainerRecord, endpoint: Endpoint) -> None:
    """Put an endpoint in the place of the one of its number."""
    record.endpoints = tuple(endpoint if one.number == endpoint.number else one for one in record.endpoints)


def attachment(
    engine: Engine, record: ContainerRecord, endpoint: Endpoint, netns: str | None, *, leaving: bool = False
) -> Attachment:
    """Return an endpoint as its driver sees it.

    :raises NotFound: its network is gone.
    """
    from plugrun.api import Attachment
    from plugrun.lifecycle.endpoints import exposed_ports

    network = None
    if endpoint.network:
        found = engine.networks.get(endpoint.network)
        if found is None and not leaving:
            raise NotFound(
                f"network {endpoint.name} of container {record.name} is gone",
                hint=f"take it off: plugrun network disconnect {endpoint.name} {record.name}",
            )
        network = found.network if found else None
    ports = record.ports if endpoint.publishes else ()
    if endpoint.publishes and record.config.publish_all:
        ports = (*ports, *exposed_ports(record.config.exposed, ports))
    return Attachment(
        record.id,
        record.config.hostname,
        netns,
        endpoint.target,
        network=network,
        name=record.name,
        number=endpoint.number,
        ip=endpoint.ip,
        ip6=endpoint.ip6,
        mac=endpoint.mac,
        aliases=endpoint.aliases,
        ports=ports,
        leaving=leaving,
    )


def stored(result: NetResult) -> dict[str, Any]:
    """Return a driver's result as JSON can carry it."""
    return {**result._asdict(), "data": dict(result.data), "ports": [tuple(port) for port in result.ports]}


def result_of(stored: Mapping[str, Any] | None) -> NetResult | None:
    """Return the result that :func:`stored` made JSON of."""
    from plugrun.api import NetResult, PortMapping

    if stored is None:
        return None
    values = {name: value for name, value in stored.items() if name in NetResult._fields}
    for name in ("addresses", "nameservers", "gateways"):
        values[name] = tuple(values.get(name, ()))
    values["ports"] = tuple(PortMapping(*port) for port in values.get("ports", ()))
    return NetResult(**values)


def _teardown(engine: Engine, record: ContainerRecord, endpoint: Endpoint, netns: str | None, *, leaving: bool) -> None:
    driver = engine.network(endpoint.driver, endpoint.options)
    with engine.room():
        driver.teardown(attachment(engine, record, endpoint, netns, leaving=leaving), result_of(endpoint.result))


def _namespace(engine: Engine, record: ContainerRecord, wanted: NamespacePlan) -> str | None:
    from plugrun.api import Existing, Host, New

    if isinstance(wanted, Host):
        return None
    if isinstance(wanted, New):
        pin = engine.paths.netns(record.id)
        namespaces.create(pin)
        return str(pin)
    if isinstance(wanted, Existing):
        namespaces.check(wanted.path)
        return wanted.path
    other = engine.containers.get(record.endpoints[0].joined)
    if other is None:
        raise FailedPrecondition(
            f"container {wanted.container}, whose network container {record.name} shares, has been removed",
            hint="make the container again, with the network of another one",
        )
    if not processes.alive(other.pid, other.pid_start):
        raise FailedPrecondition(
            f"container {other.name} is not running, so its network cannot be shared",
            hint=f"start it first: plugrun start {other.name}",
        )
    pin = engine.paths.netns(other.id)  # is there if the namespace is its own, and cannot be another one's by now
    return str(pin) if pin.exists() else f"/proc/{other.pid}/ns/net"
