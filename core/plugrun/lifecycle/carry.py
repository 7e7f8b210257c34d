"""Carrying what a container has written from one storage driver to another, as a layer that goes through a pipe.

What a layer cannot hold is carried beside it: sockets, the permissions of the root directory beyond those that images
may have, POSIX access control lists and ``trusted.*`` attributes. What is looked at is what has changed otherwise too:
a file of the image whose only change is in such an attribute counts as unchanged.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from plugrun import descent, linux
from plugrun.errors import Unavailable
from plugrun.lifecycle import trees

if TYPE_CHECKING:
    from plugrun.api import Mount
    from plugrun.changes import Change
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine

_ENDLESS = 1 << 62
_NOT_OURS = ("trusted.overlay.", "security.")  # the layer has file capabilities; labels are the host's


def carry(engine: Engine, record: ContainerRecord, to: Sequence[Mount]) -> None:
    """Make a tree that is as the container's image the same as the container's own.

    :param record: of a container that does not run.
    :param to: mounts of that tree.
    :post: it survives a power cut.
    :raises FailedPrecondition: the container has a file that no layer can hold, such as one called ``.wh.x``.
    :raises Unavailable: there is no room.
    """
    from plugrun.changes import Kind
    from plugrun.lifecycle.diff import changes
    from plugrun.rootfd import RootDir

    with (
        changes(engine, record) as found,
        trees.mounted(engine, to) as target,
        RootDir.at(target) as new,
    ):
        _layer(found.root, found.changes, new.fd)
        try:
            _rest(found.root, new.fd, [one.path for one in found.changes if one.kind is not Kind.DELETED])
            linux.syncfs(str(target))
        except OSError as error:
            raise Unavailable(
                f"cannot copy what container {record.name} has written: {error.strerror}",
                hint="see whether the file system it moves to is full (df), read-only, or reporting errors (dmesg)",
            ) from error


def _layer(source: int, found: Iterable[Change], target: int) -> None:
    """Write the changes at one end of a pipe and apply them at the other."""
    from plugrun.images import layer_tar
    from plugrun.images.entry import Limits
    from plugrun.images.unpack import Whiteouts, unpack_layer

    failures: list[BaseException] = []
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    reader, writer = os.fdopen(read_end, "rb", 1 << 20), os.fdopen(write_end, "wb", 0)

    def write() -> None:
        try:
            with writer:
                layer_tar.write(source, found, lambda data: _write_all(writer.fileno(), data))
        except BrokenPipeError:
            pass  # the other end tells why
        except BaseException as error:  # noqa: BLE001 - raised by the one who waits
            failures.append(error)

    thread = threading.Thread(target=write, name="layer", daemon=True)
    thread.start()
    try:
        with reader:
            limits = Limits(total=_ENDLESS, members=_ENDLESS, file_size=_ENDLESS)
            unpack_layer(reader, target, whiteouts=Whiteouts.APPLY, limits=limits)
    except Exception:
        thread.join()
        if failures:  # of which an archive that ends too early is only the consequence
            raise failures[0] from None
        raise
    finally:
        thread.join()
    if failures:
        raise failures[0]


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _rest(source: int, target: int, paths: Iterable[bytes]) -> None:
    """Give the target what a layer does not hold of these paths."""
    with descent.Cursor(source) as old, descent.Cursor(target) as new:
        for path in paths:
            above, name = descent.split(path)
            old.go(above)
            new.go(above)
            found = os.stat(name, dir_fd=old.fd, follow_symlinks=False)
            if stat.S_ISSOCK(found.st_mode):
                _socket(old.fd, new.fd, name, found)
            if not path:
                os.fchmod(new.fd, stat.S_IMODE(found.st_mode))
            here, there = descent.beside(old.fd, name), descent.beside(new.fd, name)
            for attribute in os.listxattr(here, follow_symlinks=False):
                if not attribute.startswith(_NOT_OURS):
                    value = os.getxattr(here, attribute, follow_symlinks=False)
                    os.setxattr(there, attribute, value, follow_symlinks=False)


def _socket(old: int, new: int, name: bytes, found: os.stat_result) -> None:
    os.mknod(name, found.st_mode, dir_fd=new)
    os.chown(name, found.st_uid, found.st_gid, dir_fd=new, follow_symlinks=False)
    os.chmod(descent.beside(new, name), stat.S_IMODE(found.st_mode))
    os.utime(name, ns=(found.st_mtime_ns, found.st_mtime_ns), dir_fd=new, follow_symlinks=False)
    directory = os.fstat(old)
    os.utime(new, ns=(directory.st_mtime_ns, directory.st_mtime_ns))
