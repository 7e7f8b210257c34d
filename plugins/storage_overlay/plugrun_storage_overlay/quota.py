"""Size limits by project quotas of xfs: a snapshot's own directories are one project, whatever is made in them too.

Not on ext4, which lets whoever has CAP_SYS_RESOURCE write beyond any limit, and overlay writes with the rights of the
process that mounted it.

Which project ids are in use, the file system itself knows: an id is taken while an inode bears it. So there is nothing
to record, and nothing that a crash could leave wrong.

The work directory has to be in the project too, as xfs refuses to move an inode into a directory that hands on another
project (``EXDEV``), and what overlay makes there it moves into the upper directory. But each time overlay is mounted it
makes ``work/work`` anew, for which xfs wants some hundred KiB to be free in the project, and knows no privilege: if the
limit is reached, overlay is mounted read-only, and nobody can delete anything. So before each mount a snapshot gets
that much room, and the engine's next call of ``limit``, once it is mounted, takes it away again.

Sources: quotactl(2), xfs_quota(8), ``linux/dqblk_xfs.h``, ``struct fsxattr`` of ``linux/fs.h``; in the kernel
``xfs_rename()``, ``xfs_trans_dqresv()``, ``XFS_MKDIR_SPACE_RES`` and overlay's ``ovl_make_workdir()``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

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
_ROOM = 4 << 20  # the most that xfs reserves to make a directory is about 60 blocks, which have at most 64 KiB each
_FIRST, _REGIONS, _REGION = 0x40000000, 1 << 20, 1 << 8  # far from the ids that administrators choose

_libc = ctypes.CDLL(None, use_errno=True)


class _Account(NamedTuple):
    """What the file system says of one project.

    :param limit: bytes, 0 for none; ``used`` alike.
    """

    limit: int
    used: int
    inodes: int


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

    def make_room(self, project_id: int) -> None:
        """Let a project that has nearly reached its limit occupy a little more than it does."""
        found = self._of(project_id)
        if found.limit and found.limit - found.used < _ROOM:
            self.limit(project_id, found.used + _ROOM)

    def free_id(self) -> int:
        """Return a project id that no inode of the file system bears.

        Those of one state directory lie together, since the kernel stores limits in the order of ids; two directories
        on one file system begin at different places.

        :pre: nobody else chooses one for this state directory, until an inode bears it.
        """
        start = _FIRST + os.fstat(self._directory).st_ino % _REGIONS * _REGION
        project_id = start
        while self._of(project_id).inodes:
            project_id += 1
        return project_id

    def _of(self, project_id: int) -> _Account:
        buffer = ctypes.create_string_buffer(_QUOTA.size)
        try:
            self._call(_GET, project_id, buffer)
        except OSError as error:
            if error.errno == errno.ENOENT:  # nobody ever had it
                return _Account(0, 0, 0)
            raise
        _, _, _, _, limit, _, _, _, used, inodes = _QUOTA.unpack(buffer.raw)
        return _Account(limit * _BASIC_BLOCK, used * _BASIC_BLOCK, inodes)

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

    :param own: its own directories, the upper and the work directory.
    :pre: the state directory is locked.
    :raises Unavailable: the file system it is on cannot do it.
    """
    with _opened(state_dir) as quotas:
        if outer := project.of(state_dir):
            raise Unavailable(
                f"overlay cannot limit a size: {state_dir} is in project {outer} of its xfs already",
                hint="plugrun storage create overlay --size 20G makes a pool, or take the directory out of the project",
            )
        project_id = project.of(own[0]) or quotas.free_id()
        for path in own:
            project.assign(path, project_id)
        quotas.limit(project_id, size)


def make_room(state_dir: str, upper: str) -> None:
    """Let a snapshot that has nearly reached its limit, if it has one, grow by as much as mounting it takes.

    :param upper: its upper directory.
    :pre: the state directory is locked.
    """
    project_id = project.of(upper)
    if project_id and project_id != project.of(state_dir):  # else it is an administrator's
        with contextlib.suppress(Unavailable), _opened(state_dir) as quotas:
            quotas.make_room(project_id)


@contextlib.contextmanager
def _opened(state_dir: str) -> Iterator[Quotas]:
    directory = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Quotas(directory, state_dir)
    finally:
        os.close(directory)
