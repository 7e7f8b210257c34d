"""Size limits by project quotas of xfs: a snapshot's own directories are one project, whatever is made in them too.

Not on ext4, which lets whoever has CAP_SYS_RESOURCE write beyond any limit, and overlay writes with the rights of the
process that mounted it.

Which project ids are in use, the file system itself knows: an id is taken while an inode bears it. So there is nothing
to record, and nothing that a crash could leave wrong.

Sources: quotactl(2), xfs_quota(8), ``linux/dqblk_xfs.h``, ``struct fsxattr`` of ``linux/fs.h``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from plugrun.api import Unavailable
from plugrun_storage_overlay import project

_XFS = 0x58465342  # XFS_SUPER_MAGIC, linux/magic.h
_PROJECT = 2  # PRJQUOTA
_ENFORCED = 1 << 5  # FS_QUOTA_PDQ_ENFD
_VERSION, _OF_PROJECT = 1, 2  # FS_DQUOT_VERSION, FS_PROJ_QUOTA
_LIMITS = 1 << 3 | 1 << 2  # FS_DQ_BHARD, FS_DQ_BSOFT
_GET, _SET, _STATE = (ord("X") << 8 | number for number in (3, 4, 5))  # Q_XGETQUOTA, Q_XSETQLIM, Q_XGETQSTAT
_BASIC_BLOCK = 512  # unit of the limits
# struct fs_disk_quota: version, flags, fields set, id; block hard and soft limit, inode hard and soft limit, blocks,
# inodes; then timers, warnings and real-time blocks
_QUOTA = struct.Struct("=bbHI6Q56x")
_QUOTA_STATE = struct.Struct("=bxHb75x")  # struct fs_quota_stat: version, flags
_QUOTACTL_FD = 443  # the same on every architecture but alpha
_FIRST, _REGIONS, _REGION = 0x40000000, 1 << 20, 1 << 8  # far from the ids that administrators choose

_libc = ctypes.CDLL(None, use_errno=True)


class Quotas:
    """The project quotas of the file system that a directory is on. Made for one call.

    :param directory: an open one.
    :param place: its path, for messages.
    :raises Unavailable: it has none; says why, and what would help.
    """

    def __init__(self, directory: int, place: str) -> None:
        self._directory = directory
        self._check(place)

    def limit(self, project_id: int, size: int) -> None:
        """Let a project occupy ``size`` bytes, rounded up to 512."""
        blocks = -(-size // _BASIC_BLOCK)
        wanted = _QUOTA.pack(_VERSION, _OF_PROJECT, _LIMITS, project_id, blocks, blocks, 0, 0, 0, 0)
        self._call(_SET, project_id, ctypes.create_string_buffer(wanted, len(wanted)))

    def free_id(self) -> int:
        """Return a project id that no inode of the file system bears.

        Those of one state directory lie together, since the kernel stores limits in the order of ids; two directories
        on one file system begin at different places.

        :pre: nobody else chooses one for this state directory, until an inode bears it.
        """
        start = _FIRST + os.fstat(self._directory).st_ino % _REGIONS * _REGION
        project_id = start
        while self._inodes(project_id):
            project_id += 1
        return project_id

    def _inodes(self, project_id: int) -> int:
        buffer = ctypes.create_string_buffer(_QUOTA.size)
        try:
            self._call(_GET, project_id, buffer)
        except OSError as error:
            if error.errno == errno.ENOENT:  # nobody ever had it
                return 0
            raise
        return int(_QUOTA.unpack(buffer.raw)[9])

    def _check(self, place: str) -> None:
        if project.magic(self._directory) != _XFS:
            raise Unavailable(
                f"overlay cannot limit a size: {place} is not on xfs, whose project quotas that takes",
                hint="plugrun storage create overlay --size 20G makes a pool that has them",
            )
        buffer = ctypes.create_string_buffer(_QUOTA_STATE.size)
        enforced = False
        try:
            self._call(_STATE, 0, buffer)
            enforced = bool(_QUOTA_STATE.unpack(buffer.raw)[1] & _ENFORCED)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                raise Unavailable(
                    f"overlay cannot limit a size: the xfs of this kernel ({os.uname().release}) has no quotas",
                    hint="it takes Linux 5.14 with CONFIG_XFS_QUOTA; or choose a --storage with quotas of its own",
                ) from error
        if not enforced:
            raise Unavailable(
                f"overlay cannot limit a size: {place} is on xfs without project quotas",
                hint="mount that file system with -o prjquota",
            )

    def _call(self, command: int, project_id: int, buffer: ctypes.Array[ctypes.c_char]) -> None:
        """Call quotactl_fd(2)."""
        whole = ctypes.c_uint(command << 8 | _PROJECT)
        if _libc.syscall(_QUOTACTL_FD, ctypes.c_uint(self._directory), whole, ctypes.c_uint(project_id), buffer) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def limit(state_dir: str, own: list[str], size: int) -> None:
    """Let a snapshot occupy at most ``size`` bytes.

    :param own: its own directories, the upper and the work directory: an inode may only be moved within a project.
    :pre: the state directory is locked.
    :raises Unavailable: the file system it is on cannot do it.
    """
    directory = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        quotas = Quotas(directory, state_dir)
        project_id = project.of(own[0]) or quotas.free_id()
        for path in own:
            project.assign(path, project_id)
        quotas.limit(project_id, size)
    finally:
        os.close(directory)
