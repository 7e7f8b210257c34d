"""``plugrun system df``: what is on the disk, and what could go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import option
from plugrun.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plugrun.disk import DiskUse, Total

_COLUMNS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_IMAGES = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Containers": "CONTAINERS",
}
_LAYERS = {"ID": "LAYER ID", "Storage": "STORAGE", "Size": "SIZE", "Images": "IMAGES", "InUse": "IN USE"}
_SNAPSHOTS = {
    "Container": "CONTAINER",
    "Name": "SNAPSHOT NAME",
    "Storage": "STORAGE",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
}
_VOLUMES = {"Name": "VOLUME NAME", "Storage": "STORAGE", "Links": "LINKS", "Size": "SIZE"}
_CONTAINERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "Storage": "STORAGE",
    "Size": "SIZE",
    "CreatedAgo": "CREATED",
    "Status": "STATUS",
    "Names": "NAMES",
}


def df(
    common: Globals,
    verbose: Annotated[
        bool, option("--verbose", "-v", help="Show each image, layer, container, snapshot and volume.")
    ] = False,
    format_: Annotated[str | None, option("--format", help="table, json, or a Go template.", metavar="FORMAT")] = None,
) -> None:
    """Show what occupies the disk: images, layers in storage drivers, containers and their snapshots, volumes."""
    from plugrun import disk
    from plugrun.cli import progress

    if verbose and format_ not in {None, "table"}:
        raise InvalidArgument(f"--verbose cannot be combined with --format {format_!r}", hint="leave out one of them")
    with engine(common, changes=False) as opened, progress.line(lambda: "Measuring") as tick:
        found = disk.measure(opened, tick=tick)
    if verbose:
        text.say("\n\n\n".join(_tables(found)))
    else:
        text.say(text.render(list(map(_row, found.totals())), format_, _COLUMNS))


def _row(one: Total) -> dict[str, str]:
    percent = f" ({one.reclaimable * 100 // one.size}%)" if one.size else ""
    return {
        "Type": one.kind,
        "TotalCount": str(one.total),
        "Active": str(one.active),
        "Size": text.size(one.size),
        "Reclaimable": text.size(one.reclaimable) + percent,
    }


def _tables(found: DiskUse) -> Iterator[str]:
    for heading, rows, columns in (
        ("Images", _image_rows(found), _IMAGES),
        ("Unpacked layers", _layer_rows(found), _LAYERS),
        ("Containers", _container_rows(found), _CONTAINERS),
        ("Snapshots", _snapshot_rows(found), _SNAPSHOTS),
        ("Local Volumes", _volume_rows(found), _VOLUMES),
    ):
        yield f"{heading} space usage:\n\n{text.render(rows, None, columns)}"
    partial = [str(len(found.partial)), text.size(sum(found.partial))]
    yield f"Partial downloads space usage:\n\n{text.table(['TOTAL', 'SIZE'], [partial])}"


def _image_rows(found: DiskUse) -> list[dict[str, Any]]:
    from plugrun.cli.images import row
    from plugrun.images.sharing import Sharers

    sharers = Sharers(found.images)
    newest = sorted(found.images, key=lambda image: -image.config.created_at)
    return [
        row(image, name, sharers, found.users, whole=False) for image in newest for name in image.references or ("",)
    ]


def _layer_rows(found: DiskUse) -> list[dict[str, Any]]:
    from collections import Counter

    from plugrun.snapshots import chain_ids

    needed = Counter(name for image in found.images for name in set(chain_ids(image.config.diff_ids)))
    return [
        {
            "ID": layer.name[:12],
            "Storage": layer.driver,
            "Size": text.size(layer.size),
            "Images": str(needed[layer.name]),
            "InUse": "yes" if layer.active else "no",
        }
        for layer in sorted(found.layers, key=lambda layer: -layer.size)
    ]


def _container_rows(found: DiskUse) -> list[dict[str, Any]]:
    from plugrun.cli.ps import row

    return [{**row(record, whole=False), "Size": text.size(size)} for record, size in found.containers]


def _snapshot_rows(found: DiskUse) -> list[dict[str, Any]]:
    names = {record.id: record.name for record, _ in found.containers}
    return [
        {
            "Container": names.get(saved.container_id, saved.container_id[:12]),
            "Name": saved.name,
            "Storage": saved.storage,
            "CreatedSince": text.since(saved.created),
            "Size": text.size(size),
        }
        for saved, size in found.snapshots
    ]


def _volume_rows(found: DiskUse) -> list[dict[str, Any]]:
    return [
        {"Name": volume.name, "Storage": volume.storage, "Links": str(len(users)), "Size": text.size(size)}
        for volume, size, users in found.volumes
    ]
