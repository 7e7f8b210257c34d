"""Loop devices: regular files as block devices, which end by themselves when nobody has them mounted or open.

Sources: loop(4), ``linux/loop.h``, ``drivers/block/loop.c``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import struct
from collections.abc import Iterator

from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from plugrun.tuples import NamedTuple

_CONTROL = "/dev/loop-control"
_CONFIGURE, _GET_STATUS, _SET_CAPACITY = 0x4C0A, 0x4C05, 0x4C07  # LOOP_CONFIGURE, LOOP_GET_STATUS64, …
_GET_FREE = 0x4C82  # LOOP_CTL_GET_FREE
_READ_ONLY, _AUTOCLEAR, _DIRECT_IO = 1, 4, 16  # LO_FLAGS_…
# struct loop_info64: device, inode, rdevice, offset, sizelimit; number, encrypt_type, encrypt_key_size, flags;
# file_name, crypt_name, encrypt_key; init
_INFO = struct.Struct("=5Q4I64s64s32s2Q")
_CONFIG = struct.Struct(f"=2I{_INFO.size}s8Q")  # struct loop_config: fd, block_size, info, reserved
_ATTEMPTS = 100  # each lost to another process that took the same free device


@contextlib.contextmanager
def attached(file: str, *, read_only: bool = False) -> Iterator[str]:
    """Have a file as a block device for a block; what is mounted from it then keeps the device, and nothing else does.

    Two devices of one file, each with a cache of its own, destroy what is in it. So a device that the whole file has
    already is used again.

    :return: path of the device.
    :raises NotFound: no such file.
    :raises InvalidArgument: it is not a regular file.
    :raises FailedPrecondition: it has a device that can only be read, or shows only a part of it.
    :raises Unavailable: the kernel gives no loop device.
    """
    backing = _open_file(file, read_only=read_only)
    try:
        with _control():
            device, path = _find(backing, file, read_only=read_only) or _make(backing, file, read_only=read_only)
    finally:
        os.close(backing)
    try:
        yield path
    finally:
        os.close(device)


def devices(file: str) -> list[str]:
    """Return the paths of the loop devices that a file has."""
    wanted = os.stat(file)
    found = []
    for path in _in_use():
        with _opened(path, os.O_RDONLY) as device:
            if device is not None and _is_of(_info(device), wanted):
                found.append(path)
    return found


def backing_file(device: str) -> str | None:
    """Return the path of the file that a device is of, wherever that is by now; ``None`` if it is no loop device.

    That of a file which was deleted ends in `` (deleted)``.
    """
    try:
        with open(f"/sys/block/{os.path.basename(device)}/loop/backing_file", "rb") as stream:
            return os.fsdecode(stream.read().removesuffix(b"\n"))
    except FileNotFoundError:
        return None


def enlarge(file: str) -> None:
    """Let every device of a file have the size that the file has now (``LOOP_SET_CAPACITY``).

    :raises Unavailable: the kernel refused.
    """
    for path in devices(file):
        with _opened(path, os.O_RDONLY) as device:
            try:
                if device is not None:
                    fcntl.ioctl(device, _SET_CAPACITY, 0)
            except OSError as error:
                raise Unavailable(f"cannot enlarge the loop device {path} of {file}: {error.strerror}") from error


@contextlib.contextmanager
def _control() -> Iterator[None]:
    """Let one process at a time look for a file's device and make it: two at once would make two."""
    try:
        descriptor = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(
            f"there are no loop devices here ({_CONTROL}: {error.strerror})", hint="load the module: modprobe loop"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open_file(file: str, *, read_only: bool) -> int:
    flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(file, flags)
    except FileNotFoundError:
        raise NotFound(f"no such file: {file}") from None
    except IsADirectoryError:
        raise InvalidArgument(f"{file} is a directory, not a file with a file system in it") from None
    except OSError as error:
        raise Unavailable(f"cannot open {file}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidArgument(f"{file} is not a regular file")
    return descriptor


def _find(backing: int, file: str, *, read_only: bool) -> tuple[int, str] | None:
    """Open the device that a file has already."""
    wanted = os.fstat(backing)
    for path in _in_use():
        try:
            device = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
        except OSError:  # gone since it was listed
            continue
        info = _info(device)  # asked of the open device, which its last user can no longer take away
        if info is not None and _is_of(info, wanted):
            if not info.offset and not info.limit and (read_only or not info.flags & _READ_ONLY):
                return device, path
            os.close(device)
            raise FailedPrecondition(
                f"{file} is attached to {path}, in part or for reading only", hint=f"detach it: losetup -d {path}"
            )
        os.close(device)
    return None


def _make(backing: int, file: str, *, read_only: bool) -> tuple[int, str]:
    """Attach a file to a free device and return that, open: it lives as long as somebody has it open or mounted."""
    flags = _AUTOCLEAR | _DIRECT_IO | (_READ_ONLY if read_only else 0)  # the kernel drops direct I/O where it cannot be
    name = os.fsencode(file)[:63]
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, name, b"", b"", 0, 0)
    config = _CONFIG.pack(backing, 0, info, *[0] * 8)
    for _ in range(_ATTEMPTS):
        device = -1
        try:
            path = f"/dev/loop{_free()}"
            device = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
            fcntl.ioctl(device, _CONFIGURE, config)
        except OSError as error:
            if device >= 0:
                os.close(device)
            if error.errno != errno.EBUSY:
                raise Unavailable(
                    f"no loop device for {file}: {error.strerror}", hint="see losetup -l, dmesg"
                ) from error
        else:
            return device, path
    raise Unavailable(f"no loop device for {file}: others take each that is free", hint="see losetup -l")


def _free() -> int:
    descriptor = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(descriptor, _GET_FREE)
    finally:
        os.close(descriptor)


class _Info(NamedTuple):
    """What a device is attached to: where in which file."""

    device: int
    inode: int
    offset: int
    limit: int
    flags: int


def _info(device: int) -> _Info | None:
    """Ask a device what it is attached to; ``None`` for nothing."""
    try:
        answer = fcntl.ioctl(device, _GET_STATUS, bytes(_INFO.size))
    except OSError:  # ENXIO: cleared since it was listed
        return None
    device_number, inode, _, offset, limit, _, _, _, flags, *_ = _INFO.unpack(answer)
    return _Info(device_number, inode, offset, limit, flags)


def _is_of(info: _Info | None, wanted: os.stat_result) -> bool:
    return info is not None and (_decoded(info.device), info.inode) == (wanted.st_dev, wanted.st_ino)


def _decoded(device: int) -> int:
    """Return a device number as the kernel writes it (``huge_encode_dev``) in the form of stat(2)."""
    return os.makedev(device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00)


def _in_use() -> Iterator[str]:
    """Yield the device files of attached devices."""
    for name in os.listdir("/sys/block"):
        if re.fullmatch(r"loop\d+", name) and os.path.exists(f"/sys/block/{name}/loop"):
            yield f"/dev/{name}"


@contextlib.contextmanager
def _opened(path: str, flags: int) -> Iterator[int | None]:
    """Have a device open for a block; ``None`` when it is gone."""
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
