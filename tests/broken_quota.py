"""Storage drivers with one fault each in how they limit snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from kit_runs import Drivers
from limited_copies import LimitedCopies, RoomyCopies, is_full, mount
from plain_copies import ACTIVE
from plugrun.api import Mount, NotFound
from plugrun.mounts import is_mount_point
from plugrun.testing.storage_quota import QuotaCases

pytestmark = pytest.mark.root
BROKEN = Drivers(globals())
caught_by = BROKEN.caught_by


@caught_by(
    "test_each_snapshot_has_its_own_limit",
    "test_full_snapshot_can_be_mounted_again",
    "test_limit_counts_many_small_files",
    "test_limit_holds_for_files_of_the_image",
    "test_limit_is_kept_after_reopening",
    "test_limit_is_not_cloned",
    "test_limit_stops_writing",
    "test_raised_limit_lets_go_on",
    groups=(QuotaCases,),
)
class LimitsNothing(LimitedCopies):
    """It takes a limit and forgets it."""

    def limit(self, key: str, size: int) -> None:  # the size is what it does not look at
        self.check_active(key)


@caught_by(
    "test_each_snapshot_has_its_own_limit",
    "test_full_snapshot_can_be_mounted_again",
    "test_limit_counts_many_small_files",
    "test_limit_holds_for_files_of_the_image",
    "test_limit_is_kept_after_reopening",
    "test_limit_is_not_cloned",
    "test_limit_stops_writing",
    "test_raised_limit_lets_go_on",
    groups=(QuotaCases,),
)
class LimitsOnce(LimitedCopies):
    """The first limit stays."""

    def bound(self, fs: Path, size: int) -> None:
        if not is_mount_point(str(fs)):
            super().bound(fs, size)


@caught_by(
    "test_each_snapshot_has_its_own_limit",
    "test_limit_concerns_one_snapshot",
    "test_limit_is_not_cloned",
    groups=(QuotaCases,),
)
class LimitsEverybody(LimitedCopies):
    """A limit is every snapshot's."""

    def limit(self, key: str, size: int) -> None:
        super().limit(key, size)
        for info in list(self.walk()):
            if info.kind is ACTIVE and info.name != key:
                super().limit(info.name, size)


@caught_by(
    "test_each_snapshot_has_its_own_limit",
    "test_limit_holds_for_files_of_the_image",
    "test_limit_stops_writing",
    "test_raised_limit_lets_go_on",
    groups=(QuotaCases,),
)
class LimitsParentsToo(LimitedCopies):
    """What the image takes counts as the container's."""

    def bound(self, fs: Path, size: int) -> None:
        super().bound(fs, size)
        mount("-o", f"remount,size={size - 8 * 2**20}", str(fs))


@caught_by("test_limit_is_not_cloned", groups=(QuotaCases,))
class CopiesTheLimit(LimitedCopies):
    """A clone has its source's limit."""

    def clone(self, key: str, source: str) -> None:
        super().clone(key, source)
        self.limit(key, 16 * 2**20)


@caught_by("test_full_snapshot_can_be_committed", "test_limit_is_forgotten_with_the_snapshot", groups=(QuotaCases,))
class ForgetsNoLimit(LimitedCopies):
    """A new snapshot has the limit of the one that had its key."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.limits: dict[str, int] = {}

    def limit(self, key: str, size: int) -> None:
        super().limit(key, size)
        self.limits[key] = size

    def build(self, at: Path, parent: str | None) -> None:
        super().build(at, parent)
        self.made = at.name.partition("@")[2]

    def mounts(self, key: str):  # type: ignore[no-untyped-def]
        found = super().mounts(key)
        if self.limits.get(key, 0) and not is_mount_point(found[0].source) and self.stat(key).kind is ACTIVE:
            self.limit(key, self.limits[key])
        return found


@caught_by("test_full_snapshot_can_be_mounted_again", groups=(QuotaCases,))
class MountsFullOnesReadOnly(LimitedCopies):
    """As overlayfs does when no room is left for its work directory."""

    def mounts(self, key: str) -> Sequence[Mount]:
        return [mount._replace(options=("ro",)) if is_full(mount.source) else mount for mount in super().mounts(key)]


@caught_by("test_full_snapshot_can_be_mounted_again", groups=(QuotaCases,))
class KeepsTheRoom(RoomyCopies):
    """It takes a limit that it has had before for one that still holds."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.limits: dict[str, int] = {}

    def limit(self, key: str, size: int) -> None:
        if self.limits.get(key) != size:
            super().limit(key, size)
            self.limits[key] = size


@caught_by("test_limit_needs_an_active_snapshot", groups=(QuotaCases,))
class LimitsViews(LimitedCopies):
    """A view has a limit, and so has what is not there."""

    def limit(self, key: str, size: int) -> None:
        try:
            super().limit(key, size)
        except NotFound:
            return
