"""``plugrun storage``: where storage drivers keep things, and pools for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from plugrun import validate
from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.errors import report
from plugrun.cli.params import argument, option
from plugrun.errors import InvalidArgument, PlugrunError

if TYPE_CHECKING:
    from plugrun.storage_places import Place

_COLUMNS = {
    "Driver": "DRIVER",
    "Size": "SIZE",
    "Used": "USED",
    "Available": "AVAIL",
    "Items": "ITEMS",
    "Where": "WHERE",
    "State": "STATE",
}
_Driver = Annotated[str, argument("DRIVER")]
_Format = Annotated[str | None, option("--format", help="table, json, or a Go template.", metavar="FORMAT")]


def create(
    common: Globals,
    driver: _Driver,
    size: Annotated[str | None, option("--size", "-s", help="Size of the pool, e.g. 20G.", metavar="BYTES")] = None,
    file: Annotated[
        str | None, option("--file", "-f", help="The file to make; below --root if not given.", metavar="PATH")
    ] = None,
) -> None:
    """Make a pool: a file with a file system that a storage driver can use, mounted when it is needed."""
    from plugrun.pools import making

    if size is None:
        raise InvalidArgument("--size is missing", hint=f"plugrun storage create {driver} --size 20G")
    if file == "":
        raise InvalidArgument("--file is empty", hint="name the file to make")
    with engine(common) as opened:
        making.create(opened, driver, validate.size(size), None if file is None else Path(validate.text(file)))
    text.say(driver)


def resize(common: Globals, driver: _Driver, size: Annotated[str, argument("SIZE")]) -> None:
    """Make a pool larger, also while containers run in it; SIZE is that of the whole pool."""
    from plugrun.pools import changing

    with engine(common) as opened:
        changing.resize(opened, driver, validate.size(size))
    text.say(driver)


def rm(
    common: Globals,
    drivers: Annotated[list[str], argument("DRIVER...")],
    force: Annotated[bool, option("--force", "-f", help="Also one whose file is gone, with containers in it.")] = False,
) -> int:
    """Remove pools, and the layers in them; never one with containers or volumes in it."""
    from plugrun.pools import changing

    failed = 0
    with engine(common) as opened:
        for driver in drivers:
            try:
                changing.remove(opened, driver, force=force)
            except PlugrunError as error:
                report(error)
                failed = 1
            else:
                text.say(driver)
    return failed


def ls(common: Globals, format_: _Format = None) -> None:
    """List the storage drivers: where each keeps what it has, how much room there is, and for how many items.

    Items are containers, their snapshots, and volumes; JSON and templates have each.
    """
    from plugrun import storage_places

    with engine(common, changes=False) as opened:
        found = storage_places.survey(opened)
    text.say(text.render(list(map(_row, found)), format_, _COLUMNS))


def inspect(
    common: Globals,
    drivers: Annotated[list[str], argument("DRIVER...")],
    format_: Annotated[str | None, option("--format", "-f", help="json, or a Go template.", metavar="FORMAT")] = None,
) -> int:
    """Show everything known about where storage drivers keep things."""
    from plugrun import storage_places

    found, failed = [], 0
    with engine(common, changes=False) as opened:
        for driver in drivers:
            try:
                found.append(_details(storage_places.look(opened, driver)))
            except PlugrunError as error:
                report(error)
                failed = 1
    if format_ in {None, "json"}:
        text.say(json.dumps(found, indent=None if format_ else 4))
    else:
        for one in found:
            text.say(text.fill(str(format_), one))
    return failed


def _row(place: Place) -> dict[str, Any]:
    return {
        "Driver": place.driver,
        "Size": _size(place.size),
        "Used": _size(place.used),
        "Available": _size(place.available),
        "Containers": str(place.containers),
        "Snapshots": str(place.snapshots),
        "Volumes": str(place.volumes),
        "Items": str(place.containers + place.snapshots + place.volumes),
        "Where": _where(place),
        "State": place.problem or ("usable" if place.mounted else "usable, not mounted yet"),
    }


def _where(place: Place) -> str:
    """Say in few words where a driver keeps things; of a pool's file only what the user chose."""
    if place.pool is None:
        return f"{place.type} at {place.mount_point}"
    usual = place.state_dir.parent.parent / "pools"
    return "pool" if place.pool.parent == usual else f"pool {place.pool}"


def _details(place: Place) -> dict[str, Any]:
    return {
        "Driver": place.driver,
        "StateDir": str(place.state_dir),
        "Pool": str(place.pool) if place.pool else None,
        "Mounted": place.mounted,
        "MountPoint": place.mount_point,
        "FileSystem": place.type,
        "Source": place.source,
        "Size": place.size,
        "Used": place.used,
        "Available": place.available,
        "Containers": place.containers,
        "Snapshots": place.snapshots,
        "Volumes": place.volumes,
        "Supports": list(place.supports),
        "Problem": place.problem,
    }


def _size(number: int | None) -> str:
    return "-" if number is None else text.size(number)
