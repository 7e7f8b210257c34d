"""``plugrun ps``: containers as a table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import option
from plugrun.container import Status
from plugrun.lifecycle.state import is_running

if TYPE_CHECKING:
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine

_COLUMNS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAgo": "CREATED",
    "Status": "STATUS",
    "Storage": "STORAGE",
    "Network": "NETWORK",
    "Ports": "PORTS",
    "Names": "NAMES",
}
_COMMAND_WIDTH = 20


def ps(
    common: Globals,
    all_: Annotated[bool, option("--all", "-a", help="Show those that do not run, too.")] = False,
    quiet: Annotated[bool, option("--quiet", "-q", help="Show ids only.")] = False,
    last: Annotated[int, option("--last", "-n", help="Show the newest N, in any state.", metavar="N")] = -1,
    latest: Annotated[bool, option("--latest", "-l", help="Show the newest, in any state.")] = False,
    size: Annotated[bool, option("--size", "-s", help="Show what they occupy, too.")] = False,
    no_trunc: Annotated[bool, option("--no-trunc", help="Show ids and commands whole.")] = False,
    format_: Annotated[str | None, option("--format", help="table, json, or a Go template.", metavar="FORMAT")] = None,
) -> None:
    """List containers."""
    with engine(common, changes=False) as opened:
        records = opened.containers.all()
        count = 1 if latest else last
        if count >= 0:
            records = records[:count]
        elif not all_:
            records = [record for record in records if is_running(record)]
        sizes = _sizes(opened, records) if size and not quiet else {}
    rows = [{**row(record, whole=no_trunc), "Size": sizes.get(record.id, "")} for record in records]
    columns = {name: heading for name, heading in _COLUMNS.items() if name != "Ports" or any(row[name] for row in rows)}
    columns |= {"Size": "SIZE"} if size else {}
    shown = "\n".join(row["ID"] for row in rows) if quiet else text.render(rows, format_, columns)
    if shown:
        text.say(shown)


def _sizes(opened: Engine, records: list[ContainerRecord]) -> dict[str, str]:
    from plugrun import usage

    found = usage.measure(opened, records)
    return {one: f"{text.size(sizes.own)} (virtual {text.size(sizes.whole)})" for one, sizes in found.items()}


def row(record: ContainerRecord, *, whole: bool) -> dict[str, Any]:
    """Return what is shown of a container.

    :param whole: show all of the id and the command.
    """
    command = " ".join(record.config.args)
    if not whole and len(command) > _COMMAND_WIDTH:
        command = command[: _COMMAND_WIDTH - 1] + "…"
    return {
        "ID": record.id if whole else record.short_id,
        "Image": record.config.image,
        "Command": f'"{command}"',
        "CreatedAgo": text.since(record.created),
        "CreatedAt": text.timestamp(record.created),
        "RunningFor": text.since(record.created),
        "State": _state(record),
        "Status": _status(record),
        "Storage": record.storage,
        "Network": record.network,
        "Ports": _ports(record),
        "Names": record.name,
        "Labels": ",".join(f"{key}={value}" for key, value in record.config.labels.items()),
    }


def _ports(record: ContainerRecord) -> str:
    """Return what is published now; as in Docker also what is only exposed, and nothing when it does not run."""
    if not (record.ports or record.config.exposed) or not is_running(record):
        return ""
    from plugrun.cli.network_details import shown_ports  # not for most containers

    return shown_ports(record)


def _state(record: ContainerRecord) -> str:
    if record.status is Status.RUNNING and not is_running(record):
        return Status.EXITED  # nobody has cleaned up after it yet
    return record.status


def _status(record: ContainerRecord) -> str:
    state = _state(record)
    if state == Status.RUNNING:
        return f"Up {text.age(time.time() - record.started)}"
    if state == Status.EXITED:
        code = "unknown" if record.exit_code is None else record.exit_code
        ended = f" {text.since(record.finished)}" if record.finished else ""
        return f"Exited ({code}){ended}"
    return state.capitalize()
