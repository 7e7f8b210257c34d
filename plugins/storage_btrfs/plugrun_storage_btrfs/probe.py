"""Whether btrfs works on this machine, from facts that can be read: nothing is mounted, nothing written."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from plugrun.api import Unavailable

_CAP_SYS_ADMIN = 21  # linux/capability.h
_BTRFS_MAGIC = 0x9123683E  # linux/magic.h

_POOL = "plugrun storage create btrfs --size 20G"
_INSTALL = "install the Debian packages gcc, libbtrfsutil-dev and python3-dev, then: pip install 'plugrun[btrfs]'"

_libc = ctypes.CDLL(None, use_errno=True)


def probe(state_dir: Path) -> str | None:
    """Say why the btrfs driver cannot keep its state in ``state_dir``, ``None`` when it can.

    :param state_dir: need not exist; then the file system of its nearest existing parent counts.
    """
    problem = _kernel_problem() or _rights_problem() or _library_problem() or _place_problem(_nearest(state_dir))
    return None if problem is None else "; ".join(problem)


def require(state_dir: Path) -> None:
    """Refuse what would fail later: the binding may have been removed since, and a pool not be mounted.

    :raises Unavailable: with what would help as its hint.
    """
    problem = _library_problem() or _place_problem(state_dir)
    if problem is not None:
        raise Unavailable(problem[0], hint=problem[1])


_Problem = tuple[str, str] | None  # what is missing, and what would help


def _kernel_problem() -> _Problem:
    with open("/proc/filesystems", encoding="ascii") as stream:
        if any(line.split()[-1:] == ["btrfs"] for line in stream):
            return None
    if os.path.isdir(f"/lib/modules/{os.uname().release}/kernel/fs/btrfs"):
        return None  # the first mount loads it
    return "the kernel has no btrfs (CONFIG_BTRFS_FS)", "use --storage overlay"


def _rights_problem() -> _Problem:
    with open("/proc/self/status", encoding="utf-8", errors="replace") as stream:
        effective = next(int(line.split()[1], 16) for line in stream if line.startswith("CapEff:"))
    if not effective >> _CAP_SYS_ADMIN & 1:
        return (
            "deleting subvolumes needs the capability CAP_SYS_ADMIN",
            "run as root, outside of an unprivileged container",
        )
    return None


def _library_problem() -> _Problem:
    try:
        import btrfsutil
    except ModuleNotFoundError:
        return "the Python module btrfsutil is not installed", _INSTALL
    except ImportError as error:  # built against another libbtrfsutil than the one that is here
        return (
            f"the Python module btrfsutil does not load ({error})",
            "libbtrfsutil 6.2 needs a version from 6.10 on and below 6.14: pip install 'btrfsutil>=6.10,<6.14'",
        )
    del btrfsutil
    return None


def _place_problem(place: Path) -> _Problem:
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _magic(descriptor) != _BTRFS_MAGIC:
            return f"{place} is not on btrfs", f"make a pool, which is kept in a file: {_POOL}"
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
