"""The conformance kit passes correct drivers, and catches each kind of broken one."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fakes import DirStorage, VethNetwork, devices, enter, ip, measure, remove_tree
from plugrun.api import (
    AlreadyExists,
    Attachment,
    Mount,
    NamespacePlan,
    NetResult,
    NetworkDriver,
    SnapshotInfo,
    SnapshotKind,
    StorageDriver,
    Usage,
)
from plugrun.testing import NetworkContract, StorageContract
from plugrun_storage_overlay.driver import OverlayDriver

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.root


class TestCorrectStorage(StorageContract):
    """Copies pass, so the cases ask nothing that only overlay does."""

    features = frozenset({"rename-lower-dir"})

    def open(self, state: Path) -> StorageDriver:
        return DirStorage(state)


class TestCorrectNetwork(NetworkContract):
    """A driver that really makes links passes, so the cases can be met."""

    def open(self, state: Path) -> NetworkDriver:
        return VethNetwork(state)


# --- Broken storage drivers: each is correct but for one thing ------------------------------------------------------


class TakesAnyKey(DirStorage):
    def check_free(self, key: str) -> None:
        for kind in SnapshotKind:
            shutil.rmtree(self.place(kind, key), ignore_errors=True)


class ReusesKeys(DirStorage):
    def prepare(self, key: str, parent: str | None) -> Sequence[Mount]:
        with contextlib.suppress(AlreadyExists):
            return super().prepare(key, parent)
        return self.mounts(key)


class StandsOnAnything(DirStorage):
    def check_parent(self, parent: str | None) -> None:
        pass

    def copy(self, source: Path, target: Path) -> None:
        if source.exists():
            super().copy(source, target)
        else:
            target.mkdir()


class WritableView(DirStorage):
    def mounts(self, key: str) -> Sequence[Mount]:
        return [Mount(mount.type, mount.source, ("rw",)) for mount in super().mounts(key)]


class CommitsViews(DirStorage):
    def commit(self, name: str, key: str) -> None:
        self.check_free(name)
        self.place(self.stat(key).kind, key).rename(self.place(SnapshotKind.COMMITTED, name))


class MountsEverything(DirStorage):
    def mounts(self, key: str) -> Sequence[Mount]:
        return [Mount("bind", str(self.place(self.stat(key).kind, key) / "fs"), ())]


class ForgetsOnRestart(DirStorage):
    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.born = os.urandom(4).hex()

    def mounts(self, key: str) -> Sequence[Mount]:
        return [Mount(mount.type, f"{mount.source}/../fs", (self.born,)) for mount in super().mounts(key)]


class CommitLosesTheKey(DirStorage):
    def commit(self, name: str, key: str) -> None:
        try:
            super().commit(name, key)
        finally:
            shutil.rmtree(self.place(SnapshotKind.ACTIVE, key), ignore_errors=True)


class CommitForgetsTheParent(DirStorage):
    def commit(self, name: str, key: str) -> None:
        super().commit(name, key)
        (self.place(SnapshotKind.COMMITTED, name) / "parent").unlink(missing_ok=True)


class RemovesParents(DirStorage):
    def remove(self, key: str) -> None:
        with self.locked():
            self.place(self.stat(key).kind, key).rename(self.state / "staging" / f"removed@{key}")
            self.clear_staging()


class ForgetsChildren(RemovesParents, StandsOnAnything):
    pass


class LocksNothing(DirStorage):
    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        yield


class SharesFiles(DirStorage):
    def copy(self, source: Path, target: Path) -> None:
        shutil.copytree(source, target, copy_function=os.link)


class CopiesContentOnly(DirStorage):
    def copy(self, source: Path, target: Path) -> None:
        shutil.copytree(source, target, symlinks=True)


class MergesTypes(DirStorage):
    def view(self, key: str, parent: str | None) -> Sequence[Mount]:
        mounts = super().view(key, parent)
        grand = self.stat(parent).parent if parent else None
        if grand:
            shutil.copytree(
                self.place(SnapshotKind.COMMITTED, grand) / "fs", mounts[0].source, dirs_exist_ok=True, symlinks=True
            )
        return mounts


class OwnRoot(DirStorage):
    def copy(self, source: Path, target: Path) -> None:
        super().copy(source, target)
        target.chmod(0o755)


class HidesViews(DirStorage):
    def walk(self) -> Iterator[SnapshotInfo]:
        yield from (info for info in super().walk() if info.kind is not SnapshotKind.VIEW)


class WalksTwice(DirStorage):
    def walk(self) -> Iterator[SnapshotInfo]:
        yield from super().walk()
        yield from super().walk()


class CountsParents(DirStorage):
    def usage(self, key: str) -> Usage:
        return measure(self.place(self.stat(key).kind, key) / "fs")


class ClosesOnce(DirStorage):
    def close(self) -> None:
        del self.state


class ReservesNames(DirStorage):
    def place(self, kind: SnapshotKind, key: str) -> Path:
        return self.state / kind / ("other" if key == "lock" else key)


class NoRename(DirStorage):
    def copy(self, source: Path, target: Path) -> None:
        super().copy(source, target)
        for name in target.glob("old/*"):
            name.unlink()


class ShallowOptions(DirStorage):
    def build(self, at: Path, parent: str | None) -> None:
        depth, name = 0, parent
        while name is not None:
            depth, name = depth + 1, self.stat(name).parent
        if depth > 60:
            raise OSError("mount options do not fit into a page")
        super().build(at, parent)


class RecursiveRemove(DirStorage):
    def clear_staging(self, required: str | None = None) -> None:
        for path in (self.state / "staging").iterdir():
            shutil.rmtree(path)


class BuildsInPlace(DirStorage):
    def make(self, kind: SnapshotKind, key: str, parent: str | None) -> None:
        with self.locked():
            self.check_free(key)
            self.check_parent(parent)
            self.build(self.place(kind, key), parent)


class CommitsByCopy(DirStorage):
    def commit(self, name: str, key: str) -> None:
        self.copy(self.place(SnapshotKind.ACTIVE, key), self.place(SnapshotKind.COMMITTED, name))
        shutil.rmtree(self.place(SnapshotKind.ACTIVE, key))


class RemovesInPlace(DirStorage):
    def remove(self, key: str) -> None:
        shutil.rmtree(self.place(self.stat(key).kind, key))


class LeavesLitter(DirStorage):
    def build(self, at: Path, parent: str | None) -> None:
        at = at.with_name(f"{at.name}@{os.urandom(4).hex()}")
        super().build(at, parent)
        at.rename(at.with_name(at.name.rpartition("@")[0]))

    def gc(self, valid: frozenset[str]) -> None:
        pass

    def clear_staging(self, required: str | None = None) -> None:
        for path in (self.state / "staging").glob("removed@*"):
            shutil.rmtree(path)


class CollectsEverything(DirStorage):
    def gc(self, valid: frozenset[str]) -> None:
        for kind in SnapshotKind:
            for path in (self.state / kind).iterdir():
                shutil.rmtree(path)


class StagedTwice(OverlayDriver):
    def layer_dir(self, key: str) -> Path:
        place = self._layout.path("layers", key, "fs")
        os.makedirs(place, exist_ok=True)
        return Path(place)


class StagedShown(OverlayDriver):
    def walk(self) -> Iterator[SnapshotInfo]:
        yield from super().walk()
        for key in os.listdir(self._layout.path("layers")):
            yield SnapshotInfo(key, SnapshotKind.ACTIVE, None)


class IgnoresLayerParent(OverlayDriver):
    def commit_layer(self, name: str, key: str, parent: str | None) -> None:
        super().commit_layer(name, key, None)


class CollectsStaged(OverlayDriver):
    def gc(self, valid: frozenset[str]) -> None:
        super().gc(frozenset())


class FollowsRedirects(OverlayDriver):
    def mounts(self, key: str) -> Sequence[Mount]:
        return [
            Mount(
                one.type,
                one.source,
                (*(option for option in one.options if "redirect" not in option), "redirect_dir=on"),
            )
            if one.type == "overlay"
            else one
            for one in super().mounts(key)
        ]


STORAGE: list[tuple[type, str, dict[str, Any]]] = [
    (TakesAnyKey, "test_keys_and_names_share_one_space", {"taken": "view"}),
    (ReusesKeys, "test_one_of_many_gets_a_key", {}),
    (LocksNothing, "test_race_for_a_key", {}),
    (LocksNothing, "test_race_for_a_key_and_a_name", {}),
    (LocksNothing, "test_race_of_removing_a_parent_and_standing_on_it", {}),
    (StandsOnAnything, "test_parent_must_be_committed", {}),
    (ForgetsChildren, "test_race_of_removing_a_parent_and_standing_on_it", {}),
    (WritableView, "test_view_is_read_only", {"depth": 1}),
    (CommitsViews, "test_view_cannot_be_committed", {}),
    (MountsEverything, "test_mounts_needs_an_active_snapshot_or_view", {}),
    (ForgetsOnRestart, "test_everything_is_the_same_after_reopening", {}),
    (CommitLosesTheKey, "test_commit_to_a_taken_name_leaves_the_key", {}),
    (CommitForgetsTheParent, "test_commit_replaces_the_key", {}),
    (RemovesParents, "test_remove_refuses_a_parent", {}),
    (SharesFiles, "test_prepare_shows_the_parent_and_leaves_it_alone", {}),
    (CopiesContentOnly, "test_hard_links_stay_together", {}),
    (CopiesContentOnly, "test_attributes_are_kept", {}),
    (CopiesContentOnly, "test_special_files", {}),
    (MergesTypes, "test_deleted_file_stays_deleted", {}),
    (MergesTypes, "test_replaced_directory_hides_the_old_one", {}),
    (OwnRoot, "test_root_directory_is_inherited", {}),
    (NoRename, "test_rename_a_directory_of_the_parent", {}),
    (HidesViews, "test_walk_and_stat_agree", {}),
    (WalksTwice, "test_commit_replaces_the_key", {}),
    (CountsParents, "test_usage_is_the_snapshot_s_own", {}),
    (ClosesOnce, "test_close_twice", {}),
    (ReservesNames, "test_names_are_path_components", {"name": "lock"}),
    (ShallowOptions, "test_issue_128_layers", {}),
    (RecursiveRemove, "test_issue_remove_a_deep_tree", {}),
    (BuildsInPlace, "test_killed_prepare", {}),
    (CommitsByCopy, "test_killed_commit", {}),
    (RemovesInPlace, "test_killed_remove", {}),
    (LeavesLitter, "test_killed_view", {}),
    (CollectsEverything, "test_gc_spares_what_is_valid", {}),
    (StagedTwice, "test_layer_dir_is_an_empty_root_directory", {}),
    (StagedShown, "test_layer_dir_is_an_empty_root_directory", {}),
    (IgnoresLayerParent, "test_layers_may_be_filled_in_any_order", {}),
    (IgnoresLayerParent, "test_commit_layer_needs_key_and_parent", {}),
    (CollectsStaged, "test_gc_takes_staged_layers_that_nobody_wants", {}),
    (FollowsRedirects, "test_rename_a_directory_of_the_parent", {}),
]


@pytest.mark.parametrize(("broken", "case", "arguments"), STORAGE, ids=lambda value: getattr(value, "__name__", None))
def test_kit_catches_broken_storage(tmp_path: Path, broken: type, case: str, arguments: dict[str, Any]) -> None:
    class Kit(StorageContract):
        features = frozenset({"rename-lower-dir"} if issubclass(broken, DirStorage) else ())

        def open(self, state: Path) -> StorageDriver:
            driver: StorageDriver = broken(state)
            return driver

    state, plain = tmp_path / "state", tmp_path / "plain"
    state.mkdir()
    plain.mkdir()
    values: dict[str, Any] = {"state": state, "plain": plain, "driver": broken(state), "layers": broken(state)}
    try:
        assert caught(Kit(), case, {**values, **arguments})
    finally:
        remove_tree(state)  # some trees are deeper than pytest's own clean-up reaches


# --- Broken network drivers ------------------------------------------------------------------------------------------


class ChangesItsMind(VethNetwork):
    def namespace(self, target: str | None) -> NamespacePlan:
        return ()  # type: ignore[return-value]


class NoPrefix(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        result = super().setup(at)
        return NetResult(tuple(address.partition("/")[0] for address in result.addresses), result.data)


class NotJSON(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        result = super().setup(at)
        return NetResult(result.addresses, {"device": ("a", "tuple")})


class ClaimsAddress(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        result = super().setup(at)
        enter(at, "ip", "addr", "flush", "dev", "eth0")
        return result


class SeesNoDrift(VethNetwork):
    def check(self, at: Attachment, prev: NetResult) -> None:
        pass


class RemembersInMemory(VethNetwork):
    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.mine: set[str] = set()

    def setup(self, at: Attachment) -> NetResult:
        self.mine.add(at.container_id)
        return super().setup(at)

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        if at.container_id in self.mine:
            super().teardown(at, prev)


class SameAddress(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        super().setup(at)
        return NetResult(("10.99.0.2/24",))


class LeaksDescriptors(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        return super().setup(at)


class NeedsNamespace(VethNetwork):
    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        enter(at, "true")
        super().teardown(at, prev)


class SkipsWithoutNamespace(VethNetwork):
    """netavark#1451."""

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        if at.netns is not None:
            super().teardown(at, prev)

    def setup(self, at: Attachment) -> NetResult:
        result = super().setup(at)
        if "fakebridge" not in devices():
            ip("link", "add", "fakebridge", "type", "bridge")
        return result


class NeedsResult(VethNetwork):
    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        if prev is not None:
            super().teardown(at, prev)


class OnlyOnce(VethNetwork):
    def delete(self, device: str) -> None:
        ip("link", "del", device)


class LeaksOnFailure(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        ip("link", "add", f"left{at.container_id[-8:]}", "type", "bridge")
        return super().setup(at)


class RaisesAnything(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        enter(at, "true")
        return super().setup(at)


class SetupOnce(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        marker = self.state / at.container_id
        marker.touch(exist_ok=False)
        return super().setup(at)


class CollectsAll(VethNetwork):
    def gc(self, valid: frozenset[str]) -> None:
        super().gc(frozenset())


class CollectsNothing(VethNetwork):
    def gc(self, valid: frozenset[str]) -> None:
        pass


THERE = {"netns": "there", "prev": "stored"}
NETWORK: list[tuple[type, str, dict[str, Any]]] = [
    (ChangesItsMind, "test_namespace_is_a_plan", {}),
    (NoPrefix, "test_setup_answers_what_it_did", {}),
    (NotJSON, "test_setup_answers_what_it_did", {}),
    (ClaimsAddress, "test_setup_answers_what_it_did", {}),
    (SeesNoDrift, "test_check_notices_drift", {}),
    (ClaimsAddress, "test_check_passes_after_setup", {}),
    (RemembersInMemory, "test_teardown_needs_nothing", THERE),
    (SameAddress, "test_containers_do_not_share_addresses", {}),
    (LeaksDescriptors, "test_setup_stays_in_its_own_namespace", {}),
    (NeedsNamespace, "test_teardown_needs_nothing", {"netns": "none", "prev": "stored"}),
    (SkipsWithoutNamespace, "test_teardown_needs_nothing", {"netns": "none", "prev": "stored"}),
    (NeedsResult, "test_teardown_needs_nothing", {"netns": "there", "prev": "lost"}),
    (OnlyOnce, "test_teardown_needs_nothing", THERE),
    (OnlyOnce, "test_teardown_of_what_never_was", {}),
    (LeaksOnFailure, "test_teardown_after_a_failed_setup", {}),
    (RaisesAnything, "test_teardown_after_a_failed_setup", {}),
    (SetupOnce, "test_setup_again_after_teardown", {}),
    (CollectsAll, "test_gc_spares_the_valid", {}),
    (CollectsNothing, "test_gc_spares_the_valid", {}),
]


@pytest.mark.parametrize(("broken", "case", "arguments"), NETWORK, ids=lambda value: getattr(value, "__name__", None))
def test_kit_catches_broken_network(tmp_path: Path, broken: type, case: str, arguments: dict[str, Any]) -> None:
    class Kit(NetworkContract):
        def open(self, state: Path) -> NetworkDriver:
            driver: NetworkDriver = broken(state)
            return driver

    state = tmp_path / "state"
    state.mkdir()
    before = devices()
    driver, kit = VethNetwork(state), Kit()
    attaching = type(kit).attach.__wrapped__(kit, driver, tmp_path)  # type: ignore[attr-defined]
    values: dict[str, Any] = {
        "state": state,
        "tmp_path": tmp_path,
        "driver": broken(state),
        "attach": next(attaching),
    }
    try:
        assert caught(kit, case, {**values, **arguments})
    finally:
        next(attaching, None)
        for device in devices() - before:
            VethNetwork(state).delete(device)


def caught(kit: object, case: str, values: dict[str, Any]) -> bool:
    """Run one case; whether it failed, as a test runner would see it."""
    function = getattr(type(kit), case)
    names = function.__code__.co_varnames[1 : function.__code__.co_argcount]
    try:
        function(kit, **{name: values[name] for name in names})
    except pytest.skip.Exception as skipped:
        raise AssertionError(f"{case} was skipped: {skipped}") from None
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - a test runner counts any of them
        return True
    return False
