"""What ``inspect`` and ``ps`` say of networks, and of a container's places on them and its ports: Docker's fields."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from plugrun import ports as parsing
from plugrun.cli import network_config, text
from plugrun.ports import PortMapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from plugrun.container import ContainerConfig, ContainerRecord
    from plugrun.endpoint import Endpoint
    from plugrun.engine import Engine
    from plugrun.state.networks import NetworkRecord

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - what is shown for all addresses


def details(opened: Engine, record: NetworkRecord) -> dict[str, Any]:
    """Return everything known about a network; of its containers those that are connected to it now."""
    network = record.network
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": text.timestamp(record.created),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv6": network.ipv6,
        "IPAM": {"Driver": "default", "Config": list(network_config.shown(network))},
        "Internal": network.internal,
        "Default": network.default,
        "Interface": network.interface,
        "Containers": dict(_containers(opened, network.id)),
        "Options": dict(network.options),
        "Labels": dict(record.labels),
    }


def settings(opened: Engine, record: ContainerRecord) -> dict[str, Any]:
    """Return a container's ``NetworkSettings``; the addresses of the first network are at the top, too."""
    networks = {one.name: _endpoint(opened, record, one) for one in record.endpoints}
    first = next(iter(networks.values()), _addresses(None))
    top = ("IPAddress", "IPPrefixLen", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "Gateway", "IPv6Gateway")
    return {
        "SandboxKey": str(opened.paths.netns(record.id)),
        **{name: first[name] for name in (*top, "MacAddress")},
        "Ports": ports(record),
        "Networks": networks,
    }


def ports(record: ContainerRecord) -> dict[str, list[dict[str, str]] | None]:
    """Return where the ports of a container are reachable now; ``None`` for one that is exposed and not published."""
    found: dict[str, list[dict[str, str]] | None] = dict.fromkeys(exposed(record.config))
    for inside, address, port in sorted(each(published(record)), key=by_number):
        found[inside] = [*(found.get(inside) or ()), {"HostIp": address, "HostPort": str(port)}]
    return found


def host_config(record: ContainerRecord) -> dict[str, Any]:
    """Return what was asked for, as a container's ``HostConfig`` has it."""
    config = record.config
    bindings: dict[str, list[dict[str, str]]] = {}
    for one in record.ports:
        for offset in range(one.size):
            inside = f"{one.container_port + offset}/{one.protocol}"
            port = str(one.host_port + offset) if one.host_port else ""
            bindings.setdefault(inside, []).append({"HostIp": one.host_address, "HostPort": port})
    return {
        "NetworkMode": record.endpoints[0].name if record.endpoints else "none",
        "PortBindings": bindings,
        "PublishAllPorts": config.publish_all,
        "Dns": list(config.dns),
        "DnsSearch": list(config.dns_search),
        "DnsOptions": list(config.dns_options),
        "ExtraHosts": [f"{name}:{address}" for name, address in config.extra_hosts],
    }


def exposed(config: ContainerConfig) -> list[str]:
    """Return the ports that the image or the user says a container listens on, one by one."""
    return [one.inside for text in config.exposed for one in parsing.exposed(text)]


def published(record: ContainerRecord) -> list[PortMapping]:
    """Return what is published of a container now, every host port settled."""
    stored = (one.result for one in record.endpoints if one.publishes and one.result)
    return [PortMapping(*port) for result in stored for port in result.get("ports", ())]


def shown_ports(record: ContainerRecord) -> str:
    """Return the ports of a container in a line: those published, then those only exposed."""
    found = published(record)
    taken = {inside for inside, _, _ in each(found)}
    bare = [
        PortMapping(ports[0].container_port, protocol=ports[0].protocol, size=len(ports)).inside
        for ports in map(parsing.exposed, record.config.exposed)
        if any(one.inside not in taken for one in ports)
    ]
    return ", ".join([*map(str, found), *dict.fromkeys(bare)])


def each(ports: Iterable[PortMapping]) -> Iterator[tuple[str, str, int]]:
    """Yield each published port by itself: what it is in the container, and address and port on the host."""
    for one in ports:
        for address in (one.host_address,) if one.host_address else _EVERYWHERE:
            for offset in range(one.size):
                yield f"{one.container_port + offset}/{one.protocol}", address, one.host_port + offset


def by_number(port: tuple[str, str, int]) -> tuple[int, str, bool, int]:
    """Return what to sort the answers of :func:`each` by."""
    number, _, protocol = port[0].partition("/")
    return int(number), protocol, ":" in port[1], port[2]


def _containers(opened: Engine, network: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for container in opened.networks.users().get(network, ()):
        record = opened.containers.get(container)
        for endpoint in record.endpoints if record else ():
            if record and endpoint.network == network and endpoint.result is not None:
                by_kind = {":" in one: one for one in reversed(endpoint.addresses)}
                yield (
                    container,
                    {
                        "Name": record.name,
                        "MacAddress": endpoint.result.get("mac", ""),
                        "IPv4Address": by_kind.get(False, ""),
                        "IPv6Address": by_kind.get(True, ""),
                    },
                )


def _endpoint(opened: Engine, record: ContainerRecord, endpoint: Endpoint) -> dict[str, Any]:
    found = opened.networks.get(endpoint.network) if endpoint.network else None
    names = [record.name, *endpoint.aliases, record.short_id] if found and not found.network.default else []
    return {
        "NetworkID": endpoint.network,
        "Driver": endpoint.driver,
        "Interface": (endpoint.result or {}).get("interface", ""),
        "IPAMConfig": {"IPv4Address": endpoint.ip or "", "IPv6Address": endpoint.ip6 or ""},
        **_addresses(endpoint),
        "Addresses": list(endpoint.addresses),
        "Aliases": list(endpoint.aliases),
        "DNSNames": list(dict.fromkeys(names)),
    }


def _addresses(endpoint: Endpoint | None) -> dict[str, Any]:
    """Return the first address of each kind, with Docker's names; empty ones while it is not connected."""
    result = (endpoint.result if endpoint else None) or {}
    known = {":" in one: ipaddress.ip_interface(one) for one in reversed(result.get("addresses", ()))}
    gateways = {":" in one: one for one in reversed(result.get("gateways", ()))}
    four, six = known.get(False), known.get(True)
    return {
        "MacAddress": result.get("mac", ""),
        "IPAddress": str(four.ip) if four else "",
        "IPPrefixLen": four.network.prefixlen if four else 0,
        "GlobalIPv6Address": str(six.ip) if six else "",
        "GlobalIPv6PrefixLen": six.network.prefixlen if six else 0,
        "Gateway": gateways.get(False, ""),
        "IPv6Gateway": gateways.get(True, ""),
    }
