"""``plugrun network``: ``create``, ``ls``, ``rm``, ``prune``, ``exists``; the rest is where its like are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from plugrun import networks
from plugrun.cli import parse, text
from plugrun.cli.context import Globals, engine
from plugrun.cli.errors import report
from plugrun.cli.params import argument, option
from plugrun.cli.questions import confirm
from plugrun.errors import NotFound, PlugrunError

if TYPE_CHECKING:
    from plugrun.state.networks import NetworkRecord

_COLUMNS = {"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Subnets": "SUBNETS"}


def create(
    common: Globals,
    name: Annotated[str, argument("NAME")],
    driver: Annotated[str | None, option("--driver", "-d", help="Network driver.", metavar="DRIVER")] = None,
    subnet: Annotated[
        list[str] | None, option("--subnet", help="Addresses of the network; chosen without it.", metavar="CIDR")
    ] = None,
    gateway: Annotated[
        list[str] | None, option("--gateway", help="The host's address in its subnet.", metavar="ADDRESS")
    ] = None,
    ip_range: Annotated[
        list[str] | None, option("--ip-range", help="Part of a subnet that containers get.", metavar="CIDR")
    ] = None,
    ipv6: Annotated[bool, option("--ipv6", help="Give IPv6 addresses, too.")] = False,
    internal: Annotated[bool, option("--internal", help="Let nothing out of the network or into it.")] = False,
    opt: Annotated[
        list[str] | None, option("--opt", "-o", help="The driver's own option.", metavar="KEY=VALUE")
    ] = None,
    label: Annotated[list[str] | None, option("--label", help="Label of the network.", metavar="KEY=VALUE")] = None,
) -> None:
    """Make a network; print its name, which is what other commands take.

    An IPv6 subnet has its containers get IPv6 addresses, with or without `--ipv6`.
    """
    from plugrun.cli import network_config

    for value in (name, driver or "", opt or [], label or []):
        parse.check_text(value)
    options, labels = parse.driver_options(opt or [], "--opt"), parse.labels(label or [])
    found = network_config.subnets(subnet or [], gateway or [], ip_range or [])
    with engine(common) as opened:
        made = networks.create(
            opened,
            name,
            driver=driver,
            subnets=found,
            ipv6=ipv6 or network_config.has_ipv6(found),
            internal=internal,
            options=options,
            labels=labels,
        )
    text.say(made.network.name)


def ls(
    common: Globals,
    quiet: Annotated[bool, option("--quiet", "-q", help="Only ids.")] = False,
    no_trunc: Annotated[bool, option("--no-trunc", help="Show ids whole.")] = False,
    format_: Annotated[str | None, option("--format", help="table, json, or a Go template.", metavar="FORMAT")] = None,
    filters: Annotated[
        list[str] | None,
        option("--filter", "-f", help="name, driver, label, id or dangling, as KEY=VALUE.", metavar="FILTER"),
    ] = None,
) -> None:
    """List networks: those that users have made, and the default one of each driver that has networks."""
    from plugrun import network_filters

    with engine(common, changes=False) as opened:
        networks.ensure_defaults(opened)
        users = opened.networks.users()
        fits = network_filters.parse(filters or (), users)
        found = [record for record in opened.networks.all() if fits(record)]
    rows = [_row(record, len(users.get(record.network.id, ())), whole=no_trunc) for record in found]
    shown = "\n".join(row["ID"] for row in rows) if quiet and not format_ else text.render(rows, format_, _COLUMNS)
    if shown:
        text.say(shown)


def exists(common: Globals, name: Annotated[str, argument("NETWORK")]) -> int:
    """Exit with 0 if there is a network of this name or id, with 1 if there is none."""
    with engine(common, changes=False) as opened:
        try:
            networks.find(opened, name)
        except NotFound:
            return 1
    return 0


def rm(common: Globals, names: Annotated[list[str], argument("NETWORK...")]) -> int:
    """Remove networks; one that a container is on stays."""
    failed = 0
    with engine(common) as opened:
        for name in names:
            try:
                networks.remove(opened, name)
            except (PlugrunError, ExceptionGroup) as error:
                report(error)
                failed = 1
            else:
                text.say(name)
    return failed


def prune(
    common: Globals,
    force: Annotated[bool, option("--force", "-f", help="Do not ask.")] = False,
    filters: Annotated[
        list[str] | None, option("--filter", help="until=TIME or AGE, label[!]=KEY[=VALUE].", metavar="FILTER")
    ] = None,
) -> None:
    """Remove the networks that users have made and no container is on, running or not."""
    from plugrun import network_filters

    fits = network_filters.parse(filters or (), (), network_filters.PRUNING)
    if not force:
        limits = f" that fit {', '.join(map(text.printable, filters))}" if filters else ""
        confirm(f"This will remove all custom networks not used by at least one container{limits}.")
    with engine(common) as opened:
        removed = networks.prune(opened, fits)
    if removed:
        text.say("\n".join(["Deleted Networks:", *removed]))


def _row(record: NetworkRecord, users: int, *, whole: bool) -> dict[str, Any]:
    network = record.network
    return {
        "ID": network.id if whole else network.id[:12],
        "Name": network.name,
        "Driver": network.driver,
        "Subnets": ", ".join(one.subnet for one in network.subnets),
        "Interface": network.interface,
        "IPv4": str(any("." in one.subnet for one in network.subnets)).lower(),
        "IPv6": str(network.ipv6).lower(),
        "Internal": str(network.internal).lower(),
        "Default": str(network.default).lower(),
        "Labels": ",".join(f"{key}={value}" for key, value in record.labels.items()),
        "Links": str(users),
        "Scope": "local",
        "CreatedAt": text.timestamp(record.created),
    }
