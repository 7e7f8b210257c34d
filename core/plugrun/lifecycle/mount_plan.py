"""What will be mounted in a new container: what its user asks for, what other containers have, what its image says.

Docker's order: the user's own mounts hide those of ``--volumes-from``, of which a later container's hide an earlier
one's, and all of them hide the image's.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
from typing import TYPE_CHECKING

from plugrun import volumes
from plugrun.container import BindMount, ContainerConfig, ImageMount, VolumeMount
from plugrun.errors import InvalidArgument, Unavailable
from plugrun.request import ContainerRequest, VolumeRequest
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from plugrun.engine import Engine
    from plugrun.images.store import Image


_Mount = BindMount | VolumeMount | ImageMount


class Plan(NamedTuple):
    """The mounts of a container that is about to be made.

    :param config: its configuration, with all of them.
    :param volumes: the volumes among them, which may have to be made, by their names.
    :param directories: of the host, to be made if they are missing.
    """

    config: ContainerConfig
    volumes: Sequence[VolumeRequest]
    directories: Sequence[str]


def plan(
    engine: Engine, request: ContainerRequest, image: Image, config: ContainerConfig, find: Callable[[str], Image]
) -> Plan:
    """Decide on the mounts; nothing is made yet.

    :param find: finds the image of a name.
    :raises InvalidArgument: two mounts go to the same place, or the image has a volume where none can be.
    :raises NotFound: there is no such container to take volumes from, or no such image.
    """
    asked = [_named(one) for one in request.volumes]
    images = [one._replace(image_id=find(one.image).id) for one in request.images]
    mounts: dict[str, _Mount | None] = {}
    given: list[_Mount] = [*request.binds, *(one.mount for one in asked), *images]
    for mount in given:
        _take(mounts, mount.destination, mount)
    for destination in request.tmpfs:
        _take(mounts, destination, None)
    for place, borrowed in {mount.destination: mount for mount in _borrowed(engine, request)}.items():
        mounts.setdefault(place, borrowed)
    own = [_named(VolumeRequest(VolumeMount("", place))) for place in _declared(image) if place not in mounts]
    chosen = list(mounts.values())
    kept = [mount for mount in chosen if isinstance(mount, VolumeMount)]
    known = {one.mount for one in asked}
    wanted = [*asked, *(VolumeRequest(mount, must_exist=True) for mount in kept if mount not in known), *own]
    return Plan(
        config._replace(
            binds=tuple(mount for mount in chosen if isinstance(mount, BindMount)),
            volumes=(*kept, *(one.mount for one in own)),
            images=tuple(mount for mount in chosen if isinstance(mount, ImageMount)),
        ),
        wanted,
        request.directories,
    )


def provide(engine: Engine, found: Plan, storage: str) -> None:
    """Make the volumes and directories that are missing.

    :param storage: the driver to make volumes in that do not say.
    :pre: the container is recorded with its volumes, so that none of them can be removed from now on.
    :raises NotFound: a volume that must exist is gone.
    :raises AlreadyExists: a volume is there already and not what was asked for.
    :raises Unavailable: one cannot be made.
    """
    for one in found.volumes:
        if one.must_exist:
            engine.volumes.find(one.mount.name)
            continue
        volumes.create(
            engine,
            one.mount.name,
            storage=one.storage,
            default=storage,
            options=one.options,
            labels=one.labels,
            anonymous=one.anonymous,
        )
    for directory in found.directories:
        _make_directory(directory)


def _take(mounts: dict[str, _Mount | None], destination: str, mount: _Mount | None) -> None:
    if destination in mounts:
        raise InvalidArgument(f"two mounts go to the same place {destination!r}", hint="leave one of them out")
    mounts[destination] = mount


def _borrowed(engine: Engine, request: ContainerRequest) -> Iterator[_Mount]:
    """Yield the mounts of the containers that the user wants those of, tmpfs excepted."""
    for name, read_only in request.volumes_from:
        other = engine.containers.find(name).config
        for bind in other.binds:
            yield bind._replace(read_only=bind.read_only or read_only)
        for volume in other.volumes:
            yield volume._replace(read_only=volume.read_only or read_only, nocopy=True)
        yield from other.images


def _declared(image: Image) -> Iterator[str]:
    """Yield the places where the image says that volumes belong."""
    for place in dict.fromkeys(posixpath.normpath(path) for path in image.config.volumes):
        if not place.startswith("/") or not place.strip("/"):
            raise InvalidArgument(
                f"the image has a volume at {place!r}, where none can be", hint="mend the image: give an absolute path"
            )
        yield f"/{place.lstrip('/')}"


def _named(one: VolumeRequest) -> VolumeRequest:
    """Give a volume that nobody named the name it is recorded with."""
    if one.mount.name:
        volumes.check_name(one.mount.name)
        return one
    return one._replace(mount=one.mount._replace(name=os.urandom(32).hex()), anonymous=True)


def _make_directory(path: str) -> None:
    """Make a directory of the host and its parents, 0755 whatever the umask."""
    try:
        if posixpath.dirname(path) != path and not os.path.isdir(posixpath.dirname(path)):
            _make_directory(posixpath.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
            os.chmod(path, 0o755)  # noqa: S103 - as Docker makes it
    except OSError as error:
        raise Unavailable(f"cannot make {path} on this host: {error.strerror}") from error
