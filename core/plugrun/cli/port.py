"""``plugrun port``: which ports of a container are published, and ``add`` and ``rm`` of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from plugrun.cli import network_details, port_option, text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument
from plugrun.errors import FailedPrecondition, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from plugrun.container import ContainerRecord
    from plugrun.ports import PortMapping

_Container = Annotated[str, argument("CONTAINER")]
_Publish = Annotated[list[str], argument("[[ADDR:]HOST:]PORT[/PROTO]...")]


def port(
    common: Globals, container: _Container, private: Annotated[str | None, argument("[PORT[/PROTO]]")] = None
) -> None:
    """Show where the ports of a container are published now, or one of them."""
    wanted = None if private is None else port_option.inside(private)
    with engine(common, changes=False) as opened:
        record = opened.containers.find(container)
    lines = _lines(network_details.published(record))
    if wanted is None:
        shown = [f"{inside} -> {outside}" for inside, outside in lines]
    else:
        shown = [outside for inside, outside in lines if inside == wanted]
        if not shown:
            raise NotFound(
                f"port {wanted} of container {record.name} is not published",
                hint=f"publish it: plugrun port add {record.name} {wanted}",
            )
    if shown:
        text.say("\n".join(shown))


def add(common: Globals, container: _Container, ports: _Publish) -> None:
    """Publish more ports of a container, at once if it runs; print where they are."""
    from plugrun.lifecycle.connect import publish

    more = port_option.publish(ports)
    with engine(common) as opened:
        settled = publish(opened, opened.containers.find(container), lambda record: _with(record, more))
    insides = {inside for inside, _, _ in network_details.each(more)}
    for inside, outside in _lines(one for one in settled if one.host_port):
        if inside in insides:
            text.say(f"{inside} -> {outside}")


def rm(common: Globals, container: _Container, ports: _Publish) -> None:
    """Publish ports of a container no more, at once if it runs: those at a port of the host, or all of a bare port."""
    from plugrun.lifecycle.connect import publish

    wanted = {text: port_option.mapping(text) for text in ports}
    with engine(common) as opened:
        publish(opened, opened.containers.find(container), lambda record: _without(record, wanted))


def _lines(ports: Iterable[PortMapping]) -> list[tuple[str, str]]:
    """Return what ports are in the container and where on the host, in order, as Docker writes both."""
    found = sorted(network_details.each(ports), key=network_details.by_number)
    return [
        (inside, f"[{address}]:{number}" if ":" in address else f"{address}:{number}")
        for inside, address, number in found
    ]


def _with(record: ContainerRecord, more: Sequence[PortMapping]) -> list[PortMapping]:
    """Return the ports of a container and some more.

    :raises FailedPrecondition: two would want the same port of the host.
    """
    together = list(dict.fromkeys((*record.ports, *more)))
    for one, other in port_option.clashes(together):
        taken = one if one in record.ports else other
        raise FailedPrecondition(
            f"port {other.host_port} of the host leads to {taken.inside} of container {record.name} already",
            hint=f"choose another one, or see: plugrun port {record.name}",
        )
    return together


def _without(record: ContainerRecord, unwanted: Mapping[str, PortMapping]) -> list[PortMapping]:
    """Return the ports of a container that are left without some.

    :raises NotFound: one is not published, or only together with others of its range.
    """
    settled = {one._replace(host_port=0): one for one in network_details.published(record)}
    left = list(record.ports)
    for asked, wanted in unwanted.items():
        gone = [one for one in left if _is_in(one if one.host_port else settled.get(one, one), wanted)]
        if not gone:
            others = ", ".join(map(str, left)) or "none"
            raise NotFound(f"port {asked} of container {record.name} is not published", hint=f"published: {others}")
        left = [one for one in left if one not in gone]
    return left


def _is_in(one: PortMapping, wanted: PortMapping) -> bool:
    """Whether a mapping is all in what is to be removed, at any port and address of the host if it says none."""
    offset = one.container_port - wanted.container_port
    return (
        one.protocol == wanted.protocol
        and 0 <= offset <= wanted.size - one.size
        and wanted.host_address in {"", one.host_address}
        and (not wanted.host_port or one.host_port - wanted.host_port == offset)
    )
