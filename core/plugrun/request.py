"""What a user asks for, and how it merges with what the image says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from plugrun.container import (
    DEFAULT_SHM_SIZE,
    DEFAULT_STOP_SIGNAL,
    DEFAULT_STOP_TIMEOUT,
    BindMount,
    ContainerConfig,
    ImageMount,
    Resources,
    Security,
    VolumeMount,
)
from plugrun.errors import CommandNotFound, InvalidArgument
from plugrun.ports import MAX_PORT, PROTOCOLS, PortMapping, exposed
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.images.store import Image

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class VolumeRequest(NamedTuple):
    """A volume to mount, and how to make it if there is none of its name.

    :param mount: with an empty name for a volume that nobody names.
    :param storage: name of a storage driver; ``None``: the container's, or whichever the volume is in.
    :param options: see :func:`plugrun.volumes.create`, as for ``labels``.
    :param must_exist: do not make it.
    :param anonymous: see :class:`plugrun.state.volumes.Volume`; decided by whether it has a name.
    """

    mount: VolumeMount
    storage: str | None = None
    options: Mapping[str, str] = MappingProxyType({})
    labels: Mapping[str, str] = MappingProxyType({})
    must_exist: bool = False
    anonymous: bool = False


class NetworkChoice(NamedTuple):
    """A network to connect to.

    :param value: a ``--net`` value: name of a network or of a network driver, or what a plugin makes of it, e.g.
        ``"container:web"``; ``None`` for the default.
    :param ip: see :class:`plugrun.api.Attachment`, as for ``ip6``, ``mac`` and ``aliases``.
    """

    value: str | None = None
    ip: str | None = None
    ip6: str | None = None
    mac: str | None = None
    aliases: tuple[str, ...] = ()


class ContainerRequest(NamedTuple):
    """One ``create`` or ``run``; ``None`` means that the image or the engine decides.

    Values are already in the engine's units (bytes, seconds, absolute paths): the command line parses text.

    :param entrypoint: replaces the image's, and then the image's command does not apply; ``()`` clears it.
    :param storage: name of a storage driver.
    :param storage_size: bytes that the container may write.
    :param images: images to mount, their ids still empty.
    :param volumes_from: names or ids of containers whose mounts this one gets, and whether only to read.
    :param directories: host directories to make, if they are missing.
    :param networks: the first one decides which network namespace it lives in; none means the default.
    :param ports: what to publish, and with ``publish_all`` whatever is exposed besides.
    :param exposed: see :class:`plugrun.container.ContainerConfig`, as for the rest about names.
    :param runtime: name or absolute path of an OCI runtime.
    """

    image: str
    command: Sequence[str] = ()
    name: str | None = None
    entrypoint: Sequence[str] | None = None
    env: Sequence[str] = ()
    workdir: str | None = None
    user: str | None = None
    hostname: str | None = None
    labels: Mapping[str, str] = MappingProxyType({})
    tty: bool = False
    stdin_open: bool = False
    binds: Sequence[BindMount] = ()
    volumes: Sequence[VolumeRequest] = ()
    images: Sequence[ImageMount] = ()
    volumes_from: Sequence[tuple[str, bool]] = ()
    directories: Sequence[str] = ()
    tmpfs: Mapping[str, str] = MappingProxyType({})
    read_only: bool = False
    init: bool = False
    security: Security = Security()
    resources: Resources = Resources()
    ulimits: Mapping[str, tuple[int, int]] = MappingProxyType({})
    shm_size: int | None = None
    stop_signal: str | None = None
    stop_timeout: int | None = None
    auto_remove: bool = False
    storage: str | None = None
    storage_options: Mapping[str, str] = MappingProxyType({})
    storage_size: int | None = None
    networks: Sequence[NetworkChoice] = ()
    network_options: Mapping[str, str] = MappingProxyType({})
    ports: Sequence[PortMapping] = ()
    publish_all: bool = False
    exposed: Sequence[str] = ()
    dns: Sequence[str] = ()
    dns_search: Sequence[str] = ()
    dns_options: Sequence[str] = ()
    extra_hosts: Sequence[tuple[str, str]] = ()
    runtime: str | None = None

    @property
    def has_mounts_to_plan(self) -> bool:
        """Whether its mounts take more than writing down: something has to be found or made, or two may collide."""
        several = len(self.binds) + len(self.tmpfs) > 1
        return bool(several or self.volumes or self.images or self.volumes_from or self.directories)


def merge(request: ContainerRequest, image: Image, *, hostname: str) -> ContainerConfig:
    """Combine a request with its image's configuration, as Docker does.

    :param hostname: used when the request names none.
    :raises InvalidArgument: neither says which command to run.
    :raises CommandNotFound: the command has no name.
    """
    defaults = image.config
    if request.entrypoint is None:
        entrypoint, command = defaults.entrypoint, tuple(request.command) or defaults.cmd
    else:
        entrypoint, command = tuple(request.entrypoint), tuple(request.command)
    args = (*entrypoint, *command)
    if not args:
        raise InvalidArgument(
            f"image {request.image} has no default command",
            hint=f"say what to run: plugrun run {request.image} COMMAND",
        )
    if not args[0]:
        raise CommandNotFound("command '' does not exist in the container", hint="name a program that the image has")
    return ContainerConfig(
        image=request.image,
        image_id=image.id,
        args=args,
        entrypoint=entrypoint,
        env=_merge_env(defaults.env, request.env),
        workdir=request.workdir or defaults.workdir or "/",
        user=defaults.user if request.user is None else request.user,
        hostname=request.hostname or hostname,
        labels={**defaults.labels, **request.labels},
        tty=request.tty,
        stdin_open=request.stdin_open,
        binds=tuple(request.binds),
        tmpfs=dict(request.tmpfs),
        read_only=request.read_only,
        init=request.init,
        security=request.security,
        resources=request.resources,
        ulimits=dict(request.ulimits),
        shm_size=DEFAULT_SHM_SIZE if request.shm_size is None else request.shm_size,
        stop_signal=request.stop_signal or defaults.stop_signal or DEFAULT_STOP_SIGNAL,
        stop_timeout=DEFAULT_STOP_TIMEOUT if request.stop_timeout is None else request.stop_timeout,
        auto_remove=request.auto_remove,
        storage_size=request.storage_size,
        exposed=tuple(dict.fromkeys((*_exposed(defaults.exposed_ports), *request.exposed))),
        publish_all=request.publish_all,
        dns=tuple(request.dns),
        dns_search=tuple(request.dns_search),
        dns_options=tuple(request.dns_options),
        extra_hosts=tuple(request.extra_hosts),
    )


def _exposed(image: Sequence[str]) -> Iterator[str]:
    """Yield what an image exposes, as long as it is no more than there are ports.

    Each port can be in countless ranges, and a configuration of 4 MiB can have 280,000 of them.
    """
    room = len(PROTOCOLS) * MAX_PORT
    for text in image:
        size = len(exposed(text))
        room -= size
        if room < 0:
            return
        if size:
            yield text


def _merge_env(image: Sequence[str], user: Sequence[str]) -> tuple[str, ...]:
    """Overlay the user's variables on the image's, each name once, in order of first appearance."""
    merged: dict[str, str] = {}
    for variable in (DEFAULT_PATH, *image, *user):
        merged[variable.partition("=")[0]] = variable
    return tuple(merged.values())
