"""Finding the two ends of a copy: descriptors, from which on no name is looked up again."""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING, Final

from plugrun import linux
from plugrun.copying import paths
from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

    from plugrun.copying.paths import Place
    from plugrun.rootfd import RootDir

# linux/magic.h: file systems in which reading and writing do things, so that Docker's cp does not see them at all.
_KERNEL: Final = {
    0x9FA0: "proc",
    0x62656572: "sysfs",
    0x27E0EB: "cgroup",
    0x63677270: "cgroup2",
    0x1CD1: "devpts",
    0x19800202: "mqueue",
    0x64626720: "debugfs",
    0x74726163: "tracefs",
    0x73636673: "securityfs",
    0x62656570: "configfs",
    0xCAFE4A11: "bpf",
    0xDE5E81E4: "efivarfs",
    0x6165676C: "pstore",
    0x42494E4D: "binfmt_misc",
    0x65735543: "fusectl",
    0xF97CFF8C: "selinuxfs",
    0x6E736673: "nsfs",
}


class End:
    """One end's file system.

    :param root: what ``/`` means there; stays the caller's.
    :param inside: whether it is a container's: the kernel's own file systems are left alone there.
    """

    def __init__(self, root: RootDir, *, inside: bool) -> None:
        self._root = root
        self._inside = inside
        self._kernels: dict[int, bool] = {}  # device number → whether it is the kernel's

    def source(self, place: Place, *, follow: bool) -> int:
        """Return an ``O_PATH`` descriptor of what is to be copied; the caller closes it.

        :param follow: a link at the end of the path too; one is followed anyway if the path insists on a directory.
        :raises NotFound: there is nothing.
        :raises InvalidArgument: it is no directory, and the path ends as if it were.
        :raises FailedPrecondition: it is in a file system of the kernel's.
        """
        flags = os.O_PATH | (0 if follow or place.directory else os.O_NOFOLLOW)
        try:
            found = self._root.open(place.path, flags)
        except FileNotFoundError as error:
            raise NotFound(f"there is no {place.said}") from error
        except OSError as error:
            raise _unusable(place, error) from error
        try:
            self._check(found, place, (stat.S_IFDIR,) if place.directory else (), "not a directory")
        except BaseException:
            os.close(found)
            raise
        return found

    def target(self, place: Place, source: Place, *, is_directory: bool) -> Target:
        """Find where a source goes; raises as :meth:`source` and :func:`plugrun.copying.paths.name_at`."""
        found = self._open_directory(place.path, place)
        if isinstance(found, int):  # which no rule refuses
            exists = paths.Exists(directory=True)
            return Target(found, paths.name_at(source, place, is_directory=is_directory, found=exists))
        name = paths.name_at(source, place, is_directory=is_directory, found=found)
        assert name is not None
        path = self._root.resolve(place.path)  # also where a link leads whose target is yet to be made
        above = self._open_directory(posixpath.dirname(path), place)
        if not isinstance(above, int):
            raise NotFound(
                f"the directory that {place.said} is to be in does not exist", hint="cp makes no parent directories"
            )
        return Target(above, posixpath.basename(path))

    def directory(self, place: Place) -> Target:
        """Find a directory that an archive goes into.

        :raises NotFound: there is none.
        :raises InvalidArgument: it is something else.
        """
        found = self._open_directory(place.path, place)
        if found is None:
            raise NotFound(f"there is no directory {place.said}", hint="an archive needs one to go into")
        if not isinstance(found, int):
            raise InvalidArgument(f"{place.said} is not a directory", hint="an archive needs one to go into")
        return Target(found, None)

    def is_kernels(self, fd: int, device: int) -> bool:
        """Whether a file of a container is in a file system of the kernel's.

        :param device: ``st_dev`` of the file.
        """
        if not self._inside:
            return False
        if device not in self._kernels:
            self._kernels[device] = linux.file_system_type(fd) in _KERNEL
        return self._kernels[device]

    def _open_directory(self, path: str, place: Place) -> int | paths.Exists | None:
        """Return a descriptor of a directory; else what there is.

        :raises InvalidArgument: something that is neither a directory nor a regular file.
        """
        try:
            fd = self._root.open(path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unusable(place, error) from error
        status = os.fstat(fd)
        try:
            self._check(fd, place, (stat.S_IFDIR, stat.S_IFREG), "neither a directory nor a regular file")
        except BaseException:
            os.close(fd)
            raise
        if stat.S_ISDIR(status.st_mode):
            return fd
        os.close(fd)
        return paths.Exists(directory=False)

    def _check(self, fd: int, place: Place, kinds: Collection[int], otherwise: str) -> None:
        """Refuse what is of none of these kinds, if any are given, and what is the kernel's."""
        status = os.fstat(fd)
        if kinds and stat.S_IFMT(status.st_mode) not in kinds:
            raise InvalidArgument(f"{place.said} is {otherwise}")
        if self.is_kernels(fd, status.st_dev):
            kind = _KERNEL[linux.file_system_type(fd)]
            raise FailedPrecondition(
                f"{place.said} is in a file system of the kernel's ({kind}), which cp leaves alone",
                hint="use plugrun exec",
            )


class Target(NamedTuple):
    """Where something goes.

    :param fd: ``O_PATH`` descriptor of a directory that exists.
    :param name: its name there; ``None`` if it is that directory itself.
    """

    fd: int
    name: str | None


def _unusable(place: Place, error: OSError) -> InvalidArgument:
    return InvalidArgument(f"cannot use {place.said}: {error.strerror}")
