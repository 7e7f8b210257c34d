"""``plugrun network explain`` and ``reload``: which way packets go, and the rules on their way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from plugrun.api import SupportsExplain, SupportsReload
from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option
from plugrun.errors import FailedPrecondition, InvalidArgument
from plugrun.lifecycle import network
from plugrun.lifecycle.state import is_running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plugrun.api import PacketPath
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine


def explain(
    common: Globals,
    container: Annotated[str, argument("CONTAINER")],
    format_: Annotated[str | None, option("--format", help="json, or a Go template.", metavar="FORMAT")] = None,
) -> None:
    """Show which way packets go into a running container and out of it, as the system has it now."""
    with engine(common, changes=False) as opened:
        record = opened.containers.find(container)
        if not is_running(record):
            raise FailedPrecondition(
                f"container {record.name} does not run, so no packet goes anywhere",
                hint=f"start it first: plugrun start {record.name}",
            )
        found = [(name, paths) for name, paths in _paths(opened, record) if paths]
    if format_:
        values = [_as_values(name, path) for name, paths in found for path in paths]
        text.say(json.dumps(values) if format_ == "json" else "\n".join(text.fill(format_, one) for one in values))
        return
    if not found:
        raise InvalidArgument(
            f"no network of container {record.name} can say which way packets go: {record.network}",
            hint=_instead(record),
        )
    text.say("\n\n".join(_listing(name, path) for name, paths in found for path in paths))


def reload(
    common: Globals,
    containers: Annotated[list[str] | None, argument("[CONTAINER]...")] = None,
    all_: Annotated[bool, option("--all", "-a", help="All drivers, as without any name.")] = False,
) -> None:
    """Bring back the rules that somebody else has removed from the host, such as a firewall that was restarted.

    A driver does so for all of its networks and containers at once; with names, only the drivers of those do.
    """
    with engine(common, changes=False) as opened:  # else they would be back before we look
        names = dict.fromkeys(
            endpoint.driver for name in containers or () for endpoint in opened.containers.find(name).endpoints
        )
        chosen = names if containers and not all_ else _usable(opened)
        lines = [line for name in chosen for line in _reload(opened, name)]
    text.say("\n".join(lines) or "no network driver has rules to bring back")


def _paths(opened: Engine, record: ContainerRecord) -> Iterator[tuple[str, list[PacketPath]]]:
    netns = network.netns_of(opened, record)
    for endpoint in record.endpoints:
        driver = opened.network(endpoint.driver, endpoint.options)
        result = network.result_of(endpoint.result)
        if result is not None and isinstance(driver, SupportsExplain):
            yield endpoint.name, list(driver.explain(network.attachment(opened, record, endpoint, netns), result))


def _instead(record: ContainerRecord) -> str:
    """Return a hint for a container whose networks explain nothing."""
    if record.endpoints and record.endpoints[0].joined:
        return f"ask for the container whose network it is: plugrun network explain {record.endpoints[0].target}"
    return "with host they go as the host's own; with none, nowhere"


def _as_values(name: str, path: PacketPath) -> dict[str, Any]:
    hops = [{"Place": hop.place, "Detail": hop.detail} for hop in path.hops]
    return {"Network": name, "Title": path.title, "Hops": hops}


def _listing(name: str, path: PacketPath) -> str:
    """Return a path with its hops below each other; drivers take texts from the system, so none is trusted."""
    places = [text.printable(hop.place) for hop in path.hops]
    width = max(map(len, places), default=0)
    title = f"{text.printable(path.title)} (network {text.printable(name)})"
    hops = zip(places, path.hops, strict=True)
    lines = [f"  {place:{width}}   {text.printable(hop.detail)}".rstrip() for place, hop in hops]
    return "\n".join([title, *lines])


def _usable(opened: Engine) -> Iterator[str]:
    from plugrun.drivers import finding

    for name, declared in sorted(opened.plugins.network.items()):
        if finding("network", declared, opened.paths.root) is None:
            yield name


def _reload(opened: Engine, name: str) -> Iterator[str]:
    driver = opened.network(name, {})
    if isinstance(driver, SupportsReload):
        if driver.reload():
            yield f"{name}: something was missing, and is back"
        else:
            driver.reload(force=True)  # whatever it cannot see
            yield f"{name}: nothing was missing; made anew"
