"""Whether overlay works on this machine, from facts that can be read: nothing is mounted, nothing written."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_CAP_SYS_ADMIN = 21  # linux/capability.h
_DT_UNKNOWN = 0  # readdir(3)
_OVERLAYFS_MAGIC = 0x794C7630  # linux/magic.h
_ALL_IDS = ["0", "0", "4294967295"]  # user_namespaces(7): the map of the initial user namespace

_libc = ctypes.CDLL(None, use_errno=True)


def probe(state_dir: Path) -> str | None:
    """Say why the overlay driver cannot keep its state in ``state_dir``, ``None`` when it can.

    :param state_dir: need not exist; then the file system of its nearest existing parent counts.
    """
    return _kernel_problem() or _rights_problem() or _place_problem(_nearest(state_dir))


def _kernel_problem() -> str | None:
    with open("/proc/filesystems", encoding="ascii") as stream:
        if any(line.split()[-1:] == ["overlay"] for line in stream):
            return None
    if os.path.isdir(f"/lib/modules/{os.uname().release}/kernel/fs/overlayfs"):
        return None  # the first mount loads it
    return "the kernel has no overlay file system (CONFIG_OVERLAY_FS)"


def _rights_problem() -> str | None:
    with open("/proc/self/status", encoding="utf-8", errors="replace") as stream:
        effective = next(int(line.split()[1], 16) for line in stream if line.startswith("CapEff:"))
    if not effective >> _CAP_SYS_ADMIN & 1:
        return "mounting needs the capability CAP_SYS_ADMIN; run as root, outside of an unprivileged container"
    with open("/proc/self/uid_map", encoding="ascii") as stream:
        if stream.read().split() != _ALL_IDS:
            return "trusted.* attributes cannot be written in a user namespace; run as root of the machine"
    return None


def _place_problem(place: Path) -> str | None:
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _magic(descriptor) == _OVERLAYFS_MAGIC:
            return f"{place} is on overlay itself, which cannot be stacked for writing; use --root on a disk or a tmpfs"
        try:
            os.getxattr(descriptor, "trusted.overlay.opaque")
        except OSError as error:
            if error.errno != errno.ENODATA:
                return f"the file system of {place} keeps no trusted.* attributes; use --root on ext4, xfs or btrfs"
        if _DT_UNKNOWN in _types(descriptor):
            return f"the file system of {place} does not tell the type of directory entries; use --root on ext4 or xfs"
    finally:
        os.close(descriptor)
    return None


def _nearest(path: Path) -> Path:
    while not path.is_dir():
        path = path.parent
    return path


def _magic(descriptor: int) -> int:
    """Return the ``f_type`` of fstatfs(2), its first word, which :func:`os.statvfs` leaves out."""
    buffer = (ctypes.c_ulong * 64)()
    if _libc.fstatfs(descriptor, buffer) != 0:
        raise OSError(ctypes.get_errno(), "fstatfs")
    return int(buffer[0])


def _types(descriptor: int) -> set[int]:
    """Return the entry types that one getdents64(2) reports; :func:`os.scandir` hides the unknown ones."""
    buffer = ctypes.create_string_buffer(4096)
    _libc.getdents64.restype = ctypes.c_ssize_t
    size = _libc.getdents64(descriptor, buffer, ctypes.c_size_t(len(buffer)))
    types, position = set(), 0
    while position < size:  # struct linux_dirent64: inode 8, offset 8, record length 2, type 1, name
        types.add(buffer.raw[position + 18])
        position += int.from_bytes(buffer.raw[position + 16 : position + 18], "little")
    return types
