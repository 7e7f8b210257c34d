"""Cases: what a driver says of changes (:class:`plugrun.api.SupportsChanges`)."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

import pytest

from plugrun.api import Changed, NotFound, StorageDriver, SupportsChanges, SupportsClone
from plugrun.testing.storage_base import Fill, StorageCases, write
from plugrun.testing.storage_operations import NAMED, Sequence, fill_lower, fill_upper
from plugrun.testing.trees import differences, inodes, mounted, sync

_SEEDS = 12
_OPERATIONS = 25
_FILES = 400  # of an image that is much larger than a change
_FEW = 20  # places that a change of two files may cost


@runtime_checkable
class ChangesDriver(StorageDriver, SupportsChanges, Protocol):
    """A storage driver that also knows what changed."""


class ChangesCases(StorageCases):
    """Skipped for drivers that do not declare it. The measure is a full comparison of both trees, as mounted."""

    @pytest.fixture
    def changing(self, driver: StorageDriver) -> ChangesDriver:
        """Return the driver, if it can do this, with the committed ``image`` of two layers."""
        if not isinstance(driver, ChangesDriver):
            pytest.skip("the driver does not declare SupportsChanges")
        self.layer(driver, "base", None, fill_lower)
        self.layer(driver, "image", "base", fill_upper)
        return driver

    def check(self, driver: ChangesDriver, key: str, said: str = "") -> set[Changed]:
        """Compare a snapshot with its parent, and what the driver says with that; return what it says.

        :param said: what was done, for the message.
        """
        places = set(driver.changes(key))
        for place in places:
            check_form(place)
        parent = driver.stat(key).parent
        with mounted(driver.mounts(key)) as after, mounted(driver.view("looking", parent)) as before:
            missed = sorted(path for path in differences(before, after) if not covers(places, path, os.fsencode(after)))
        driver.remove("looking")
        assert not missed, f"changes() misses {missed}; it says {sorted(places)}; {said}"
        return places

    def do(self, driver: ChangesDriver, change: Fill) -> set[Changed]:
        """Make ``web`` on the image, change it, and check what the driver says, mounted and not."""
        with mounted(driver.prepare("web", "image")) as root:
            change(root)
            sync(root)
            while_mounted = set(driver.changes("web"))
        places = self.check(driver, "web")
        assert while_mounted == places, "changes() depends on whether the snapshot is mounted"
        return places

    @pytest.mark.parametrize("change", NAMED)
    def test_change_is_reported(self, changing: ChangesDriver, change: str) -> None:
        """Each of these is covered wherever the two trees differ."""
        self.do(changing, NAMED[change])

    @pytest.mark.parametrize("seed", range(_SEEDS))
    def test_any_sequence_of_changes_is_reported(self, changing: ChangesDriver, seed: int) -> None:
        """Likewise random sequences of operations, in two turns: the first's changes stay reported."""
        driver = changing
        dice = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        driver.prepare("web", "image")
        for _ in range(2):
            with mounted(driver.mounts("web")) as root:
                done = Sequence(root, dice)
                done.run(_OPERATIONS)
                sync(root)
            self.check(driver, "web", f"seed {seed}: {'; '.join(done.log)}")

    def test_nothing_changed_is_no_change(self, changing: ChangesDriver) -> None:
        """A new snapshot, also one that was mounted and read, has at most its root looked at."""

        def read(root: Path) -> None:
            for path in root.rglob("*"):
                if path.is_file():
                    path.read_bytes()

        places = self.do(changing, read)
        assert {place.path for place in places} <= {b""}

    def test_changes_without_a_parent(self, changing: ChangesDriver) -> None:
        """Everything in a snapshot that stands on nothing is new."""
        with mounted(changing.prepare("data", None)) as root:
            fill_lower(root)
            sync(root)
        self.check(changing, "data")

    def test_changes_are_those_of_the_snapshot_alone(self, changing: ChangesDriver) -> None:
        """After a commit nothing has changed; what an earlier one on the same parent did does not show."""
        with mounted(changing.prepare("other", "image")) as root:
            write("lib/other")(root)
            sync(root)
        changing.commit("new", "other")
        for parent in ("image", "new"):
            changing.prepare("web", parent)
            assert {place.path for place in self.check(changing, "web")} <= {b""}, f"on {parent}"
            changing.remove("web")

    def test_changes_of_a_clone(self, changing: ChangesDriver) -> None:
        """A clone differs from its parent as its source did, and then by what is done to it."""
        if not isinstance(changing, SupportsClone):
            pytest.skip("the driver does not declare SupportsClone")
        self.do(changing, NAMED["moved out, rest deleted"])
        changing.clone("copy", "web")
        self.check(changing, "copy")
        with mounted(changing.mounts("copy")) as root:
            write("srv/data", "of the clone")(root)
            sync(root)
        self.check(changing, "copy")
        self.check(changing, "web")

    def test_changes_need_an_active_snapshot(self, changing: ChangesDriver) -> None:
        """Nothing else has changes; the refusal comes at the latest with the first place."""
        changing.view("look", "image")
        for key in ("unknown", "look", "image"):
            with pytest.raises(NotFound):
                list(changing.changes(key))

    def test_changes_are_the_same_after_reopening(self, changing: ChangesDriver, state: Path) -> None:
        """A restart forgets no change."""
        places = self.do(changing, NAMED["tree added"])
        changing.close()
        again = self.open(state)
        assert isinstance(again, ChangesDriver)
        assert set(again.changes("web")) == places
        assert self.check(again, "web") == places
        again.close()

    def test_changes_cost_follows_the_change(self, driver: StorageDriver) -> None:
        """Two changed files in a large image have a few places looked at. Feature ``precise-changes``."""
        if "precise-changes" not in self.features or not isinstance(driver, ChangesDriver):
            pytest.skip("the features do not name precise-changes")

        def large(root: Path) -> None:
            for number in range(_FILES):
                write(f"usr/d{number % 20}/e/f{number}", str(number))(root)

        self.layer(driver, "image", None, large)
        with mounted(driver.prepare("web", "image")) as root:
            write("usr/d3/e/f3", "changed")(root)
            (root / "usr/d5/e/f5").unlink()
            sync(root)
        places = self.check(driver, "web")
        with mounted(driver.mounts("web")) as root:
            looked_at = sum(1 + (inodes(root / os.fsdecode(at.path)) if at.whole else 0) for at in places)
        assert looked_at <= _FEW, f"{looked_at} entries to look at for two changed ones: {sorted(places)}"


def check_form(place: Changed) -> None:
    """Check that a place has the form that the API says."""
    assert isinstance(place, Changed), place
    assert isinstance(place.path, bytes), place
    parts = place.path.split(b"/") if place.path else []
    assert not {b"", b".", b".."} & set(parts), f"{place} is not a relative path"


def covers(places: Iterable[Changed], path: bytes, after: bytes) -> bool:
    """Whether who looks at ``places`` sees that ``path`` differs; ``after`` is where the changed tree is."""
    return any(
        place.path == path
        or (is_below(path, place.path) and (place.whole or not is_directory(os.path.join(after, place.path))))
        for place in places
    )


def is_below(path: bytes, above: bytes) -> bool:
    """Whether one path, relative to the root, leads through another."""
    return not above or path.startswith(above + b"/")


def is_directory(path: bytes) -> bool:
    """Whether a directory is there; a symbolic link is none."""
    return os.path.isdir(path) and not os.path.islink(path)
