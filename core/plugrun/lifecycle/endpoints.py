"""Which networks a container goes on: from what the user asked for to endpoints in its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from plugrun import names, namespaces, networks
from plugrun.api import Existing, Host, Join, New, SupportsPorts
from plugrun.endpoint import Endpoint
from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound
from plugrun.ports import PortMapping, exposed
from plugrun.request import ContainerRequest, NetworkChoice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plugrun.api import NamespacePlan, Network
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine


def plan(engine: Engine, request: ContainerRequest) -> tuple[tuple[Endpoint, ...], NamespacePlan]:
    """Return the endpoints of a new container, and the namespace it will live in.

    :raises NotFound: there is no such network, driver, or container to join.
    :raises InvalidArgument: networks that cannot go together, or an address for one that gives none.
    :raises FailedPrecondition: ports for a container that has none of its own.
    """
    found: list[Endpoint] = []
    plans: list[NamespacePlan] = []
    for number, choice in enumerate(request.networks or (NetworkChoice(),)):
        endpoint, wanted = choose(engine, choice, request.network_options, number)
        if any(other.name == endpoint.name for other in found):
            raise InvalidArgument(f"network {endpoint.name} is given twice", hint="name each network once")
        found.append(endpoint)
        plans.append(wanted)
    for endpoint, wanted in zip(found, plans, strict=True):
        if len(found) > 1 and not (isinstance(wanted, New) and endpoint.network):
            raise InvalidArgument(
                f"network {endpoint.name} cannot be used together with others", hint=f"use --net {endpoint.name} alone"
            )
    if request.ports or request.publish_all:
        found = _publishing(engine, found, plans[0], has_ports=bool(request.ports))
    return tuple(found), plans[0]


def choose(
    engine: Engine, choice: NetworkChoice, options: Mapping[str, str], number: int
) -> tuple[Endpoint, NamespacePlan]:
    """Return one endpoint, not connected yet, and the namespace its driver plans for; raises as :func:`plan`.

    :param options: of the driver.
    """
    name, target, network = _resolve(engine, choice.value)
    driver = engine.network(name, options)
    wanted = driver.namespace(target)
    network = network or networks.default(engine, name, driver)
    if network is None and (choice.ip or choice.ip6 or choice.mac or choice.aliases):
        raise InvalidArgument(
            f"network {choice.value or name} gives no addresses and no names, so none can be chosen",
            hint="leave out --ip, --ip6, --mac-address and --network-alias, or use another network",
        )
    joined = engine.containers.find(wanted.container).id if isinstance(wanted, Join) else ""
    if isinstance(wanted, Existing):
        namespaces.check(wanted.path)
    endpoint = Endpoint(
        driver=name,
        api=str(engine.plugins.network[name].spec.api),
        network=network.id if network else "",
        name=network.name if network else choice.value or name,
        target=target,
        options=dict(options),
        joined=joined,
        number=number,
        ip=choice.ip,
        ip6=choice.ip6,
        mac=choice.mac,
        aliases=tuple(choice.aliases),
    )
    return endpoint, wanted


def check(engine: Engine, record: ContainerRecord) -> None:
    """See, once a container is recorded and so keeps its networks from being removed, that they are still there.

    :raises NotFound: one was removed meanwhile.
    """
    for endpoint in record.endpoints:
        if endpoint.network and engine.networks.get(endpoint.network) is None:
            raise NotFound(f"network {endpoint.name} has just been removed")


def can_publish(engine: Engine, endpoint: Endpoint) -> bool:
    """Whether ports can be published at an endpoint."""
    record = engine.networks.get(endpoint.network) if endpoint.network else None
    internal = record is not None and record.network.internal
    return not internal and isinstance(engine.network(endpoint.driver, endpoint.options), SupportsPorts)


def exposed_ports(texts: Sequence[str], published: Sequence[PortMapping]) -> tuple[PortMapping, ...]:
    """Return mappings for exposed ports that nobody has published yet; the driver chooses ports of the host."""
    taken = {(one.protocol, one.container_port + offset) for one in published for offset in range(one.size)}
    wanted = {(one.protocol, one.container_port): one for text in texts for one in exposed(text)}
    return tuple(one for key, one in wanted.items() if key not in taken)


def _resolve(engine: Engine, value: str | None) -> tuple[str, str | None, Network | None]:
    """Find out what a ``--net`` value means: a driver's name, what a plugin claims, or a network's name or id."""
    plugins, root = engine.plugins, engine.paths.root
    if value is None:
        return plugins.select_network(None, root).spec.name, None, None
    request = plugins.parse_network(value)
    if value in plugins.network or request.driver != value:
        return plugins.select_network(request.driver, root).spec.name, request.target, None
    try:
        network = engine.networks.find(value).network
    except NotFound as error:
        rejected = any(one.name == value and one.kind in {"network", ""} for one in plugins.rejected)
        if rejected:
            plugins.select_network(value, root)  # says what is wrong with it
        known = dict.fromkeys([*plugins.network, *(one.network.name for one in engine.networks.all())])
        make = f"make it: plugrun network create {value}; or " if names.is_valid(value) else ""
        raise NotFound(
            f"no network or network driver {value!r}", hint=f"{make}use one of: {', '.join(known)}"
        ) from error
    return plugins.select_network(network.driver, root).spec.name, None, network


def _publishing(engine: Engine, found: list[Endpoint], wanted: NamespacePlan, *, has_ports: bool) -> list[Endpoint]:
    """Mark the endpoint at which ports are published."""
    for number, endpoint in enumerate(found):
        if can_publish(engine, endpoint):
            return [*found[:number], endpoint._replace(publishes=True), *found[number + 1 :]]
    name = found[0].name
    if isinstance(wanted, Host):
        engine.warn(f"published ports are ignored: with network {name} the container's ports are the host's own")
    elif isinstance(wanted, Join):
        raise FailedPrecondition(
            f"a container with network {name} publishes no ports of its own",
            hint=f"publish them where the network is made: plugrun port add {wanted.container} PORT:PORT",
        )
    elif has_ports or isinstance(wanted, Existing):
        raise FailedPrecondition(
            f"network {name} publishes no ports", hint="use a network that does, such as the default, or leave out -p"
        )
    return found
