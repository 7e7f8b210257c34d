"""Storage drivers with one fault each in what a driver may offer besides: layer directories, clones, changes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit_runs import Drivers
from plain_copies import ACTIVE, COMMITTED, DirStorage, PlainCopies, merge
from plugrun.api import Changed, Mount, SnapshotInfo, SnapshotKind
from plugrun.testing.storage_changes import ChangesCases
from plugrun.testing.storage_clone import CloneCases
from plugrun.testing.storage_faults import FaultCases
from plugrun.testing.storage_layers import LayerCases
from plugrun.testing.storage_names import NameCases
from plugrun.testing.storage_reference import ReferenceCases
from plugrun.testing.storage_trees import TreeCases
from plugrun.testing.trees import differences
from plugrun_storage_overlay.driver import OverlayDriver

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

pytestmark = pytest.mark.root
BROKEN = Drivers(globals())
caught_by = BROKEN.caught_by


# --- Layer directories ----------------------------------------------------------------------------------------------


@caught_by(
    "test_image_is_what_the_reference_unpacks", "test_whiteouts_hide_what_is_below", groups=(LayerCases, ReferenceCases)
)
class ForgetsOpaque(PlainCopies):
    """An opaque directory shows what is below."""

    def merge(self, layer: Path, target: Path) -> None:
        for directory, _, _ in os.walk(layer):
            if "trusted.overlay.opaque" in os.listxattr(directory):
                os.removexattr(directory, "trusted.overlay.opaque")
        merge(layer, target)


@caught_by(
    "test_image_is_what_the_reference_unpacks", "test_whiteouts_hide_what_is_below", groups=(LayerCases, ReferenceCases)
)
class KeepsWhiteouts(PlainCopies):
    """A whiteout hides what is below and shows itself."""

    def merge(self, layer: Path, target: Path) -> None:
        marks = [path for path in layer.rglob("*") if path.is_char_device() and path.stat().st_rdev == 0]
        merge(layer, target)
        for mark in marks:
            os.mknod(target / mark.relative_to(layer), 0o020000, 0)


@caught_by(
    "test_image_is_what_the_reference_unpacks", "test_whiteouts_hide_what_is_below", groups=(LayerCases, ReferenceCases)
)
class ForgetsWhiteouts(PlainCopies):
    """A whiteout hides nothing."""

    def merge(self, layer: Path, target: Path) -> None:
        for path in layer.rglob("*"):
            if path.is_char_device() and path.stat().st_rdev == 0:
                path.unlink()
        merge(layer, target)


@caught_by(
    "test_commit_layer_needs_key_and_parent",
    "test_layers_may_be_filled_in_any_order",
    "test_whiteouts_hide_what_is_below",
    groups=(LayerCases,),
)
class IgnoresLayerParent(PlainCopies):
    """A layer stands on nothing."""

    def commit_layer(self, name: str, key: str, parent: str | None) -> None:
        super().commit_layer(name, key, None)


@caught_by("test_layer_dir_is_an_empty_root_directory", groups=(LayerCases,))
class StagedTwice(PlainCopies):
    """A layer directory of a key that is taken is the one that is there."""

    def layer_dir(self, key: str) -> Path:
        return self.staged(key) / "fs" if self.staged(key).is_dir() else super().layer_dir(key)


@caught_by("test_layer_dir_is_an_empty_root_directory", groups=(LayerCases,))
class StagedShown(PlainCopies):
    """A layer directory is walked as a snapshot."""

    def walk(self) -> Iterator[SnapshotInfo]:
        yield from super().walk()
        for place in (self.state / "layers").iterdir():
            yield SnapshotInfo(place.name, SnapshotKind.ACTIVE, None)


@caught_by("test_gc_takes_staged_layers_that_nobody_wants", groups=(LayerCases,))
class CollectsStaged(PlainCopies):
    """``gc`` removes layer directories that are valid."""

    def gc(self, valid: frozenset[str]) -> None:
        super().gc(frozenset())


@caught_by("test_rename_a_directory_of_the_parent", groups=(TreeCases,), only="rename_a", features=frozenset())
class FollowsRedirects(OverlayDriver):
    """Directories of the image can be renamed, which the driver does not declare."""

    def mounts(self, key: str) -> Sequence[Mount]:
        return [self.following(mount) if mount.type == "overlay" else mount for mount in super().mounts(key)]

    @staticmethod
    def following(mount: Mount) -> Mount:
        options = tuple(option for option in mount.options if "redirect" not in option)
        return mount._replace(options=(*options, "redirect_dir=on"))


# --- Clones ---------------------------------------------------------------------------------------------------------


@caught_by("test_clone_is_independent", "test_clone_keeps_hard_links_together", groups=(CloneCases,))
class ClonesShareFiles(PlainCopies):
    """The clone's files are the source's."""

    def duplicate(self, source: Path, target: Path) -> None:
        subprocess.run(["cp", "-al", "--", str(source), str(target)], check=True)


@caught_by(
    "test_clone_and_source_are_removed_on_their_own",
    "test_clone_can_be_committed",
    "test_clone_is_independent",
    "test_clone_keeps_hard_links_together",
    "test_clone_keeps_holes",
    "test_clone_of_a_clone",
    "test_clone_of_a_mounted_source",
    "test_clone_shows_what_its_source_does",
    "test_clone_without_a_parent",
    "test_one_of_many_clones_gets_a_key",
    groups=(CloneCases,),
)
class ClonesAreTheImage(PlainCopies):
    """The clone is the image, without what the container did."""

    def duplicate(self, source: Path, target: Path) -> None:
        self.build(target, self.stat(source.name).parent)


@caught_by("test_clone_can_be_committed", "test_clone_shows_what_its_source_does", groups=(CloneCases,))
class ClonesForgetTheParent(PlainCopies):
    """The clone stands on nothing."""

    def clone(self, key: str, source: str) -> None:
        super().clone(key, source)
        (self.place(ACTIVE, key) / "parent").unlink(missing_ok=True)


@caught_by(
    "test_clone_and_source_are_removed_on_their_own",
    "test_clone_can_be_committed",
    "test_clone_keeps_hard_links_together",
    "test_clone_of_a_clone",
    "test_clone_shows_what_its_source_does",
    "test_one_of_many_clones_gets_a_key",
    groups=(CloneCases,),
)
class ClonesBringBack(PlainCopies):
    """What the container deleted is there again in the clone."""

    def duplicate(self, source: Path, target: Path) -> None:
        super().duplicate(source, target)
        if parent := self.stat(source.name).parent:
            shutil.copytree(self.place(COMMITTED, parent) / "fs/opaque", target / "fs/opaque", dirs_exist_ok=True)


class ClonesByCp(PlainCopies):
    """Clones like cp(1), with other options."""

    options: tuple[str, ...] = ("-a",)

    def duplicate(self, source: Path, target: Path) -> None:
        subprocess.run(["cp", *self.options, "--", str(source), str(target)], check=True)


@caught_by(
    "test_clone_and_source_are_removed_on_their_own",
    "test_clone_can_be_committed",
    "test_clone_keeps_hard_links_together",
    "test_clone_of_a_clone",
    "test_clone_without_a_parent",
    "test_one_of_many_clones_gets_a_key",
    groups=(CloneCases,),
)
class ClonesBreakHardLinks(ClonesByCp):
    """Names of one file become files of their own."""

    options = ("-a", "--no-preserve=links")


@caught_by(
    "test_clone_and_source_are_removed_on_their_own",
    "test_clone_can_be_committed",
    "test_clone_keeps_hard_links_together",
    "test_clone_of_a_clone",
    "test_clone_shows_what_its_source_does",
    "test_clone_without_a_parent",
    "test_one_of_many_clones_gets_a_key",
    groups=(CloneCases,),
)
class ClonesDropAttributes(ClonesByCp):
    """Extended attributes are lost."""

    options = ("-a", "--no-preserve=xattr")


@caught_by("test_clone_keeps_holes", groups=(CloneCases,))
class ClonesFillHoles(ClonesByCp):
    """Sparse files are filled with zeros."""

    options = ("-a", "--sparse=never")


@caught_by("test_clone_needs_a_free_key", "test_one_of_many_clones_gets_a_key", groups=(CloneCases,))
class ClonesOverwrite(PlainCopies):
    """A key that is taken is replaced."""

    def check_free(self, key: str) -> None:
        if (info := self.find(key)) is not None:
            shutil.rmtree(self.place(info.kind, key))


@caught_by("test_clone_needs_an_active_source", groups=(CloneCases,))
class ClonesViews(PlainCopies):
    """A view can be cloned."""

    def check_active(self, key: str) -> None:
        self.stat(key)

    def duplicate(self, source: Path, target: Path) -> None:
        super().duplicate(self.place(self.stat(source.name).kind, source.name), target)


@caught_by("test_killed_clone", groups=(FaultCases,), only="killed_clone")
class ClonesInPlace(PlainCopies):
    """A clone shows before it is whole."""

    def duplicate(self, source: Path, target: Path) -> None:
        place = self.place(ACTIVE, target.name.partition("@")[2])
        place.mkdir()
        for path in source.iterdir():
            self.copy(path, place)
        place.rename(target)


@caught_by("test_optional_methods_refuse_it_too", groups=(NameCases,))
class ClonesToAnyName(PlainCopies):
    """``../x`` is a key of a clone."""

    cloning = False

    def clone(self, key: str, source: str) -> None:
        self.cloning = True
        try:
            super().clone(key, source)
        finally:
            self.cloning = False

    def check_name(self, key: str) -> None:
        if not self.cloning:
            super().check_name(key)


# --- Changes --------------------------------------------------------------------------------------------------------


class ComparesTrees(PlainCopies):
    """Finds changes by comparing with the parent's copy; a fault is what it leaves out."""

    def changes(self, key: str) -> Iterable[Changed]:
        self.check_active(key)
        after, parent = self.place(ACTIVE, key) / "fs", self.stat(key).parent
        if parent is None:
            return [Changed(b"", whole=True)]
        before = self.place(COMMITTED, parent) / "fs"
        return [Changed(path) for path in differences(before, after) if self.notices(path, before, after)]

    def notices(self, path: bytes, before: Path, after: Path) -> bool:
        return True


def stat_of(root: Path, path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(root / os.fsdecode(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


@caught_by(
    "test_any_sequence_of_changes_is_reported",
    "test_change_is_reported",
    groups=(ChangesCases,),
    only=r"reported|nothing",
)
class MissesDeletions(ComparesTrees):
    """Of what is gone nothing is said."""

    def notices(self, path: bytes, before: Path, after: Path) -> bool:
        return stat_of(after, path) is not None


@caught_by("test_change_is_reported", groups=(ChangesCases,), only=r"test_change_is|nothing")
class MissesModes(ComparesTrees):
    """A change of permissions alone goes unnoticed."""

    def notices(self, path: bytes, before: Path, after: Path) -> bool:
        old, new = stat_of(before, path), stat_of(after, path)
        return not old or not new or (old.st_uid, old.st_mtime_ns) != (new.st_uid, new.st_mtime_ns)


@caught_by("test_any_sequence_of_changes_is_reported", groups=(ChangesCases,), only=r"sequence|nothing")
class TrustsSizeAndTime(ComparesTrees):
    """Content that changed with size and time put back goes unnoticed: what rsync(1) does."""

    def notices(self, path: bytes, before: Path, after: Path) -> bool:
        old, new = stat_of(before, path), stat_of(after, path)
        facts = [(one.st_mode, one.st_uid, one.st_gid, one.st_size, one.st_mtime_ns) for one in (old, new) if one]
        return len(set(facts)) != 1 or len(facts) == 1 or self.attributes(path, before) != self.attributes(path, after)

    @staticmethod
    def attributes(path: bytes, root: Path) -> list[bytes]:
        place = root / os.fsdecode(path)
        names = os.listxattr(place, follow_symlinks=False)
        return [os.getxattr(place, name, follow_symlinks=False) for name in names]


@caught_by("test_change_is_reported", groups=(ChangesCases,), only=r"test_change_is|nothing")
class MissesSecondNames(ComparesTrees):
    """Of a file with several names only one is told."""

    def changes(self, key: str) -> Iterable[Changed]:
        seen = set()
        for place in super().changes(key):
            info = stat_of(self.place(ACTIVE, key) / "fs", place.path)
            if place.whole or info is None or info.st_nlink == 1 or info.st_ino not in seen:
                yield place
            if info is not None:
                seen.add(info.st_ino)


@caught_by(
    "test_any_sequence_of_changes_is_reported",
    "test_changes_are_the_same_after_reopening",
    "test_changes_of_a_clone",
    groups=(ChangesCases,),
    only=r"sequence|changes_",
)
class MissesTheRoot(ComparesTrees):
    """The root directory itself never differs."""

    def notices(self, path: bytes, before: Path, after: Path) -> bool:
        return path != b""


@caught_by("test_change_is_reported", groups=(ChangesCases,), only=r"test_change_is|nothing")
class MissesRenamedContent(ComparesTrees):
    """Of a renamed directory its two names are told, and not what is in it."""

    def notices(self, path: bytes, before: Path, after: Path) -> bool:
        above = os.path.dirname(path)
        return not (above and stat_of(before, above) is None and stat_of(after, above) is not None)


@caught_by(
    "test_any_sequence_of_changes_is_reported",
    "test_changes_are_the_same_after_reopening",
    "test_changes_of_a_clone",
    "test_changes_without_a_parent",
    groups=(ChangesCases,),
    only=r"changes_|nothing",
)
class LeadingSlash(ComparesTrees):
    """Paths are absolute."""

    def changes(self, key: str) -> Iterable[Changed]:
        return [Changed(b"/" + place.path, place.whole) for place in super().changes(key)]


@caught_by(
    "test_changes_are_those_of_the_snapshot_alone",
    "test_nothing_changed_is_no_change",
    groups=(ChangesCases,),
    only=r"changes_|nothing",
)
class ReportsEverything(ComparesTrees):
    """Every entry may have changed, always."""

    def changes(self, key: str) -> Iterable[Changed]:
        yield from super().changes(key)
        root = self.place(ACTIVE, key) / "fs"
        yield from (Changed(os.fsencode(path.relative_to(root))) for path in root.rglob("*"))


@caught_by(
    "test_changes_cost_follows_the_change", groups=(ChangesCases,), only="cost", features=frozenset({"precise-changes"})
)
class ClaimsPrecision(PlainCopies):
    """It says that its answer is precise, and that anything may have changed."""


@caught_by("test_changes_need_an_active_snapshot", groups=(ChangesCases,), only=r"changes_|nothing")
class ChangesOfViews(PlainCopies):
    """A view has changes."""

    def changes(self, key: str) -> Iterable[Changed]:
        self.stat(key)
        return [Changed(b"", whole=True)]


@caught_by(groups=(LayerCases, CloneCases, ChangesCases))
class OffersNothing(DirStorage):
    """No fault: what a driver does not offer is not asked of it."""
