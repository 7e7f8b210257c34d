"""The root file system before the runtime gets it: checked, and made ready for the mounts.

Runtimes up to crun 1.27 and runc 1.3.5 follow an image's ``/dev`` link out of the root file system and make device
nodes and links on the host (CVE-2026-47766, CVE-2026-41579). So the engine itself looks first, on descriptors that
cannot leave the root.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING

from plugrun.errors import FailedPrecondition, InvalidArgument
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.container import BindMount, ContainerConfig
    from plugrun.rootfd import RootDir

_KERNEL = ("/dev", "/proc", "/sys")  # what the runtime mounts there hides whatever the image has there

# Files of proc(5) that lxcfs replaces; runtimes refuse every other mount below /proc (CVE-2019-16884).
_PROC_FILES = frozenset(
    f"/proc/{name}" for name in ("cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime")
)
_CGROUPS = "/sys/fs/cgroup"
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a place in a container


class Prepared(NamedTuple):
    """Places in a container, free of links and ``..``: nothing of the image is left for the runtime to follow."""

    binds: tuple[BindMount, ...]
    tmpfs: dict[str, str]
    etc_files: dict[str, str]
    workdir: str


def prepare(root: RootDir, config: ContainerConfig, etc_files: Mapping[str, str]) -> Prepared:
    """Check a mounted root file system and make mount points and the working directory in it.

    Both belong to root, as in Docker, whoever the container runs as.

    :param root: nothing else may change it meanwhile; it is writable still if the container will not see it so.
    :param etc_files: destination → host path; one whose place the user covers with a mount is left out.
    :raises FailedPrecondition: the image must not be started: its ``/dev``, ``/proc`` or ``/sys`` is no directory, or
        an ``etc_files`` destination is a link into one; or the source of a bind mount is gone.
    :raises InvalidArgument: a mount or the working directory is at a place where it cannot be.
    """
    for path in _KERNEL:
        _require_directory(root, path)
    places = _Places(root)
    wanted = [(bind.destination, _is_directory(bind.source)) for bind in config.binds]
    wanted += [(destination, True) for destination in config.tmpfs]
    wanted.sort(key=lambda mount: posixpath.normpath(mount[0]).count("/"))  # what is above hides what is below
    found = {destination: places.take(destination, directory=directory) for destination, directory in wanted}
    binds = tuple(bind._replace(destination=found[bind.destination]) for bind in config.binds)
    tmpfs = {found[destination]: options for destination, options in config.tmpfs.items()}
    files = {place: source for path, source in etc_files.items() if (place := places.etc_file(path)) is not None}
    return Prepared(binds, tmpfs, files, places.workdir(config.workdir))


class _Places:
    """Where things go in one root file system; what something is mounted on is not looked into any more."""

    def __init__(self, root: RootDir) -> None:
        self._root = root
        self._taken: list[str] = []

    def take(self, destination: str, *, directory: bool) -> str:
        """Make the mount point of a user's mount, and return where it is."""
        place = self._resolve(destination)
        _check_place(destination, place, directory=directory)
        if place in self._taken:
            raise InvalidArgument(f"two mounts go to the same place {place!r}", hint="leave one of them out")
        if self._is_of_image(place):
            self._make_point(place, directory=directory)
        self._taken.append(place)
        return place

    def etc_file(self, path: str) -> str | None:
        """Make the mount point of one of the engine's files; ``None`` if the user has something else there."""
        place = self._resolve(path)
        if kernel := _below_kernel(place):
            raise FailedPrecondition(
                f"the image's {path} is a link to {place!r}, and {kernel} is the kernel's",
                hint="mend the image: make it a file, or remove it",
            )
        if any(_is_below(place, taken) for taken in self._taken):
            return None
        _make(self._root, place, directory=False)
        return place

    def workdir(self, path: str) -> str:
        """Make the working directory, and return where it is."""
        if not path.startswith("/"):
            raise InvalidArgument(f"the working directory {path!r} is not absolute", hint="choose one with --workdir")
        place = self._resolve(path)
        if _below_kernel(place) and place != _SHARED_MEMORY:
            # Through /proc/self/fd, or /dev/fd, a descriptor of the runtime's may be had (CVE-2024-21626).
            raise InvalidArgument(
                f"the working directory {path!r} is in a file system of the kernel's", hint="choose one with --workdir"
            )
        if self._is_of_image(place):
            _make(self._root, place, directory=True)
        return place

    def _make_point(self, place: str, *, directory: bool) -> None:
        try:
            _make(self._root, place, directory=directory)
        except InvalidArgument as error:
            kind = "directory" if directory else "file"
            raise InvalidArgument(
                str(error), hint=f"a {kind} can only be mounted on a {kind}, or where nothing is yet"
            ) from error

    def _resolve(self, path: str) -> str:
        return self._root.resolve(path, covered=(*_KERNEL, *self._taken))

    def _is_of_image(self, place: str) -> bool:
        return not any(_is_below(place, covered) for covered in (*_KERNEL, *self._taken))


def _require_directory(root: RootDir, path: str) -> None:
    name = path.lstrip("/")
    try:
        mode = os.stat(name, dir_fd=root.fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        os.close(root.ensure_dir(path))
        return
    if not stat.S_ISDIR(mode):
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a directory"
        raise FailedPrecondition(
            f"the image's {path} is {kind}, and a container started from it could reach the host",
            hint="do not trust this image; mend it so that it is a directory",
        )


def _check_place(destination: str, place: str, *, directory: bool) -> None:
    """Refuse the root and the kernel's own places, but for what Docker allows below them if it is asked for by name."""
    if place == "/":
        raise InvalidArgument(f"{destination!r} is the container's root, which cannot be mounted over")
    kernel = _below_kernel(place)
    if kernel is None:
        return
    allowed = (
        (place in _PROC_FILES and not directory) or _is_below(place, _CGROUPS) or (kernel == "/dev" and place != kernel)
    )
    if not allowed or posixpath.normpath(destination) != place:
        raise InvalidArgument(f"nothing can be mounted at {destination!r}: {place} is the kernel's")


def _make(root: RootDir, place: str, *, directory: bool) -> None:
    if directory:
        os.close(root.ensure_dir(place))
    else:
        root.ensure_file(place)


def _is_directory(source: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(source).st_mode)
    except OSError as error:
        raise FailedPrecondition(
            f"cannot bind-mount {source} of this host: {error.strerror}", hint="put it back, or make a new container"
        ) from error


def _below_kernel(place: str) -> str | None:
    return next((kernel for kernel in _KERNEL if _is_below(place, kernel)), None)


def _is_below(place: str, directory: str) -> bool:
    return place == directory or place.startswith(f"{directory}/")
