"""``plugrun volume``: ``create``, ``ls``, ``clone``, ``rm``, ``prune``; ``inspect`` is where its like are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from plugrun import volumes
from plugrun.cli import parse, text
from plugrun.cli.context import Globals, engine
from plugrun.cli.errors import report
from plugrun.cli.params import argument, option
from plugrun.cli.questions import confirm
from plugrun.errors import PlugrunError

if TYPE_CHECKING:
    from plugrun.engine import Engine
    from plugrun.state.volumes import Volume

_COLUMNS = {"Driver": "DRIVER", "Name": "VOLUME NAME"}
_UNUSED = "This will remove all anonymous volumes not used by at least one container"
_ALL = "This will remove all volumes not used by at least one container"


def create(
    common: Globals,
    name: Annotated[str | None, argument("[NAME]")] = None,
    storage: Annotated[str | None, option("--storage", "--driver", "-d", help="Storage driver.", metavar="DRIVER")] = (
        None
    ),
    opt: Annotated[
        list[str] | None,
        option("--opt", "-o", help="Size limit, or the driver's own option.", metavar="size=BYTES"),
    ] = None,
    label: Annotated[list[str] | None, option("--label", help="Label of the volume.", metavar="KEY=VALUE")] = None,
) -> None:
    """Make a volume; print its name. One that is there already is fine if it is as asked for.

    Without a name it is an anonymous one, which prune takes.
    """
    for value in (name, opt or [], label or []):
        parse.check_text(value)
    options, labels = parse.driver_options(opt or [], "--opt"), parse.labels(label or [])
    if name is not None:
        volumes.check_name(name)
    with engine(common) as opened:
        made = volumes.create(opened, name, storage=storage, default=common.storage, options=options, labels=labels)
    text.say(made.name)


def ls(
    common: Globals,
    quiet: Annotated[bool, option("--quiet", "-q", help="Only names.")] = False,
    format_: Annotated[str | None, option("--format", help="table, json, or a Go template.", metavar="FORMAT")] = None,
    filters: Annotated[
        list[str] | None,
        option("--filter", "-f", help="name, label, dangling or driver, as KEY=VALUE.", metavar="FILTER"),
    ] = None,
) -> None:
    """List volumes."""
    from plugrun import volume_filters

    with engine(common, changes=False) as opened:
        users = opened.volumes.users()
        fits = volume_filters.parse(filters or (), users)
        found = [volume for volume in opened.volumes.all() if fits(volume)]
        rows = [_row(opened, volume, len(users.get(volume.name, ()))) for volume in found] if format_ else []
    if quiet and not format_:
        for volume in found:
            text.say(volume.name)
        return
    rows = rows or [{"Driver": volume.storage, "Name": volume.name} for volume in found]
    if shown := text.render(rows, format_, _COLUMNS):
        text.say(shown)


def clone(common: Globals, source: Annotated[str, argument("SOURCE")], name: Annotated[str, argument("NEW")]) -> None:
    """Make a volume that begins as a copy of another one, which containers may be using; print its name."""
    with engine(common) as opened:
        text.say(volumes.clone(opened, source, name).name)


def rm(
    common: Globals,
    names: Annotated[list[str], argument("VOLUME...")],
    force: Annotated[
        bool, option("--force", "-f", help="Do not mind what is gone: the volume, its driver, its pool.")
    ] = False,
) -> int:
    """Remove volumes and all that is in them; one that a container uses stays."""
    failed = 0
    with engine(common) as opened:
        for name in names:
            try:
                volumes.remove(opened, name, force=force)
            except (PlugrunError, ExceptionGroup) as error:
                report(error)
                failed = 1
            else:
                text.say(name)
    return failed


def prune(
    common: Globals,
    all_: Annotated[bool, option("--all", "-a", help="Those with a name too.")] = False,
    force: Annotated[bool, option("--force", "-f", help="Do not ask.")] = False,
    filters: Annotated[list[str] | None, option("--filter", help="label[!]=KEY[=VALUE].", metavar="FILTER")] = None,
) -> None:
    """Remove the anonymous volumes that no container uses, and all that is in them."""
    from plugrun import volume_filters

    fits = volume_filters.parse(filters or (), (), volume_filters.PRUNING)
    every = all_ or any(volume_filters.truth(one) for one in filters or () if one.startswith("all="))
    if not force:
        limits = f" that fit {', '.join(map(text.printable, filters))}" if filters else ""
        confirm(f"{_ALL if every else _UNUSED}{limits}.")
    with engine(common) as opened:
        removed, size = volumes.prune(opened, lambda volume: (every or volume.anonymous) and fits(volume))
    if removed:
        text.say("\n".join(["Deleted Volumes:", *removed, ""]))
    text.say(f"Total reclaimed space: {text.size(size)}")


def _row(opened: Engine, volume: Volume, users: int) -> dict[str, Any]:
    return {
        "Driver": volume.storage,
        "Name": volume.name,
        "Mountpoint": volumes.directory(opened, volume),
        "Labels": ",".join(f"{key}={value}" for key, value in volume.labels.items()),
        "Links": str(users),
        "Scope": "local",
        "CreatedAt": text.timestamp(volume.created),
    }
