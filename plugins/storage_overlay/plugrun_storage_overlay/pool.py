"""A pool for the overlay driver: xfs, because its project quotas hold for what a container writes.

Sources: mkfs.xfs(8), ``fs/xfs/libxfs/xfs_fs.h`` of the kernel, sysfs-block(5).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

from plugrun.api import DriverError, Unavailable

_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_SECTOR = 512  # unit of /sys/dev/block/*/size, whatever the device's own is
_GEOMETRY = struct.Struct("=8I4Q16s7I4x")  # struct xfs_fsop_geom_v1
_GROWTH = struct.Struct("=QI4x")  # struct xfs_growfs_data
_FSGEOMETRY_V1 = 2 << 30 | _GEOMETRY.size << 16 | ord("X") << 8 | 100  # XFS_IOC_FSGEOMETRY_V1
_FSGROWFSDATA = 1 << 30 | _GROWTH.size << 16 | ord("X") << 8 | 110  # XFS_IOC_FSGROWFSDATA


def make(file: Path) -> None:
    """Write an xfs into a file: :class:`plugrun.api.PoolSpec`."""
    program = shutil.which("mkfs.xfs", path=_PATH)
    if program is None:
        raise Unavailable("program 'mkfs.xfs' is not installed", hint="install it, e.g. apt-get install xfsprogs")
    done = subprocess.run(
        [program, "-q", str(file)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        raise DriverError(f"mkfs.xfs failed: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")


def grow(mount_point: Path) -> None:
    """Let a mounted xfs fill its device."""
    descriptor = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        block_size, *_, largest_inodes = _GEOMETRY.unpack(
            fcntl.ioctl(descriptor, _FSGEOMETRY_V1, bytes(_GEOMETRY.size))
        )[:8]
        number = os.fstat(descriptor).st_dev
        size = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/size").read_text(encoding="ascii")
        blocks = int(size) * _SECTOR // block_size
        fcntl.ioctl(descriptor, _FSGROWFSDATA, _GROWTH.pack(blocks, largest_inodes))
    except OSError as error:
        raise DriverError(f"the xfs at {mount_point} cannot grow: {error.strerror}") from error
    finally:
        os.close(descriptor)
