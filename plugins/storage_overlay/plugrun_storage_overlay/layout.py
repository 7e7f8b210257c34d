"""The state directory, in which every change is one rename: a crash leaves either the old state or the new.

::

    active/KEY/      fs (upper directory), work, parent
    view/KEY/        parent, or an empty fs
    committed/NAME/  fs, parent
    layers/KEY/      fs, of a layer that is being unpacked
    staging/KEY@RANDOM/   being made, not in use yet
    trash/KEY@RANDOM/     removed, being deleted
    lock

``parent`` is a symbolic link to the parent's directory, and read only with readlink(2). What a snapshot is, is told by
the directory it is in. ``lock`` is held (flock(2)) while names are checked and changed, never while data is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from plugrun.api import DriverError, InvalidArgument, SnapshotKind, Unavailable
from plugrun_storage_overlay.tree import delete

ACTIVE, VIEW, COMMITTED = SnapshotKind.ACTIVE.value, SnapshotKind.VIEW.value, SnapshotKind.COMMITTED.value
LAYERS = "layers"
STAGING = "staging"
TRASH = "trash"

_NAMED = (ACTIVE, VIEW, COMMITTED, LAYERS)


class Layout:
    """Names, links and leftovers in one state directory.

    :param state_dir: absolute path of an existing directory.
    """

    def __init__(self, state_dir: str) -> None:
        self._state = state_dir
        with _reported(state_dir):
            for place in (*_NAMED, STAGING, TRASH):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self.path(place), 0o700)

    def path(self, *parts: str) -> str:
        """Return the path of a place, a snapshot in it, or a part of that.

        :raises InvalidArgument: a part is not one path component.
        """
        for part in parts:
            if "/" in part or part in {"", ".", ".."}:
                raise InvalidArgument(f"{part!r} cannot name a snapshot")
        return "/".join((self._state, *parts))

    def place(self, key: str) -> str | None:
        """Return the place a key is in, ``None`` when it is free."""
        return next((place for place in _NAMED if os.path.isdir(self.path(place, key))), None)

    def parent(self, place: str, key: str) -> str | None:
        """Return the name of a snapshot's parent."""
        try:
            return os.path.basename(os.readlink(self.path(place, key, "parent")))
        except FileNotFoundError:
            return None

    def ancestors(self, place: str, key: str) -> list[str]:
        """Return the committed snapshots that a key stands on, the nearest first."""
        found: list[str] = []
        parent = self.parent(place, key)
        while parent is not None:
            found.append(parent)
            parent = self.parent(COMMITTED, parent)
        return found

    def link_parent(self, directory: str, parent: str) -> None:
        """Record the parent of the snapshot in ``directory``."""
        link = f"{directory}/parent"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link)  # of a commit that a crash cut short
        os.symlink(f"../../{COMMITTED}/{parent}", link)

    def aside(self, place: str, key: str) -> str:
        """Return a path in staging or trash that is not in use and tells whose it is: ``@`` is in no key."""
        return self.path(place, f"{key.partition('@')[0]}@{os.urandom(4).hex()}")

    @contextlib.contextmanager
    def staged(self, key: str) -> Iterator[str]:
        """Make a directory in staging that is kept when the lock is let go, until the block ends; then it is gone.

        :pre: the caller holds the lock.
        :return: its path, to be moved into place.
        """
        path = self.aside(STAGING, key)
        os.mkdir(path, 0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield path
        finally:
            os.close(descriptor)
            self.delete(path)

    def is_abandoned(self, entry: str) -> bool:
        """Whether nobody is making what lies in staging any more: who does so holds the lock, or that directory's own.

        :pre: the caller holds the lock.
        """
        try:
            descriptor = os.open(self.path(STAGING, entry), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(descriptor)

    def leftovers(self, key: str) -> list[str]:
        """Return the paths of what is being made or deleted for a key, or was when a process died."""
        places = (STAGING, TRASH)
        return [
            self.path(place, entry)
            for place in places
            for entry in os.listdir(self.path(place))
            if entry.partition("@")[0] == key
        ]

    def delete(self, path: str) -> None:
        """Delete what lies in staging or trash at ``path``.

        :raises DriverError: something in it cannot be deleted; the rest stays until the next attempt.
        """
        place, _, entry = path.rpartition("/")
        descriptor = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            delete(descriptor, entry)
        except OSError as error:
            raise DriverError(
                f"cannot delete {path}: {error.strerror} ({error.filename})",
                hint="look for an immutable file (lsattr -R) or a mount; a later removal or clean-up tries again",
            ) from error
        finally:
            os.close(descriptor)

    def delete_part(self, place: str, key: str, part: str) -> None:
        """Delete one part of a snapshot, if it is there."""
        aside = self.aside(TRASH, key)
        try:
            os.rename(self.path(place, key, part), aside)
        except FileNotFoundError:
            return
        self.delete(aside)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes and threads from changing names; the kernel unlocks when the holder dies.

        :raises Unavailable: the file system refused a change: full, read-only, broken.
        """
        with _reported(self._state):
            descriptor = os.open(self.path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def syncing(self) -> Iterator[None]:
        """Report what goes wrong while data is written to the device, as :meth:`locked` does."""
        with _reported(self._state):
            yield


@contextlib.contextmanager
def _reported(state_dir: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"cannot change the layers in {state_dir}: {error.strerror}",
            hint="see whether its file system is full (df), read-only, or reporting errors (dmesg)",
        ) from error
