"""The one module that calls mount(2): drivers describe mounts, this performs and undoes them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from plugrun import linux
from plugrun.errors import DriverError, PlugrunError, Unavailable

if TYPE_CHECKING:
    from plugrun.api import Mount

_FLAGS = {
    "bind": linux.MS_BIND,
    "rbind": linux.MS_BIND | linux.MS_REC,
    "ro": linux.MS_RDONLY,
    "rw": 0,
    "nosuid": linux.MS_NOSUID,
    "nodev": linux.MS_NODEV,
    "noexec": linux.MS_NOEXEC,
    "noatime": linux.MS_NOATIME,
}

PAGE = os.sysconf("SC_PAGE_SIZE")


def mount_all(mounts: Sequence[Mount], target: str) -> None:
    """Mount a driver's answer at ``target``, each on top of the one before.

    :pre: ``target`` is an existing directory.
    :post: on success all are mounted; on failure none is.
    :raises DriverError: the kernel refused one; names it and the kernel's reason.
    :raises PlugrunError: a file that is to be mounted through a loop device gets none, as :func:`loop.attached`.
    """
    done = 0
    try:
        for mount in mounts:
            _mount(mount, target)
            done += 1
    except OSError as error:
        _undo(target, done)
        raise DriverError(
            f"cannot mount {mount.type} file system at {target}: {error.strerror}",
            hint="the kernel log (dmesg) usually says which option it did not like",
        ) from error
    except PlugrunError:  # no loop device
        _undo(target, done)
        raise


def _undo(target: str, count: int) -> None:
    for _ in range(count):
        linux.umount(target, linux.MNT_DETACH)


def unmount(target: str) -> None:
    """Unmount everything mounted at ``target``; nothing mounted there, or no such path, is fine.

    :raises DriverError: the kernel refused.
    """
    flags = linux.UMOUNT_NOFOLLOW
    while True:
        try:
            linux.umount(target, flags)
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.ENOENT}:  # not a mount point (any more)
                return
            if error.errno == errno.EBUSY and not flags & linux.MNT_DETACH:
                flags |= linux.MNT_DETACH  # somebody looks inside: it vanishes from the tree now, ends when they leave
                continue
            raise DriverError(f"cannot unmount {target}: {error.strerror}") from error


def bind(descriptor: int, target: str) -> None:
    """Mount what a descriptor is open on at ``target``, privately and without what is mounted below it.

    By the descriptor, because a path could lead elsewhere by the time the kernel looks at it.

    :pre: ``target`` is an existing directory if the descriptor is of one, else an existing file.
    :raises DriverError: the kernel refused.
    """
    try:
        linux.mount(f"/proc/self/fd/{descriptor}", target, "", linux.MS_BIND, "")
        linux.mount("", target, "", linux.MS_PRIVATE, "")
    except OSError as error:
        raise DriverError(f"cannot mount a part of a volume at {target}: {error.strerror}") from error


def attach(source: int, target: int, *, read_only: bool, recursive: str = "enabled") -> None:
    """Bind-mount an open file or directory at another: no name is looked up.

    Private, because taking down what is mounted below a peer of the host's mounts would take down theirs.

    :param recursive: what becomes of mounts below, see :class:`plugrun.container.BindMount`.
    :post: the next look-up of the target's path finds it; :func:`unmount` of a mount above takes it along.
    :raises Unavailable: this kernel has no mount_setattr(2), Linux 5.12.
    :raises OSError: the kernel refused.
    """
    tree = linux.clone_tree(source, below=recursive != "disabled")
    try:
        linux.set_mount_attributes(tree, propagation=linux.MS_PRIVATE)
        if read_only:
            linux.set_mount_attributes(tree, attributes=linux.MOUNT_ATTR_RDONLY, below=recursive != "writable")
        linux.attach_tree(tree, target)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise Unavailable("this kernel has no mount_setattr system call", hint="it needs Linux 5.12") from error
        raise
    finally:
        os.close(tree)


def make_read_only(target: str) -> None:
    """Refuse writes below a mount point from now on.

    :raises OSError: the kernel refused: something is open for writing.
    """
    linux.mount("", target, "", linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY, "")


def is_mount_point(path: str) -> bool:
    """Whether something is mounted at ``path``, bind mounts included (:func:`os.path.ismount` misses those)."""
    wanted = os.path.realpath(path)
    return any(point == wanted for point in mount_points())


def mount_points() -> Iterator[str]:
    """Yield every mount point of this mount namespace, as in proc_pid_mountinfo(5), unescaped."""
    for line in _mount_lines():
        yield _unescaped(line.split(b" ", 5)[4])


def points_of(device: str) -> Iterator[str]:
    """Yield where in this mount namespace a block device is mounted.

    :param device: path of the device.
    """
    number = os.stat(device).st_rdev
    numbers = f"{os.major(number)}:{os.minor(number)}".encode()
    for line in _mount_lines():
        fields, _, rest = line.partition(b" - ")
        words = fields.split(b" ", 5)
        # btrfs and others that span devices have a number of their own; then the source tells
        if words[2] == numbers or rest.split(b" ")[1] == os.fsencode(device):
            yield _unescaped(words[4])


def covering(path: os.PathLike[str]) -> tuple[str, str, str]:
    """Return mount point, source and type of the file system that an existing path is on."""
    wanted = os.path.realpath(path)
    best = ("/", "", "")
    for line in _mount_lines():
        fields, _, rest = line.partition(b" - ")
        point = _unescaped(fields.split(b" ", 5)[4])
        if wanted == point or wanted.startswith(point.rstrip("/") + "/"):
            kind, source, *_ = rest.split(b" ")
            if len(point) >= len(best[0]):  # of several at one place the last is on top
                best = (point, _unescaped(source), os.fsdecode(kind))
    return best


def _mount_lines() -> Iterator[bytes]:
    with open("/proc/self/mountinfo", "rb") as stream:
        yield from stream


def _unescaped(path: bytes) -> str:
    return os.fsdecode(path.replace(b"\\040", b" ").replace(b"\\011", b"\t").replace(b"\\134", b"\\"))


def _mount(mount: Mount, target: str) -> None:
    """Mount one, with its flags; whatever the kernel refuses, nothing of it stays."""
    flags, data = _split_options(mount.options)
    if mount.type == "bind":
        linux.mount(mount.source, target, "", linux.MS_BIND | (flags & linux.MS_REC), "")
    elif "loop" in data:
        from plugrun import loop

        data.remove("loop")
        with loop.attached(mount.source, read_only=bool(flags & linux.MS_RDONLY)) as device:
            linux.mount(device, target, mount.type, flags, ",".join(data))
    else:
        with _within_page(mount.type, data) as short:
            linux.mount(mount.source, target, mount.type, flags, ",".join(short))
    try:
        if mount.type == "bind" and flags & ~(linux.MS_BIND | linux.MS_REC):
            # A bind takes its flags only from a second call: mount(2), "Creating a bind mount".
            linux.mount("", target, "", linux.MS_REMOUNT | linux.MS_BIND | flags, "")
        linux.mount("", target, "", linux.MS_PRIVATE, "")
        if mount.type != "bind" and not flags & linux.MS_RDONLY:
            _insist_on_writing(target)
    except OSError:
        linux.umount(target, linux.MNT_DETACH)
        raise


def _insist_on_writing(target: str) -> None:
    """Refuse what has become read-only: overlayfs does where it cannot make its work directory, as on a full disk.

    :raises OSError: that.
    """
    about = os.statvfs(target)
    if about.f_flag & os.ST_RDONLY:
        number = errno.EROFS if about.f_bavail and about.f_favail else errno.ENOSPC
        raise OSError(number, os.strerror(number))


def _split_options(options: Sequence[str]) -> tuple[int, list[str]]:
    flags, data = 0, []
    for option in options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        else:
            data.append(option)
    return flags, data


@contextlib.contextmanager
def _within_page(fstype: str, options: list[str]) -> Iterator[list[str]]:
    """Keep overlay options within the one page that mount(2) copies.

    Deep images have more lower directories than fit, so each is named by an open descriptor instead, which takes
    17 bytes whatever the path (containerd#2153, containers/storage#1159).
    """
    if fstype != "overlay" or len(os.fsencode(",".join(options))) < PAGE:
        yield options
        return
    with contextlib.ExitStack() as descriptors:

        def short(path: str) -> str:
            descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            descriptors.callback(os.close, descriptor)
            return f"/proc/self/fd/{descriptor}"

        yield [
            "lowerdir=" + ":".join(map(short, option.removeprefix("lowerdir=").split(":")))
            if option.startswith("lowerdir=")
            else option
            for option in options
        ]
