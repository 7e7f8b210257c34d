"""Networks: what a driver's containers meet on. Users make them, and each driver that has networks has a default one.

A network is a record, and nothing on the host until the driver sets up the first endpoint on it. Networks are made and
removed under one lock, so that no two get the same addresses.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING

from plugrun import locks, names
from plugrun.api import Network, NetworkDraft, NetworkDriver, Subnet, SupportsNetworks
from plugrun.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PlugrunError
from plugrun.state.networks import NetworkRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from plugrun.engine import Engine


def create(
    engine: Engine,
    name: str,
    *,
    driver: str | None = None,
    subnets: Sequence[Subnet] = (),
    ipv6: bool = False,
    internal: bool = False,
    options: Mapping[str, str] = MappingProxyType({}),
    labels: Mapping[str, str] = MappingProxyType({}),
) -> NetworkRecord:
    """Make a network.

    :param driver: name of a network driver that has networks; ``None`` for the default one.
    :raises AlreadyExists: the name is taken, or is a driver's.
    :raises InvalidArgument: the name, a subnet or an option makes no sense, or the driver has no networks.
    :raises FailedPrecondition: a subnet is taken.
    """
    names.check(name, "network")
    if name in engine.plugins.network:
        raise AlreadyExists(f"{name!r} is the name of a network driver", hint="choose another name")
    declared = engine.plugins.select_network(driver, engine.paths.root)
    opened = engine.network(declared.spec.name, {})
    if not isinstance(opened, SupportsNetworks):
        raise InvalidArgument(
            f"network driver {declared.spec.name!r} has no networks to make",
            hint=f"use it as it is: plugrun run --net {declared.spec.name}",
        )
    draft = NetworkDraft(os.urandom(32).hex(), name, tuple(subnets), ipv6, internal, dict(options))
    with _locked(engine):
        if engine.networks.named(name) is not None:
            raise AlreadyExists(f"there is a network {name} already", hint="choose another name")
        return _add(engine, declared.spec.name, opened, draft, labels)


def default(engine: Engine, driver: str, opened: NetworkDriver) -> Network | None:
    """Return the network of a driver for those who name none, made when first asked for.

    :return: ``None`` for a driver without networks.
    :raises FailedPrecondition: a user's network has its name, from before the driver was installed.
    """
    if not isinstance(opened, SupportsNetworks):
        return None
    found = engine.networks.named(driver)
    if found is None:
        with _locked(engine):
            found = engine.networks.named(driver)
            if found is None:
                draft = NetworkDraft(os.urandom(32).hex(), driver)
                found = _add(engine, driver, opened, draft, {}, default=True)
    if not found.network.default:
        raise FailedPrecondition(
            f"network driver {driver!r} cannot have its default network: there is one of its name already",
            hint=f"remove that first: plugrun network rm {driver}",
        )
    return found.network


def ensure_defaults(engine: Engine) -> None:
    """Make the default network of every driver that works here and has networks, for those who want to see them.

    One that cannot be made is a warning.
    """
    from plugrun.drivers import finding

    for name, declared in engine.plugins.network.items():
        if engine.networks.named(name) is None and finding("network", declared, engine.paths.root) is None:
            try:
                default(engine, name, engine.network(name, {}))
            except PlugrunError as error:
                engine.warn(f"network driver {name} has no default network: {error}")


def find(engine: Engine, name_or_id: str) -> NetworkRecord:
    """Return a network, as :meth:`plugrun.state.networks.NetworkStore.find`; a default one is made when asked for.

    :raises NotFound: there is none, or it is a driver without networks.
    :raises InvalidArgument: the beginning of an id fits several.
    """
    if name_or_id not in engine.plugins.network or engine.networks.named(name_or_id) is not None:
        return engine.networks.find(name_or_id)
    if default(engine, name_or_id, engine.network(name_or_id, {})) is None:
        raise NotFound(
            f"network driver {name_or_id!r} has no networks", hint="see all networks with: plugrun network ls"
        )
    return engine.networks.find(name_or_id)


def remove(engine: Engine, name: str) -> None:
    """Remove a network.

    :raises NotFound: there is none.
    :raises FailedPrecondition: a container is on it, or it is a driver's own.
    """
    record = engine.networks.find(name)
    network = record.network
    if network.default:
        raise FailedPrecondition(
            f"network {network.name} is what --net {network.driver} means, and stays",
            hint="'plugrun network prune' frees what it holds on the host while no container runs on it",
        )
    with _locked(engine):
        _remove(engine, network)


def prune(engine: Engine, unwanted: Callable[[NetworkRecord], bool] = lambda _: True) -> list[str]:
    """Remove the networks that no container is on, and what drivers keep on the host for containers that are gone.

    One that cannot be removed is a warning.

    :return: the names of those removed.
    """
    from plugrun.lifecycle import host_network

    removed, used = [], engine.networks.users()
    with _locked(engine):
        for record in engine.networks.all():
            network = record.network
            if network.id in used or network.default or not unwanted(record):
                continue
            try:
                _remove(engine, network)
            except PlugrunError as error:
                engine.warn(f"network {network.name} stays: {error}")
            else:
                removed.append(network.name)
    host_network.collect(engine)
    return removed


def _add(
    engine: Engine,
    driver: str,
    opened: SupportsNetworks,
    draft: NetworkDraft,
    labels: Mapping[str, str],
    *,
    default: bool = False,
) -> NetworkRecord:
    others = [record.network for record in engine.networks.all() if record.network.driver == driver]
    made = opened.make_network(draft, others)._replace(id=draft.id, name=draft.name, driver=driver, default=default)
    record = NetworkRecord(made, dict(labels), time.time())
    engine.networks.add(record)
    return record


def _remove(engine: Engine, network: Network) -> None:
    """Forget a network that no container is on, then have its driver let go of it; what a crash leaves, gc finds."""
    opened = engine.network(network.driver, {})
    engine.networks.remove(network)
    if isinstance(opened, SupportsNetworks):
        opened.remove_network(network)


def _locked(engine: Engine) -> AbstractContextManager[int]:
    return locks.held(engine.paths.networks_lock, what="the list of networks")
