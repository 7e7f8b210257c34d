"""The overlay storage driver."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from plugrun.api import (
    AlreadyExists,
    Changed,
    FailedPrecondition,
    InvalidArgument,
    Mount,
    NotFound,
    SnapshotInfo,
    SnapshotKind,
    Unavailable,
    Usage,
)
from plugrun_storage_overlay.durable import sync_directory, sync_file_system
from plugrun_storage_overlay.layout import ACTIVE, COMMITTED, LAYERS, STAGING, TRASH, VIEW, Layout
from plugrun_storage_overlay.tree import measure

# A layer from elsewhere must not steer the kernel by its attributes. Unpacking drops trusted.*, and these keep the
# kernel from looking: redirects ("nofollow", because "off" still follows them on kernels built with
# OVERLAY_FS_REDIRECT_ALWAYS_FOLLOW, Debian's among them) and metadata-only copies, both of which take a file's content
# from a path the attribute names. The index would tie layers to one overlay at a time, and they are shared.
# (Documentation/filesystems/overlayfs.rst, "redirect_dir", "metacopy", "index")
_OPTIONS = ("index=off", "metacopy=off", "redirect_dir=nofollow")

_ROOT_MODE = 0o755


class OverlayDriver:
    """A storage driver with parallel unpacking and garbage collection; several processes may use one state directory.

    :param state_dir: an existing directory that only root can enter.
    :raises InvalidArgument: mount options cannot carry its path.
    """

    def __init__(self, state_dir: Path) -> None:
        state = os.path.abspath(state_dir)
        if set(state) & set(":,\\"):
            raise InvalidArgument(
                f"the overlay driver cannot keep layers in {state!r}", hint="choose a --root without ':', ',' and '\\'"
            )
        self._layout = Layout(state)

    # --- StorageDriver -----------------------------------------------------------------------------------------------

    def prepare(self, key: str, parent: str | None) -> Sequence[Mount]:
        """Make an active snapshot: :meth:`plugrun.api.StorageDriver.prepare`."""
        self._make(ACTIVE, key, parent, ("fs", "work"))
        return self.mounts(key)

    def view(self, key: str, parent: str | None) -> Sequence[Mount]:
        """Make a read-only snapshot: :meth:`plugrun.api.StorageDriver.view`."""
        self._make(VIEW, key, parent, () if parent else ("fs",))
        return self.mounts(key)

    def mounts(self, key: str) -> Sequence[Mount]:
        """Return the mounts of an active snapshot or view: a bind mount if it is one directory, else an overlay.

        :post: one that has reached its limit has room to be mounted, until :meth:`limit` is called again.
        """
        place = self._layout.place(key)
        if place not in {ACTIVE, VIEW}:
            raise NotFound(f"no active snapshot or view {key!r}")
        own = self._layout.path(place, key, "fs")
        lower = [self._layout.path(COMMITTED, name, "fs") for name in self._layout.ancestors(place, key)]
        if place == VIEW and len(lower) <= 1:  # the kernel makes no read-only overlay of one directory
            return [Mount("bind", lower[0] if lower else own, ("ro",))]
        if not lower:
            return [Mount("bind", own, ("rw",))]
        options = [f"lowerdir={':'.join(lower)}"]
        if place == ACTIVE:
            self._make_room(key, own)
            options += [f"upperdir={own}", f"workdir={self._layout.path(place, key, 'work')}"]
        else:
            options += ["ro"]
        return [Mount("overlay", "overlay", (*options, *_OPTIONS))]

    def commit(self, name: str, key: str) -> None:
        """Turn an active snapshot into a committed one: :meth:`plugrun.api.StorageDriver.commit`.

        :pre: it is not mounted.
        :post: it survives a power cut.
        """
        if self._layout.place(key) == VIEW:
            raise FailedPrecondition(f"{key!r} is a view and cannot be committed")
        self._commit(name, key, ACTIVE)
        self._layout.delete_part(COMMITTED, name, "work")

    def remove(self, key: str) -> None:
        """Remove a snapshot of any kind, and what a crash left of it: :meth:`plugrun.api.StorageDriver.remove`."""
        with self._layout.locked():
            place = self._layout.place(key)
            if place is not None:
                self._refuse_parent(place, key)
                os.rename(self._layout.path(place, key), self._layout.aside(TRASH, key))
            leftovers = self._layout.leftovers(key)
        if not leftovers:
            raise NotFound(f"no snapshot {key!r}")
        for path in leftovers:
            self._layout.delete(path)

    def stat(self, key: str) -> SnapshotInfo:
        """Describe one snapshot."""
        place = self._layout.place(key)
        if place is None or place == LAYERS:
            raise NotFound(f"no snapshot {key!r}")
        parent = self._layout.parent(place, key)
        if parent is None and place != self._layout.place(key):  # committed or removed just now
            return self.stat(key)
        return SnapshotInfo(key, SnapshotKind(place), parent)

    def walk(self) -> Iterator[SnapshotInfo]:
        """Yield every snapshot."""
        for kind in SnapshotKind:
            for key in os.listdir(self._layout.path(kind.value)):
                with contextlib.suppress(NotFound):  # removed meanwhile
                    yield self.stat(key)

    def usage(self, key: str) -> Usage:
        """Measure the snapshot's own directory."""
        try:
            return Usage(*measure(self._layout.path(self.stat(key).kind.value, key, "fs")))
        except FileNotFoundError:  # a view of its parent
            return Usage(0, 0)

    def close(self) -> None:
        """Let go of nothing: between calls the driver holds nothing open."""

    # --- SupportsLayerDir and SupportsGC -----------------------------------------------------------------------------

    def layer_dir(self, key: str) -> Path:
        """Make an empty directory for one layer's own entries."""
        self._make(LAYERS, key, None, ("fs",))
        return Path(self._layout.path(LAYERS, key, "fs"))

    def commit_layer(self, name: str, key: str, parent: str | None) -> None:
        """Turn a filled layer directory into the committed snapshot ``name`` on ``parent``.

        :post: it survives a power cut.
        """
        self._commit(name, key, LAYERS, parent)

    def gc(self, valid: frozenset[str]) -> None:
        """Delete what :meth:`walk` does not show: what crashes left, and layer directories not in ``valid``."""
        layout = self._layout
        with layout.locked():
            for key in set(os.listdir(layout.path(LAYERS))) - valid:
                os.rename(layout.path(LAYERS, key), layout.aside(TRASH, key))
            for entry in filter(layout.is_abandoned, os.listdir(layout.path(STAGING))):
                os.rename(layout.path(STAGING, entry), layout.aside(TRASH, entry))
        for entry in os.listdir(layout.path(TRASH)):
            layout.delete(layout.path(TRASH, entry))
        for name in os.listdir(layout.path(COMMITTED)):
            layout.delete_part(COMMITTED, name, "work")

    # --- SupportsClone -----------------------------------------------------------------------------------------------

    def clone(self, key: str, source: str) -> None:
        """Copy an active snapshot's upper directory: :meth:`plugrun.api.SupportsClone.clone`."""
        from plugrun_storage_overlay.clone import copy_tree

        layout = self._layout
        with contextlib.ExitStack() as held:
            with layout.locked():
                self._check_free(key)
                self._check_there(ACTIVE, source, "copy")
                staging = held.enter_context(layout.staged(key))
                if (parent := layout.parent(ACTIVE, source)) is not None:
                    layout.link_parent(staging, parent)
            try:
                with layout.syncing():  # not in the lock: it may take long
                    for directory in ("fs", "work", "links"):
                        os.mkdir(f"{staging}/{directory}", 0o700)
                    copy_tree(layout.path(ACTIVE, source, "fs"), f"{staging}/fs", f"{staging}/links")
                    layout.delete(f"{staging}/links")
                    sync_file_system(staging)
            except Unavailable:
                self._check_there(ACTIVE, source, "copy")  # it may have been removed under our hands
                raise
            with layout.locked():
                self._check_free(key)
                self._check_there(ACTIVE, source, "copy")  # else the copy may lack what was deleted first
                os.rename(staging, layout.path(ACTIVE, key))
                sync_directory(layout.path(ACTIVE))

    # --- SupportsChanges ---------------------------------------------------------------------------------------------

    def changes(self, key: str) -> Iterable[Changed]:
        """Yield where an active snapshot may differ from its parent: all that is in its upper directory."""
        from plugrun_storage_overlay.changes import changes

        if self._layout.place(key) != ACTIVE:
            raise NotFound(f"no active snapshot {key!r}")
        if self._layout.parent(ACTIVE, key) is None:
            return [Changed(b"", whole=True)]
        return changes(self._layout.path(ACTIVE, key, "fs"))

    # --- SupportsQuota -----------------------------------------------------------------------------------------------

    def limit(self, key: str, size: int) -> None:
        """Limit an active snapshot: :meth:`plugrun.api.SupportsQuota.limit`."""
        from plugrun_storage_overlay import quota

        layout = self._layout
        with layout.locked():
            self._check_there(ACTIVE, key, "limit")
            quota.limit(layout.path(), [layout.path(ACTIVE, key, part) for part in ("fs", "work")], size)

    def _make_room(self, key: str, upper: str) -> None:
        from plugrun_storage_overlay import project

        try:
            if not project.of(upper):
                return
        except FileNotFoundError as error:
            raise NotFound(f"no active snapshot {key!r}") from error  # any more
        from plugrun_storage_overlay import quota

        with self._layout.locked():
            self._check_there(ACTIVE, key, "mount")
            quota.make_room(self._layout.path(), upper)

    # --- Steps ------------------------------------------------------------------------------------------------------

    def _make(self, place: str, key: str, parent: str | None, directories: Sequence[str]) -> None:
        """Make a snapshot aside and move it into place."""
        layout = self._layout
        with layout.locked():
            self._check_free(key)
            self._check_parent(parent)
            staging = layout.aside(STAGING, key)
            os.mkdir(staging, 0o700)
            if parent is not None:
                layout.link_parent(staging, parent)
            for directory in directories:
                os.mkdir(f"{staging}/{directory}", 0o700)
            if "fs" in directories:
                self._copy_root(parent, f"{staging}/fs")
            os.rename(staging, layout.path(place, key))

    def _commit(self, name: str, key: str, place: str, parent: str | None = None) -> None:
        """Write a snapshot's data to the device, then move it into place."""
        layout = self._layout
        source, target = layout.path(place, key), layout.path(COMMITTED, name)
        self._check_there(place, key, "commit")
        with layout.syncing():  # not in the lock: it may take seconds
            sync_file_system(layout.path(COMMITTED))
        with layout.locked():
            self._check_there(place, key, "commit")
            self._check_free(name)
            self._check_parent(parent)
            if parent is not None:
                layout.link_parent(source, parent)
                sync_directory(source)
            os.rename(source, target)
            sync_directory(layout.path(COMMITTED))
            sync_directory(layout.path(place))

    def _check_there(self, place: str, key: str, purpose: str) -> None:
        if self._layout.place(key) != place:
            raise NotFound(f"no snapshot {key!r} to {purpose}")

    def _check_free(self, key: str) -> None:
        if (place := self._layout.place(key)) is not None:
            raise AlreadyExists(f"snapshot {key!r} exists ({place})")

    def _check_parent(self, parent: str | None) -> None:
        if parent is not None and self._layout.place(parent) != COMMITTED:
            raise NotFound(f"no committed snapshot {parent!r} to stand on")

    def _refuse_parent(self, place: str, name: str) -> None:
        if place != COMMITTED:
            return
        children = sorted(info.name for info in self.walk() if info.parent == name)
        if children:
            raise FailedPrecondition(
                f"snapshot {name!r} is the parent of {', '.join(children)}", hint=f"remove {children[0]} first"
            )

    def _copy_root(self, parent: str | None, target: str) -> None:
        """Give a new root directory what its parent's has, which it covers in the overlay."""
        if parent is None:
            os.chmod(target, _ROOT_MODE)
            return
        source = self._layout.path(COMMITTED, parent, "fs")
        info = os.stat(source, follow_symlinks=False)
        os.chown(target, info.st_uid, info.st_gid)
        os.chmod(target, info.st_mode & 0o7777)
        for name in os.listxattr(source, follow_symlinks=False):
            if name.startswith("user.") and not name.startswith("user.overlay."):
                os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
        os.utime(target, ns=(info.st_mtime_ns, info.st_mtime_ns))
