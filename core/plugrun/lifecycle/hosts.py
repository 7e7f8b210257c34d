"""Names without a resolver: containers that meet on a user's network have each other in their ``/etc/hosts``.

That is so where a network has no resolver, or a container does not ask it. Such a container leaves a mark in a
directory of the network under the run root, by which others see, at the cost of one look, whether a file is to be
rewritten when they come or go.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from plugrun import locks
from plugrun.container import Status
from plugrun.errors import FailedPrecondition, PlugrunError
from plugrun.oci import etc_files, hosts_file, resolv_conf
from plugrun.paths import ensure_private

if TYPE_CHECKING:
    from plugrun.container import ContainerRecord
    from plugrun.endpoint import Endpoint
    from plugrun.engine import Engine


def about(engine: Engine, record: ContainerRecord, netns: str | None) -> etc_files.About:
    """Return what a container's files are about.

    :param netns: path of its network namespace; ``None`` for the host's.
    """
    config = record.config
    places = () if netns is None else tuple(place for _, place in _places(engine, record))
    return etc_files.About(
        hostname=config.hostname,
        name=record.name,
        host_network=netns is None,
        connected=bool(places) or netns != str(engine.paths.netns(record.id)),
        places=places,
        dns=config.dns,
        dns_search=config.dns_search,
        dns_options=config.dns_options,
        extra_hosts=config.extra_hosts,
    )


def enter(engine: Engine, record: ContainerRecord, about: etc_files.About) -> list[str]:
    """Mark a container as one whose file has others in it, on networks where it needs that.

    :return: the lines for the others that are there.
    """
    if not any(place.named for place in about.places):
        return []
    found = [endpoint for endpoint, place in _places(engine, record) if _needs_lines(about, place)]
    for endpoint in found:
        _mark(engine, record, endpoint)
    return _lines(engine, record, found)


def leave(engine: Engine, record: ContainerRecord) -> None:
    """Take the marks of a container away. Idempotent."""
    for network in _named(record.endpoints):
        with contextlib.suppress(OSError):
            (engine.paths.hosts(network) / record.id).unlink()


def refresh(engine: Engine, endpoints: Iterable[Endpoint]) -> None:
    """Bring the files of marked containers up to date once another one has come or gone, and is recorded so.

    One that cannot be is a warning.

    :param endpoints: where it came or went.
    """
    marked = set()
    for network in _named(endpoints):
        with contextlib.suppress(FileNotFoundError):
            marked |= set(os.listdir(engine.paths.hosts(network)))
    if not marked:
        return
    try:
        with locks.held(engine.paths.hosts_lock, what="the names of containers"):
            for container in sorted(marked):
                record = engine.containers.get(container)
                if record is not None and record.status is Status.RUNNING:
                    _update(engine, record)
    except FailedPrecondition as error:
        engine.warn(f"containers may not find each other by name: {error}")


def rewrite(engine: Engine, record: ContainerRecord, others: Sequence[str]) -> None:
    """Replace the changing part of a running container's file."""
    part = hosts_file.part(about(engine, record, str(engine.paths.netns(record.id))), others)
    etc_files.rewrite_hosts(engine.paths.container(record.id), part)


def _update(engine: Engine, record: ContainerRecord) -> None:
    marked = [one for one in record.endpoints if (engine.paths.hosts(one.network) / record.id).exists()]
    try:
        rewrite(engine, record, _lines(engine, record, marked))
    except (OSError, PlugrunError) as error:
        engine.warn(f"container {record.name} may not find others by name: {error}")


def _lines(engine: Engine, record: ContainerRecord, endpoints: Iterable[Endpoint]) -> list[str]:
    """Return the lines for the running containers on the networks of some endpoints."""
    found = []
    for network in dict.fromkeys(endpoint.network for endpoint in endpoints):
        for other in engine.containers.running_on(network):
            at = next(endpoint for endpoint in other.endpoints if endpoint.network == network)
            names = list(dict.fromkeys((other.name, *at.aliases, other.short_id)))
            if other.id != record.id:
                found += [hosts_file.line(hosts_file.bare(address), names) for address in at.addresses]
            elif at.aliases:
                found += [hosts_file.line(hosts_file.bare(address), at.aliases) for address in at.addresses]
    return found


def _needs_lines(about: etc_files.About, place: etc_files.Place) -> bool:
    """Whether no resolver that the container asks knows the names of a network."""
    asks = not about.dns and resolv_conf.nameservers(about.places)
    return place.named and not (asks and place.nameservers)


def _mark(engine: Engine, record: ContainerRecord, endpoint: Endpoint) -> None:
    directory = engine.paths.hosts(endpoint.network)
    if not directory.is_dir():
        ensure_private(directory)
        result = endpoint.result or {}
        if not result.get("nameservers"):
            why = f" ({result['unnamed']})" if result.get("unnamed") else ""
            engine.warn(
                f"no resolver knows the names on network {endpoint.name}{why}: its containers have them in /etc/hosts"
            )
    (directory / record.id).touch()


def _named(endpoints: Iterable[Endpoint]) -> set[str]:
    return {endpoint.network for endpoint in endpoints if endpoint.has_names}


def _places(engine: Engine, record: ContainerRecord) -> Iterator[tuple[Endpoint, etc_files.Place]]:
    for endpoint in record.endpoints:
        if not endpoint.network and not endpoint.addresses:
            continue
        found = engine.networks.get(endpoint.network) if endpoint.network else None
        result = endpoint.result or {}
        yield (
            endpoint,
            etc_files.Place(
                addresses=endpoint.addresses,
                nameservers=tuple(result.get("nameservers", ())),
                gateways=tuple(result.get("gateways", ())),
                internal=found is not None and found.network.internal,
                named=endpoint.has_names,
            ),
        )
