"""The state directory, in which a snapshot is there exactly as long as its subvolume: a crash leaves all or nothing.

::

    active/KEY/      fs (subvolume), parent
    view/KEY/        fs (link to the parent's, or an empty subvolume), parent
    committed/NAME/  fs (read-only subvolume), parent
    sending/KEY@RANDOM    a read-only snapshot, while its changes are read
    lock

``parent`` is a symbolic link to the parent's directory, and read only with readlink(2). What a snapshot is, is told by
the directory it is in. Making one ends with a rename to ``fs``, and removing one begins with deleting that: no other
name has to move, because on a full device btrfs refuses to rename but not to delete. A directory without ``fs`` is what
a crash left. ``lock`` is held (flock(2)) while snapshots are made or removed, never while data is written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator

from plugrun.api import DriverError, InvalidArgument, SnapshotKind, Unavailable
from plugrun_storage_btrfs import subvolumes

ACTIVE, VIEW, COMMITTED = SnapshotKind.ACTIVE.value, SnapshotKind.VIEW.value, SnapshotKind.COMMITTED.value
KINDS = (ACTIVE, VIEW, COMMITTED)
SENDING = "sending"

_HALF_MADE = "new"


class Layout:
    """Names, links and leftovers in one state directory.

    :param state_dir: absolute path of an existing directory.
    """

    def __init__(self, state_dir: str) -> None:
        self.state_dir = state_dir
        with self.reported():
            for place in (*KINDS, SENDING):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self.path(place), 0o700)

    def path(self, *parts: str) -> str:
        """Return the path of a place, a snapshot in it, or a part of that.

        :raises InvalidArgument: a part is not one path component.
        """
        for part in parts:
            if "/" in part or part in {"", ".", ".."}:
                raise InvalidArgument(f"{part!r} cannot name a snapshot")
        return "/".join((self.state_dir, *parts))

    def fs(self, place: str, key: str) -> str:
        """Return the path of what a snapshot shows."""
        return self.path(place, key, "fs")

    def place(self, key: str) -> str | None:
        """Return the place a key is in, ``None`` when it is free."""
        return next((place for place in KINDS if os.path.lexists(self.fs(place, key))), None)

    def parent(self, place: str, key: str) -> str | None:
        """Return the name of a snapshot's parent."""
        try:
            return os.path.basename(os.readlink(self.path(place, key, "parent")))
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def making(self, place: str, key: str, parent: str | None) -> Iterator[str]:
        """Make a snapshot: have the block make what it shows at the path that is given to it.

        :pre: the lock is held, and the key is free.
        """
        self.delete(key)
        directory = self.path(place, key)
        try:
            os.mkdir(directory, 0o700)
            if parent is not None:
                os.symlink(f"../../{COMMITTED}/{parent}", f"{directory}/parent")
            yield f"{directory}/{_HALF_MADE}"
            os.rename(f"{directory}/{_HALF_MADE}", f"{directory}/fs")
        except BaseException:
            with contextlib.suppress(OSError, DriverError):  # the first error counts; the rest is left to clean-up
                self.delete(key)
            raise

    def delete(self, key: str) -> bool:
        """Delete a snapshot, and what a crash left of it; return whether there was anything.

        :pre: the lock is held, and nothing stands on it.
        :raises DriverError: something in it cannot be deleted; it stays a snapshot until the next attempt.
        """
        self.delete_copies(key)
        directories = [path for path in (self.path(place, key) for place in KINDS) if os.path.isdir(path)]
        for directory in directories:
            for part in ("fs", _HALF_MADE, "parent"):  # by the first of them it is gone
                _delete_part(f"{directory}/{part}")
            os.rmdir(directory)
        return bool(directories)

    @contextlib.contextmanager
    def frozen(self, place: str, key: str) -> Iterator[str]:
        """Have a read-only copy of a snapshot for the duration of a block, in which the lock must not be held."""
        copy = self.path(SENDING, f"{key}@{os.urandom(4).hex()}")  # "@" is in no key
        with self.locked():
            subvolumes.freeze_copy(self.fs(place, key), copy)
            used = _hold(copy)
        try:
            yield copy
        finally:
            with self.locked():
                os.close(used)
                subvolumes.delete(copy)

    def delete_copies(self, key: str | None = None) -> None:
        """Delete the copies of a snapshot, or of all, that nobody uses any more.

        :pre: the lock is held.
        """
        for entry in os.listdir(self.path(SENDING)):
            if key in {None, entry.partition("@")[0]}:
                copy = self.path(SENDING, entry)
                with contextlib.suppress(BlockingIOError):
                    os.close(_hold(copy, fcntl.LOCK_EX | fcntl.LOCK_NB))
                    subvolumes.delete(copy)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes and threads from changing names; the kernel unlocks when the holder dies.

        :raises Unavailable: the file system refused a change: full, read-only, broken.
        """
        with self.reported():
            descriptor = os.open(self.path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def reported(self) -> Iterator[None]:
        """Report what the file system refuses as one clear error.

        :raises Unavailable: see :meth:`locked`.
        """
        try:
            yield
        except OSError as error:
            raise Unavailable(
                f"cannot change the layers in {self.state_dir}: {error.strerror}",
                hint="see whether its btrfs is full (btrfs filesystem usage), read-only, or reporting errors (dmesg)",
            ) from error


def _hold(copy: str, how: int = fcntl.LOCK_SH) -> int:
    """Lock a copy against deletion, or for it; closing the descriptor that is returned unlocks it."""
    descriptor = os.open(copy, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _delete_part(path: str) -> None:
    if os.path.islink(path):
        os.unlink(path)
    elif os.path.isdir(path):
        try:
            subvolumes.delete(path)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EBUSY, errno.ETXTBSY}:
                raise
            raise DriverError(
                f"cannot delete the subvolume {path}: {error.strerror}",
                hint="look for an active swap file in it (swapon --show) or a btrfs send of it; then try again",
            ) from error
