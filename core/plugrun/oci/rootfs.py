"""The root file system before the runtime gets it: checked, and made ready for the mounts.

Runtimes up to crun 1.27 and runc 1.3.5 follow an image's ``/dev`` link out of the root file system and make device nodes and
links on the host (CVE-2026-47766, CVE-2026-41579). So the engine itself looks first, on descriptors that cannot leave the root.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from plugrun.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from plugrun.container import BindMount, ContainerConfig
    from plugrun.rootfd import RootDir

_KERNEL = ("/dev", "/proc", "/sys")
# Below the kernel's own file systems only these may be mounted over (Docker allows no more that is useful).
_ALLOWED_BELOW = ("/dev/shm", "/dev/mqueue", "/sys/fs/cgroup")  # noqa: S108 - a place in a container


@dataclass(frozen=True, slots=True)
class Prepared:
    """The mounts of a container with destinations that are free of links: the runtime has nothing left to follow."""

    binds: tuple[BindMount, ...]
    tmpfs: dict[str, str]
    etc_files: dict[str, str]


def prepare(root: RootDir, config: ContainerConfig, etc_files: Mapping[str, str]) -> Prepared:
    """Check a mounted root file system and make mount points and the working directory in it.

    :param etc_files: destination → host path; one that the user binds over is left out.
    :raises FailedPrecondition: the image must not be started: its ``/dev``, ``/proc`` or ``/sys`` is no directory.
    :raises InvalidArgument: a mount or the working directory is at a place where it cannot be.
    """
    for path in _KERNEL:
        _require_directory(root, path)
    binds = tuple(replace(bind, destination=_place(root, bind.destination)) for bind in config.binds)
    tmpfs = {_place(root, destination): options for destination, options in config.tmpfs.items()}
    taken = {bind.destination for bind in binds} | set(tmpfs)
    _refuse_twice([bind.destination for bind in binds] + list(tmpfs))
    files = {place: source for path, source in etc_files.items() if (place := root.resolve(path)) not in taken}
    for bind in binds:
        _make_mount_point(root, bind.destination, directory=os.path.isdir(bind.source))
    for destination in tmpfs:
        _make_mount_point(root, destination, directory=True)
    for destination in files:
        _make_mount_point(root, destination, directory=False)
    _make_workdir(root, config.workdir)
    return Prepared(binds, tmpfs, files)


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


def _place(root: RootDir, destination: str) -> str:
    """Resolve where a user's mount goes, and refuse the kernel's own places."""
    place = root.resolve(destination)
    if place == "/":
        raise InvalidArgument(f"{destination!r} is the container's root, which cannot be mounted over")
    for kernel in _KERNEL:
        below = place == kernel or place.startswith(f"{kernel}/")
        if below and place not in _ALLOWED_BELOW and not (kernel == "/dev" and place != kernel):
            raise InvalidArgument(f"nothing can be mounted at {destination!r}: {kernel} is the kernel's")
    return place


def _refuse_twice(places: list[str]) -> None:
    for place in places:
        if places.count(place) > 1:
            raise InvalidArgument(f"two mounts go to the same place {place!r}", hint="leave one of them out")


def _make_mount_point(root: RootDir, place: str, *, directory: bool) -> None:
    if any(place.startswith(f"{kernel}/") for kernel in _KERNEL):
        return  # it will be in a file system that the runtime mounts there
    if directory:
        os.close(root.ensure_dir(place))
    else:
        root.ensure_file(place)


def _make_workdir(root: RootDir, workdir: str) -> None:
    if not workdir.startswith("/"):
        raise InvalidArgument(f"the working directory {workdir!r} is not absolute", hint="choose one with --workdir")
    place = root.resolve(posixpath.normpath(workdir))
    if any(place == kernel or place.startswith(f"{kernel}/") for kernel in _KERNEL[1:]):
        # A descriptor of the runtime's may be had there (CVE-2024-21626).
        raise InvalidArgument(f"the working directory {workdir!r} is in a file system of the kernel's")
    os.close(root.ensure_dir(place))
