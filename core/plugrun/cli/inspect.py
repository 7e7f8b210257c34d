"""``plugrun inspect``: everything known about containers, images, volumes and networks, as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.errors import report
from plugrun.cli.params import argument, option
from plugrun.container import Status
from plugrun.errors import InvalidArgument, NotFound, PlugrunError
from plugrun.lifecycle.state import is_running

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from plugrun.container import ContainerConfig, ContainerRecord
    from plugrun.engine import Engine

_Names = Annotated[list[str], argument("NAME...")]
_Size = Annotated[bool, option("--size", "-s", help="Also measure what containers occupy.")]
_Format = Annotated[str | None, option("--format", "-f", help="json, or a Go template.", metavar="FORMAT")]


def inspect(
    common: Globals,
    names: _Names,
    format_: _Format = None,
    type_: Annotated[str | None, option("--type", help="container, image, volume or network.", metavar="TYPE")] = None,
    size: _Size = False,
) -> int:
    """Show everything known about containers, images, volumes or networks."""
    finders = {"container": _sized if size else _container, "image": _image, "volume": _volume, "network": _network}
    if type_ is not None and type_ not in finders:
        raise InvalidArgument(f"--type {type_!r} cannot be inspected", hint="use container, image, volume or network")
    chosen = [finders[type_]] if type_ else list(finders.values())
    return _show(common, names, chosen, format_)


def inspect_container(common: Globals, names: _Names, format_: _Format = None, size: _Size = False) -> int:
    """Show everything known about containers."""
    return _show(common, names, [_sized if size else _container], format_)


def inspect_image(common: Globals, names: Annotated[list[str], argument("IMAGE...")], format_: _Format = None) -> int:
    """Show everything known about images."""
    return _show(common, names, [_image], format_)


def inspect_volume(common: Globals, names: Annotated[list[str], argument("VOLUME...")], format_: _Format = None) -> int:
    """Show everything known about volumes."""
    return _show(common, names, [_volume], format_)


def inspect_network(
    common: Globals, names: Annotated[list[str], argument("NETWORK...")], format_: _Format = None
) -> int:
    """Show everything known about networks, and which containers are connected to them."""
    return _show(common, names, [_network], format_)


def _show(
    common: Globals,
    names: list[str],
    finders: Sequence[Callable[[Engine, str], dict[str, Any]]],
    template: str | None,
) -> int:
    found, failed = [], 0
    with engine(common, changes=False) as opened:
        for name in names:
            try:
                found.append(_first(opened, name, finders))
            except PlugrunError as error:
                report(error)
                failed = 1
    if template in {None, "json"}:
        text.say(json.dumps(found, indent=None if template else 4))
    else:
        for value in found:
            text.say(text.fill(str(template), value))
    return failed


def _first(opened: Engine, name: str, finders: Sequence[Callable[[Engine, str], dict[str, Any]]]) -> dict[str, Any]:
    for finder in finders[:-1]:
        try:
            return finder(opened, name)
        except NotFound:
            continue
    try:
        return finders[-1](opened, name)
    except NotFound as error:
        if len(finders) > 1:
            raise NotFound(f"no such container, image, volume or network: {name}") from error
        raise


def _image(opened: Engine, name: str) -> dict[str, Any]:
    from plugrun.cli.image_details import details

    return details(opened.images.resolve(name))


def _volume(opened: Engine, name: str) -> dict[str, Any]:
    from plugrun.cli.volume_details import details

    return details(opened, opened.volumes.find(name))


def _network(opened: Engine, name: str) -> dict[str, Any]:
    from plugrun import networks
    from plugrun.cli.network_details import details

    return details(opened, networks.find(opened, name))


def _sized(opened: Engine, name: str) -> dict[str, Any]:
    """Describe a container, and measure it; what cannot be measured is left out."""
    from plugrun import usage

    record = opened.containers.find(name)
    found = usage.measure(opened, [record]).get(record.id)
    sizes = {"SizeRw": found.own, "SizeRootFs": found.whole} if found else {}
    return {**_container(opened, name), **sizes}


def _container(opened: Engine, name: str) -> dict[str, Any]:
    from plugrun.cli import network_details

    record = opened.containers.find(name)
    running = is_running(record)
    state = Status.EXITED if record.status is Status.RUNNING and not running else record.status
    return {
        "Id": record.id,
        "Created": text.timestamp(record.created),
        "Path": record.config.args[0],
        "Args": list(record.config.args[1:]),
        "Name": record.name,
        "State": {
            "Status": str(state),
            "Running": running,
            "OOMKilled": record.oom_killed,
            "Pid": (record.pid or 0) if running else 0,
            "ExitCode": record.exit_code if record.exit_code is not None else 0,
            "ExitCodeKnown": record.exit_code is not None or not record.finished,
            "Error": record.error,
            "StartedAt": text.timestamp(record.started),
            "FinishedAt": text.timestamp(record.finished),
        },
        "Image": record.config.image_id,
        "Driver": record.storage,
        "Snapshots": [
            {"Name": saved.name, "Created": text.timestamp(saved.created), "Key": saved.key}
            for saved in opened.snapshots.of(record.id)
        ],
        "GraphDriver": {"Name": record.storage, "Data": {"Snapshot": record.snapshot}},
        "Runtime": record.runtime,
        "HostConfig": {**_host_config(opened, record), **network_details.host_config(record)},
        "Mounts": _mounts(opened, record.config),
        "Config": {
            **_config(record.config),
            "ExposedPorts": {port: {} for port in network_details.exposed(record.config)},
        },
        "NetworkSettings": network_details.settings(opened, record),
        "LogPath": str(opened.paths.container(record.id) / "container.log"),
    }


def _mounts(opened: Engine, config: ContainerConfig) -> list[dict[str, Any]]:
    if not (config.binds or config.volumes or config.images or config.tmpfs):
        return []
    from plugrun.cli.volume_details import mounts

    return list(mounts(opened, config))


def _host_config(opened: Engine, record: ContainerRecord) -> dict[str, Any]:
    config, limits, security = record.config, record.config.resources, record.config.security
    return {
        "Binds": _binds(opened, config),
        "AutoRemove": config.auto_remove,
        "Memory": limits.memory or 0,
        "MemorySwap": limits.memory_swap or 0,
        "NanoCpus": int((limits.cpus or 0) * 1_000_000_000),
        "PidsLimit": limits.pids,
        "Privileged": security.privileged,
        "CapAdd": list(security.cap_add),
        "CapDrop": list(security.cap_drop),
        "ReadonlyRootfs": config.read_only,
        "Init": config.init,
        "ShmSize": config.shm_size,
        "Tmpfs": config.tmpfs,
        "StorageOpt": _storage_options(record),
        "Ulimits": [{"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in config.ulimits.items()],
    }


def _binds(opened: Engine, config: ContainerConfig) -> list[str] | None:
    """Return what is mounted as ``--volume`` would say it; as in Docker, ``null`` for nothing."""
    if not (config.binds or config.volumes):
        return None
    from plugrun.cli.volume_details import binds

    return list(binds(opened, config)) or None


def _storage_options(record: ContainerRecord) -> dict[str, str]:
    size = record.config.storage_size
    return {**record.storage_options, **({} if size is None else {"size": str(size)})}


def _config(config: ContainerConfig) -> dict[str, Any]:
    return {
        "Hostname": config.hostname,
        "User": config.user,
        "Tty": config.tty,
        "OpenStdin": config.stdin_open,
        "Env": list(config.env),
        "Cmd": list(config.args[len(config.entrypoint) :]),
        "Entrypoint": list(config.entrypoint),
        "Image": config.image,
        "WorkingDir": config.workdir,
        "Labels": config.labels,
        "StopSignal": config.stop_signal,
        "StopTimeout": config.stop_timeout,
    }
