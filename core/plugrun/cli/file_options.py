"""The options that mount something: ``--volume``, ``--mount``, ``--tmpfs``, ``--volumes-from``."""

from __future__ import annotations

import os
from collections.abc import Sequence

from plugrun import volumes
from plugrun.cli import parse
from plugrun.container import BindMount, ImageMount, VolumeMount
from plugrun.errors import InvalidArgument
from plugrun.request import ContainerRequest, VolumeRequest
from plugrun.tuples import NamedTuple

PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_IGNORED = {"z", "Z", "consistent", "cached", "delegated"}  # SELinux relabelling, and Docker Desktop's


class HostPath(NamedTuple):
    """A bind mount.

    :param make: whether its source is a directory to be made.
    """

    bind: BindMount
    make: bool = False


class Tmpfs(NamedTuple):
    """An empty file system in memory; see :class:`plugrun.container.ContainerConfig`."""

    destination: str
    options: str


Wanted = HostPath | VolumeRequest | ImageMount | Tmpfs


def add(
    request: ContainerRequest,
    *,
    volume: Sequence[str],
    mount: Sequence[str],
    tmpfs: Sequence[str],
    volumes_from: Sequence[str],
    driver: str | None,
) -> ContainerRequest:
    """Return the request with what the options say.

    :param driver: storage driver for volumes that have to be made, unless ``--mount`` names one.
    :raises InvalidArgument: one makes no sense; quotes it.
    :raises NotFound: the source of a ``--mount`` does not exist.
    """
    wanted: list[Wanted] = [_volume(text) for text in volume]
    if mount:
        from plugrun.cli import mount_option

        wanted += map(mount_option.parse, mount)
    wanted += (Tmpfs(*parse.tmpfs(text)) for text in tmpfs)
    binds = [one for one in wanted if isinstance(one, HostPath)]
    found = [one for one in wanted if isinstance(one, VolumeRequest)]
    memory: dict[str, str] = {}
    for one in wanted:
        if isinstance(one, Tmpfs):
            if one.destination in memory:
                raise InvalidArgument(
                    f"two mounts go to the same place {one.destination!r}", hint="leave one of them out"
                )
            memory[one.destination] = one.options
    return request._replace(
        binds=[one.bind for one in binds],
        volumes=[one._replace(storage=one.storage or driver) for one in found],
        images=[one for one in wanted if isinstance(one, ImageMount)],
        tmpfs=memory,
        volumes_from=[_volumes_from(text) for text in volumes_from],
        directories=[one.bind.source for one in binds if one.make],
    )


def _volume(text: str) -> HostPath | VolumeRequest:
    """Read ``--volume [SOURCE:]TARGET[:OPTIONS]``."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise InvalidArgument(
            f"--volume {text!r} is not [SOURCE:]TARGET[:OPTIONS]", hint="a path with a ':' in it needs --mount"
        )
    if len(parts) == 1:
        return VolumeRequest(VolumeMount("", parse.place(f"--volume {text!r}", parts[0])))
    source, target, *modes = parts
    place = parse.place(f"--volume {text!r}", target)
    if source.startswith(("/", ".", "~")):
        real = os.path.realpath(os.path.expanduser(source))
        read_only, propagation, _ = _modes(text, modes[0].split(",") if modes else [])
        bind = BindMount(real, place, read_only, propagation or "rprivate")
        return HostPath(bind, make=not os.path.exists(real))
    read_only, propagation, nocopy = _modes(text, modes[0].split(",") if modes else [])
    if propagation:
        raise InvalidArgument(
            f"--volume {text!r}: a volume has no propagation, got {propagation!r}", hint="leave it out: it is private"
        )
    return VolumeRequest(VolumeMount(volumes.check_name(source), place, read_only, nocopy=nocopy))


def _modes(text: str, modes: Sequence[str]) -> tuple[bool, str, bool]:
    """Return whether it is read-only, its propagation if it says, and whether nothing is copied into it."""
    for choice in (("ro", "rw"), PROPAGATION):
        if len(found := set(modes).intersection(choice)) > 1:
            raise InvalidArgument(
                f"--volume {text!r} has both {' and '.join(sorted(found))}", hint="choose one of them"
            )
    read_only, propagation, nocopy = False, "", False
    for mode in modes:
        if mode in PROPAGATION:
            propagation = mode
        elif mode in {"ro", "rw"}:
            read_only = mode == "ro"
        elif mode == "nocopy":
            nocopy = True
        elif mode not in _IGNORED:
            raise InvalidArgument(
                f"--volume {text!r} has the unknown option {mode!r}", hint="use ro, rw, nocopy or a propagation"
            )
    return read_only, propagation, nocopy


def _volumes_from(text: str) -> tuple[str, bool]:
    """Read ``--volumes-from CONTAINER[:MODE]``."""
    name, colon, mode = text.partition(":")
    if not name or (colon and mode not in {"ro", "rw", "z", "Z"}):
        raise InvalidArgument(f"--volumes-from {text!r} is not CONTAINER, CONTAINER:ro or CONTAINER:rw")
    return name, mode == "ro"
