"""The btrfs storage driver."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from plugrun.api import (
    AlreadyExists,
    Changed,
    FailedPrecondition,
    Mount,
    NotFound,
    SnapshotInfo,
    SnapshotKind,
    Usage,
)
from plugrun_storage_btrfs import differences, items, quota, subvolumes
from plugrun_storage_btrfs.durable import commit_transaction, finish_deletion, sync_data
from plugrun_storage_btrfs.layout import ACTIVE, COMMITTED, KINDS, VIEW, Layout


class BtrfsDriver:
    """A storage driver with clones, fast changes and quotas; several processes may use one state directory.

    :param state_dir: an existing directory on btrfs that only root can enter.
    """

    def __init__(self, state_dir: Path) -> None:
        self._layout = Layout(os.path.abspath(state_dir))

    # --- StorageDriver -----------------------------------------------------------------------------------------------

    def prepare(self, key: str, parent: str | None) -> Sequence[Mount]:
        """Make an active snapshot: :meth:`plugrun.api.StorageDriver.prepare`."""
        with self._making(ACTIVE, key, parent) as path:
            if parent is None:
                subvolumes.create(path)
            else:
                subvolumes.snapshot(self._layout.fs(COMMITTED, parent), path)
        return self.mounts(key)

    def view(self, key: str, parent: str | None) -> Sequence[Mount]:
        """Make a read-only snapshot: :meth:`plugrun.api.StorageDriver.view`. Its parent is one already."""
        with self._making(VIEW, key, parent) as path:
            if parent is None:
                subvolumes.create(path)
            else:
                os.symlink(f"../../{COMMITTED}/{parent}/fs", path)
        return self.mounts(key)

    def mounts(self, key: str) -> Sequence[Mount]:
        """Return the mounts of an active snapshot or view: one bind mount of a subvolume."""
        place = self._layout.place(key)
        if place not in {ACTIVE, VIEW}:
            raise NotFound(f"no active snapshot or view {key!r}")
        parent = self._layout.parent(place, key) if place == VIEW else None
        shown = self._layout.fs(place, key) if parent is None else self._layout.fs(COMMITTED, parent)
        return [Mount("bind", shown, ("rw" if place == ACTIVE else "ro",))]

    def commit(self, name: str, key: str) -> None:
        """Turn an active snapshot into a committed one: :meth:`plugrun.api.StorageDriver.commit`.

        :pre: it is not mounted.
        :post: it survives a power cut.
        """
        layout = self._layout
        if layout.place(key) == VIEW:
            raise FailedPrecondition(f"{key!r} is a view and cannot be committed")
        self._check_active(key)
        with layout.reported():  # not in the lock: it may take seconds
            sync_data(layout.state_dir)
        with layout.locked():
            self._check_active(key)
            self._check_free(name)
            quota.forget(layout.fs(ACTIVE, key))
            layout.delete(name)
            os.rename(layout.path(ACTIVE, key), layout.path(COMMITTED, name))
            try:
                subvolumes.freeze(layout.fs(COMMITTED, name))
            except BaseException:
                os.rename(layout.path(COMMITTED, name), layout.path(ACTIVE, key))
                raise

    def remove(self, key: str) -> None:
        """Remove a snapshot of any kind, and what a crash left of it: :meth:`plugrun.api.StorageDriver.remove`.

        :post: a power cut does not bring it back. Its space is free within 30 seconds, at once where there is little.
        """
        layout = self._layout
        with layout.locked():
            place = layout.place(key)
            if place == COMMITTED:
                self._refuse_parent(key)
            if place == ACTIVE:
                quota.forget(layout.fs(place, key))
            if not layout.delete(key):
                raise NotFound(f"no snapshot {key!r}")
        if place != VIEW:
            with layout.reported():
                finish_deletion(layout.state_dir)

    def stat(self, key: str) -> SnapshotInfo:
        """Describe one snapshot."""
        place = self._layout.place(key)
        if place is None:
            raise NotFound(f"no snapshot {key!r}")
        parent = self._layout.parent(place, key)
        if parent is None and place != self._layout.place(key):  # committed or removed just now
            return self.stat(key)
        return SnapshotInfo(key, SnapshotKind(place), parent)

    def walk(self) -> Iterator[SnapshotInfo]:
        """Yield every snapshot."""
        for kind in KINDS:
            for key in os.listdir(self._layout.path(kind)):
                with contextlib.suppress(NotFound):  # removed meanwhile, or left by a crash
                    yield self.stat(key)

    def usage(self, key: str) -> Usage:
        """Measure what was written since the snapshot was made, at the cost of that, not of the parent."""
        info = self.stat(key)
        if info.kind is SnapshotKind.VIEW:
            return Usage(0, 0)
        layout = self._layout
        with layout.reported():
            if info.kind is SnapshotKind.ACTIVE:
                sync_data(layout.state_dir)  # what is not written yet has no place
            since = 0 if info.parent is None else items.last_change(layout.fs(COMMITTED, info.parent))
            return Usage(*items.usage(layout.fs(info.kind.value, key), since))

    def close(self) -> None:
        """Let go of nothing: between calls the driver holds nothing open."""

    # --- SupportsClone, SupportsChanges, SupportsQuota, SupportsGC ---------------------------------------------------

    def clone(self, key: str, source: str) -> None:
        """Copy an active snapshot, whatever its size: :meth:`plugrun.api.SupportsClone.clone`."""
        layout = self._layout
        with layout.locked():
            self._check_free(key)
            self._check_active(source)
            with layout.making(ACTIVE, key, layout.parent(ACTIVE, source)) as path:
                subvolumes.snapshot(layout.fs(ACTIVE, source), path)
                quota.forget(path)  # full accounting copies limits
        with layout.reported():
            commit_transaction(layout.state_dir)

    def changes(self, key: str) -> Iterable[Changed]:
        """Yield where an active snapshot may differ from its parent: :meth:`plugrun.api.SupportsChanges.changes`."""
        self._check_active(key)
        parent = self._layout.parent(ACTIVE, key)
        return self._changes(key, parent) if parent else [Changed(b"", whole=True)]

    def _changes(self, key: str, parent: str) -> Iterator[Changed]:
        layout = self._layout
        below = layout.fs(COMMITTED, parent)
        with layout.reported():
            subvolumes.freeze(below)
            with layout.frozen(ACTIVE, key) as copy:
                yield from differences.changes(copy, layout.fs(ACTIVE, key), below)

    def limit(self, key: str, size: int) -> None:
        """Bound what an active snapshot holds beyond its parents: :meth:`plugrun.api.SupportsQuota.limit`."""
        with self._layout.locked():
            self._check_active(key)
            quota.limit(self._layout.fs(ACTIVE, key), size)

    def gc(self, _valid: frozenset[str]) -> None:
        """Delete what crashes left, which :meth:`walk` does not show, and end what they interrupted."""
        layout = self._layout
        with layout.locked():
            for kind in KINDS:
                for key in os.listdir(layout.path(kind)):
                    if layout.place(key) is None:  # whoever was making it held the lock that is now ours
                        layout.delete(key)
            layout.delete_copies()
            for name in os.listdir(layout.path(COMMITTED)):
                subvolumes.freeze(layout.fs(COMMITTED, name))

    # --- Steps ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _making(self, place: str, key: str, parent: str | None) -> Iterator[str]:
        with self._layout.locked():
            self._check_free(key)
            if parent is not None and self._layout.place(parent) != COMMITTED:
                raise NotFound(f"no committed snapshot {parent!r} to stand on")
            with self._layout.making(place, key, parent) as path:
                yield path

    def _check_active(self, key: str) -> None:
        if self._layout.place(key) != ACTIVE:
            raise NotFound(f"no active snapshot {key!r}")

    def _check_free(self, key: str) -> None:
        if (place := self._layout.place(key)) is not None:
            raise AlreadyExists(f"snapshot {key!r} exists ({place})")

    def _refuse_parent(self, name: str) -> None:
        children = sorted(info.name for info in self.walk() if info.parent == name)
        if children:
            raise FailedPrecondition(
                f"snapshot {name!r} is the parent of {', '.join(children)}", hint=f"remove {children[0]} first"
            )
