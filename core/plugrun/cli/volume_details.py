"""What ``inspect`` says of volumes, and of all that is mounted in a container: Docker's fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugrun import volumes
from plugrun.cli import text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plugrun.container import ContainerConfig
    from plugrun.engine import Engine
    from plugrun.state.volumes import Volume


def details(opened: Engine, volume: Volume) -> dict[str, Any]:
    """Return everything known about a volume; its mount point is ``""`` where its files cannot be seen on the host."""
    return {
        "Name": volume.name,
        "Driver": volume.storage,
        "Mountpoint": volumes.directory(opened, volume),
        "CreatedAt": text.timestamp(volume.created),
        "Labels": dict(volume.labels) or None,
        "Options": dict(volume.options) or None,
        "Scope": "local",
        "Anonymous": volume.anonymous,
        "Containers": list(opened.volumes.users().get(volume.name, {}).values()),
    }


def mounts(opened: Engine, config: ContainerConfig) -> Iterator[dict[str, Any]]:
    """Yield what a container has mounted over its root file system."""
    for bind in config.binds:
        yield _mount("bind", bind.source, bind.destination, writable=not bind.read_only, propagation=bind.propagation)
    for mount in config.volumes:
        volume = opened.volumes.get(mount.name)
        source, driver = (volumes.directory(opened, volume), volume.storage) if volume else ("", "")
        if source and mount.subpath:
            source = f"{source}/{mount.subpath}"
        about = _mount("volume", source, mount.destination, writable=not mount.read_only)
        yield {"Type": about.pop("Type"), "Name": mount.name, **about, "Driver": driver}
    for image in config.images:
        yield _mount("image", image.image, image.destination, writable=False)
    for destination, options in config.tmpfs.items():
        yield _mount("tmpfs", "", destination, writable="ro" not in options.split(","), mode=options)


def binds(opened: Engine, config: ContainerConfig) -> Iterator[str]:
    """Yield host paths and named volumes that a container has mounted, as ``--volume`` takes them."""
    for bind in config.binds:
        modes = ["ro"] * bind.read_only + [bind.propagation] * (bind.propagation != "rprivate")
        yield ":".join([bind.source, bind.destination, *([",".join(modes)] if modes else ())])
    for mount in config.volumes:
        volume = opened.volumes.get(mount.name)
        if mount.subpath or (volume and volume.anonymous):
            continue
        modes = ["ro"] * mount.read_only + ["nocopy"] * mount.nocopy
        yield ":".join([mount.name, mount.destination, *([",".join(modes)] if modes else ())])


def _mount(
    kind: str, source: str, destination: str, *, writable: bool, propagation: str = "", mode: str = ""
) -> dict[str, Any]:
    return {
        "Type": kind,
        "Source": source,
        "Destination": destination,
        "Mode": mode or ("" if writable else "ro"),
        "RW": writable,
        "Propagation": propagation,
    }
