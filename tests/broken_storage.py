"""Storage drivers with one fault each in what every driver must do; ``test_contract_kit.py`` runs the kit on them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit_runs import Drivers
from plain_copies import ACTIVE, COMMITTED, VIEW, DirStorage, measure
from plugrun.api import AlreadyExists, Mount, SnapshotInfo, SnapshotKind, Usage
from plugrun.testing.storage_faults import FaultCases
from plugrun.testing.storage_names import NameCases
from plugrun.testing.storage_races import RaceCases
from plugrun.testing.storage_reference import ReferenceCases
from plugrun.testing.storage_snapshots import SnapshotCases
from plugrun.testing.storage_trees import TreeCases
from plugrun.testing.storage_usage import UsageCases

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.root
BROKEN = Drivers(globals())
caught_by = BROKEN.caught_by


# --- Keys, names and parents ----------------------------------------------------------------------------------------


@caught_by("test_commit_to_a_taken_name_leaves_the_key", "test_keys_and_names_share_one_space", groups=(SnapshotCases,))
class OverwritesKeys(DirStorage):
    """``prepare`` of a key that is there replaces it."""

    def check_free(self, key: str) -> None:
        for kind in SnapshotKind:
            shutil.rmtree(self.place(kind, key), ignore_errors=True)


@caught_by(
    "test_keys_and_names_share_one_space", "test_one_of_many_gets_a_key", groups=(SnapshotCases, RaceCases), only="one"
)
class ReusesKeys(DirStorage):
    """``prepare`` of a key that is there answers it."""

    def prepare(self, key: str, parent: str | None) -> Sequence[Mount]:
        with contextlib.suppress(AlreadyExists):
            return super().prepare(key, parent)
        return self.mounts(key)


@caught_by("test_key_that_is_no_path_component_is_refused", groups=(NameCases,))
class TrustsKeys(DirStorage):
    """``../x`` is a key."""

    def check_name(self, key: str) -> None:
        pass


@caught_by("test_names_are_path_components", groups=(NameCases,))
class ReservesNames(DirStorage):
    """A word of its own cannot be a name beside another one."""

    def place(self, kind: SnapshotKind, key: str) -> Path:
        return super().place(kind, "other" if key in {"lock", "kock"} else key)


@caught_by("test_parent_must_be_committed", groups=(SnapshotCases,))
class StandsOnAnything(DirStorage):
    """A parent need not be there."""

    def check_parent(self, parent: str | None) -> None:
        pass

    def copy(self, source: Path, target: Path) -> None:
        if source.exists():
            super().copy(source, target)
        else:
            target.mkdir()


@caught_by("test_remove_refuses_a_parent", groups=(SnapshotCases,))
class RemovesParents(DirStorage):
    """A parent can be removed."""

    def remove(self, key: str) -> None:
        with self.locked():
            self.place(self.stat(key).kind, key).rename(self.state / "staging" / f"removed@{key}")
            self.clear_staging()


@caught_by("test_remove_frees_the_key", groups=(SnapshotCases,))
class RemovesAnything(DirStorage):
    """What is not there can be removed, as often as one likes."""

    def clear_staging(self, required: str | None = None) -> None:
        super().clear_staging()


@caught_by("test_commit_replaces_the_key", groups=(SnapshotCases,))
class CommitForgetsTheParent(DirStorage):
    """A committed snapshot stands on nothing."""

    def commit(self, name: str, key: str) -> None:
        super().commit(name, key)
        (self.place(COMMITTED, name) / "parent").unlink(missing_ok=True)


@caught_by("test_commit_to_a_taken_name_leaves_the_key", "test_keys_and_names_share_one_space", groups=(SnapshotCases,))
class CommitLosesTheKey(DirStorage):
    """A commit that is refused takes the key with it."""

    def commit(self, name: str, key: str) -> None:
        try:
            super().commit(name, key)
        finally:
            shutil.rmtree(self.place(ACTIVE, key), ignore_errors=True)


@caught_by(
    "test_commit_needs_the_key",
    "test_commit_replaces_the_key",
    "test_remove_refuses_a_parent",
    "test_walk_and_stat_agree",
    groups=(SnapshotCases,),
)
class CommitLeavesTheKey(DirStorage):
    """A committed key can still be written to."""

    def commit(self, name: str, key: str) -> None:
        super().commit(name, key)
        self.copy(self.place(COMMITTED, name), self.place(ACTIVE, key))


@caught_by("test_commit_needs_the_key", "test_view_cannot_be_committed", groups=(SnapshotCases,))
class CommitsViews(DirStorage):
    """A view can be committed."""

    def commit(self, name: str, key: str) -> None:
        self.check_free(name)
        self.place(self.stat(key).kind, key).rename(self.place(COMMITTED, name))


# --- Mounts, walk, stat, close --------------------------------------------------------------------------------------


@caught_by("test_view_is_read_only", groups=(SnapshotCases,))
class WritableView(DirStorage):
    """A view can be written to."""

    def mounts(self, key: str) -> Sequence[Mount]:
        return [Mount(mount.type, mount.source, ("rw",)) for mount in super().mounts(key)]


@caught_by("test_mounts_needs_an_active_snapshot_or_view", "test_view_is_read_only", groups=(SnapshotCases,))
class MountsEverything(DirStorage):
    """A committed snapshot has mounts."""

    def mounts(self, key: str) -> Sequence[Mount]:
        return [Mount("bind", str(self.place(self.stat(key).kind, key) / "fs"), ())]


@caught_by("test_everything_is_the_same_after_reopening", groups=(SnapshotCases,))
class ForgetsOnRestart(DirStorage):
    """Mounts are others after a restart."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.born = os.urandom(4).hex()

    def mounts(self, key: str) -> Sequence[Mount]:
        alias = self.state / f"alias-{self.born}"
        alias.unlink(missing_ok=True)
        alias.symlink_to(self.state)
        return [
            Mount(mount.type, mount.source.replace(str(self.state), str(alias), 1), mount.options)
            for mount in super().mounts(key)
        ]


@caught_by(
    "test_parent_must_be_committed",
    "test_remove_refuses_a_parent",
    "test_view_cannot_be_committed",
    "test_walk_and_stat_agree",
    groups=(SnapshotCases,),
)
class HidesViews(DirStorage):
    """``walk`` shows no views."""

    def walk(self) -> Iterator[SnapshotInfo]:
        yield from (info for info in super().walk() if info.kind is not VIEW)


@caught_by(
    "test_commit_needs_the_key",
    "test_commit_replaces_the_key",
    "test_everything_is_the_same_after_reopening",
    "test_keys_and_names_share_one_space",
    "test_parent_must_be_committed",
    "test_view_cannot_be_committed",
    groups=(SnapshotCases,),
)
class WalksTwice(DirStorage):
    """``walk`` shows everything twice."""

    def walk(self) -> Iterator[SnapshotInfo]:
        yield from super().walk()
        yield from super().walk()


@caught_by("test_close_twice", "test_everything_is_the_same_after_reopening", groups=(SnapshotCases,))
class ClosesOnce(DirStorage):
    """A second ``close`` fails."""

    def close(self) -> None:
        del self.state


# --- Trees ----------------------------------------------------------------------------------------------------------


@caught_by("test_prepare_shows_the_parent_and_leaves_it_alone", groups=(SnapshotCases,))
class SharesFiles(DirStorage):
    """A container's files are its image's."""

    def copy(self, source: Path, target: Path) -> None:
        shutil.copytree(source, target, copy_function=os.link)


class Copies(DirStorage):
    """Copies like cp(1), with other options."""

    options: tuple[str, ...] = ("-a",)

    def copy(self, source: Path, target: Path) -> None:
        subprocess.run(["cp", *self.options, "--", str(source), str(target)], check=True)


@caught_by(
    "test_hard_links_stay_together",
    "test_image_is_what_the_reference_unpacks",
    groups=(
        TreeCases,
        ReferenceCases,
    ),
    only=r"test_(?!issue_128|issue_remove)",
)
class BreaksHardLinks(Copies):
    """Names of one file become files of their own."""

    options = ("-a", "--no-preserve=links")


@caught_by(
    "test_attributes_are_kept",
    "test_image_is_what_the_reference_unpacks",
    groups=(
        TreeCases,
        ReferenceCases,
    ),
    only=r"test_(?!issue_128|issue_remove)",
)
class DropsAttributes(Copies):
    """Extended attributes are lost."""

    options = ("-a", "--no-preserve=xattr")


@caught_by(
    "test_access_lists_are_kept",
    "test_attributes_are_kept",
    "test_image_is_what_the_reference_unpacks",
    "test_issue_chown_of_a_tree",
    "test_issue_directory_mode_after_replacing",
    "test_root_directory_is_inherited",
    groups=(
        TreeCases,
        ReferenceCases,
    ),
    only=r"test_(?!issue_128|issue_remove)",
)
class LosesOwners(Copies):
    """Everything belongs to root."""

    options = ("-a", "--no-preserve=ownership")


@caught_by(
    "test_image_is_what_the_reference_unpacks",
    "test_issue_file_updated_in_the_same_second",
    "test_times_of_everything_are_kept",
    groups=(
        TreeCases,
        ReferenceCases,
    ),
    only=r"times|same_second|reference",
)
class LosesTimes(Copies):
    """Everything is of now."""

    options = ("-a", "--no-preserve=timestamps")


@caught_by(
    "test_holes_stay_holes",
    groups=(
        TreeCases,
        ReferenceCases,
    ),
    only=r"test_(?!issue_128|issue_remove)",
)
class FillsHoles(Copies):
    """Sparse files are filled with zeros."""

    options = ("-a", "--sparse=never")


@caught_by("test_root_directory_is_inherited", groups=(TreeCases,), only=r"test_(?!issue_128|issue_remove)")
class OwnRoot(DirStorage):
    """The root directory has a mode of the driver's."""

    def copy(self, source: Path, target: Path) -> None:
        super().copy(source, target)
        target.chmod(0o755)


@caught_by(
    "test_deleted_file_stays_deleted",
    "test_replaced_directory_hides_the_old_one",
    "test_types_may_change",
    groups=(TreeCases,),
    only=r"deleted|replaced|types|hard",
)
class BringsBack(DirStorage):
    """What a layer deleted is there again in the next."""

    def build(self, at: Path, parent: str | None) -> None:
        super().build(at, parent)
        if parent is not None and (grand := self.stat(parent).parent) is not None:
            source = self.place(COMMITTED, grand) / "fs"
            subprocess.run(["cp", "-an", "--", f"{source}/.", f"{at}/fs"], check=True)


@caught_by("test_issue_128_layers", groups=(TreeCases,), only=r"layers|hard")
class ShallowStacks(DirStorage):
    """More than 60 layers are too many."""

    def build(self, at: Path, parent: str | None) -> None:
        depth, name = 0, parent
        while name is not None:
            depth, name = depth + 1, self.stat(name).parent
        if depth > 60:
            raise OSError("mount options do not fit into a page")
        super().build(at, parent)


@caught_by("test_issue_remove_a_deep_tree", groups=(TreeCases,), only="remove")
class RecursiveRemove(DirStorage):
    """Deep trees cannot be removed."""

    def clear_staging(self, required: str | None = None) -> None:
        for path in (self.state / "staging").iterdir():
            shutil.rmtree(path)


@caught_by("test_names_are_bytes", groups=(TreeCases,), only="test_names")
class NamesAreText(DirStorage):
    """File names that are no UTF-8 are left out."""

    def copy(self, source: Path, target: Path) -> None:
        super().copy(source, target)
        for path in target.rglob("*"):
            try:
                path.name.encode()
            except UnicodeEncodeError:
                path.unlink()


# --- Usage and leaks ------------------------------------------------------------------------------------------------


@caught_by("test_usage_is_the_snapshot_s_own", groups=(UsageCases,))
class CountsParents(DirStorage):
    """A snapshot's usage has its parent's in it."""

    def usage(self, key: str) -> Usage:
        return measure(self.place(self.stat(key).kind, key) / "fs")


@caught_by("test_usage_is_the_snapshot_s_own", "test_usage_of_holes_is_nothing", groups=(UsageCases,))
class CountsSizes(DirStorage):
    """Usage counts what files pretend to be."""

    def usage(self, key: str) -> Usage:
        kind = self.stat(key).kind
        files = [path for path in (self.place(kind, key) / "fs").rglob("*") if path.is_file()]
        return Usage(sum(path.stat().st_size for path in files), len(files))


@caught_by("test_nothing_is_left_of_what_was_removed", groups=(UsageCases,))
class LeavesRecords(DirStorage):
    """Something is kept of every key that ever was."""

    def make(self, kind: SnapshotKind, key: str, parent: str | None) -> None:
        super().make(kind, key, parent)
        (self.state / f"record-{os.urandom(4).hex()}").touch()


@caught_by("test_no_descriptor_and_no_mount_is_left", groups=(UsageCases,))
class LeaksDescriptors(DirStorage):
    """Every snapshot made costs a descriptor."""

    def make(self, kind: SnapshotKind, key: str, parent: str | None) -> None:
        super().make(kind, key, parent)
        os.open(self.state, os.O_RDONLY | os.O_CLOEXEC)


# --- Crashes and rivals ---------------------------------------------------------------------------------------------


@caught_by("test_killed_prepare", groups=(FaultCases,), only="prepare")
class BuildsInPlace(DirStorage):
    """A key shows before it is whole."""

    def make(self, kind: SnapshotKind, key: str, parent: str | None) -> None:
        with self.locked():
            self.check_free(key)
            self.check_parent(parent)
            self.build(self.place(kind, key), parent)


@caught_by("test_killed_commit", groups=(FaultCases,), only="killed_commit")
class CommitsByCopy(DirStorage):
    """A commit is two steps: the name, then the key."""

    def commit(self, name: str, key: str) -> None:
        self.copy(self.place(ACTIVE, key), self.place(COMMITTED, name))
        shutil.rmtree(self.place(ACTIVE, key))


@caught_by("test_killed_remove", groups=(FaultCases,), only="killed_remove")
class RemovesInPlace(DirStorage):
    """A key shows while it is being deleted."""

    def remove(self, key: str) -> None:
        shutil.rmtree(self.place(self.stat(key).kind, key))


@caught_by("test_killed_view", groups=(FaultCases,), only="killed_view")
class LeavesLitter(DirStorage):
    """What a crash left is never found again."""

    def build(self, at: Path, parent: str | None) -> None:
        at = at.with_name(f"{at.name}@{os.urandom(4).hex()}")
        super().build(at, parent)
        at.rename(at.with_name(at.name.rpartition("@")[0]))

    def gc(self, valid: frozenset[str]) -> None:
        pass

    def clear_staging(self, required: str | None = None) -> None:
        for path in (self.state / "staging").glob("removed@*"):
            shutil.rmtree(path)


@caught_by("test_gc_spares_what_is_valid", groups=(FaultCases,), only="gc")
class CollectsEverything(DirStorage):
    """``gc`` removes what is valid."""

    def gc(self, valid: frozenset[str]) -> None:
        for kind in SnapshotKind:
            for path in (self.state / kind).iterdir():
                shutil.rmtree(path)


@caught_by(
    "test_race_for_a_key", "test_race_for_a_key_and_a_name", "test_race_for_a_name", groups=(RaceCases,), only="for_a"
)
class LocksNothing(DirStorage):
    """Nobody waits for anybody."""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        yield


@caught_by("test_race_of_removing_a_parent_and_standing_on_it", groups=(RaceCases,), only="standing")
class ForgetsChildren(RemovesParents, StandsOnAnything):
    """A parent goes while something is put on it."""
