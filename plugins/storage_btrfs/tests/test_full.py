"""A btrfs that is full to the brim: one clear line, nothing lost, and removing works and gives space back."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import btrfsutil
from plugrun.api import Unavailable
from plugrun_storage_btrfs import durable
from plugrun_storage_btrfs.driver import BtrfsDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    from fixtures.storage import FileSystem

pytestmark = pytest.mark.root

MIB = 2**20


@pytest.fixture
def driver(tmp_path: Path, file_system: FileSystem) -> BtrfsDriver:
    """A driver on a file system of 256 MiB that holds an image and two containers."""
    state = file_system("btrfs", tmp_path / "btrfs", size=256 * MIB) / "state"
    state.mkdir(mode=0o700)
    driver = BtrfsDriver(state)
    driver.prepare("filling", None)
    (root(driver, "filling") / "f").write_text("text")
    driver.commit("image", "filling")
    for key in ("small", "large"):
        driver.prepare(key, "image")
    return driver


@pytest.fixture(params=["data", "metadata"])
def full(request: pytest.FixtureRequest, driver: BtrfsDriver) -> BtrfsDriver:
    """The same when one of the containers filled it."""
    fill(root(driver, "large"), request.param)
    return driver


def root(driver: BtrfsDriver, key: str) -> Path:
    return Path(driver.mounts(key)[0].source)


def fill(place: Path, what: str) -> None:
    """Write files until nothing more fits, and again after what could be freed was freed."""
    for turn in range(2):
        write(place / f"d{turn}", os.urandom(MIB))
        if what == "metadata":
            write(place / f"m{turn}", b"x" * 2000)  # that little lies in the tree itself
        with contextlib.suppress(OSError):
            btrfsutil.sync(place)


def write(prefix: Path, content: bytes) -> None:
    with contextlib.suppress(OSError):
        for number in range(10**6):
            Path(f"{prefix}-{number}").write_bytes(content)


def snapshots(driver: BtrfsDriver) -> set[str]:
    return {info.name for info in driver.walk()}


def test_what_does_not_fit_is_one_clear_line_and_nothing_is_lost(full: BtrfsDriver) -> None:
    makes = [
        lambda key: full.prepare(key, "image"),
        lambda key: full.prepare(key, None),
        lambda key: full.clone(key, "small"),
        lambda key: full.view(key, "image"),
    ]
    for number, make in enumerate(makes * 10):
        before = snapshots(full)
        if (error := refusal(make, f"new{number}")) is not None:
            assert "No space left" in str(error)
            assert "btrfs filesystem usage" in str(error.hint)
            assert snapshots(full) == before
    before = snapshots(full)
    if refusal(lambda key: full.commit(key, "small"), "layer") is not None:
        assert snapshots(full) == before
        assert (root(full, "small") / "f").read_text() == "text"


def refusal(make: Callable[[str], object], key: str) -> Unavailable | None:
    try:
        make(key)
    except Unavailable as error:
        return error
    return None


def test_removing_works_and_gives_space_back(full: BtrfsDriver) -> None:
    with contextlib.suppress(Unavailable):
        for number in range(50):
            full.prepare(f"web{number}", "image")
    full.gc(frozenset())
    full.remove("large")
    assert not list(Path(full._layout.state_dir).glob("*/large"))
    assert os.statvfs(full._layout.state_dir).f_bavail * 4096 > 64 * MIB
    for number in range(100):
        (root(full, "small") / f"f{number}").write_bytes(os.urandom(MIB))
    for key in snapshots(full) - {"image"}:
        full.remove(key)
    assert snapshots(full) == {"image"}


def test_space_comes_back_also_when_another_process_wrote_the_transaction(driver: BtrfsDriver, monkeypatch) -> None:
    """The kernel does not wake the thread that frees the space then: each sync(2) at the wrong moment would do."""
    fill(root(driver, "large"), "data")
    commit = durable.commit_transaction

    def commit_second(path: str) -> None:
        durable.sync_data(path)
        commit(path)

    monkeypatch.setattr(durable, "commit_transaction", commit_second)
    driver.remove("large")
    assert not btrfsutil.deleted_subvolumes(driver._layout.state_dir)


def test_subvolumes_inside_go_too(driver: BtrfsDriver) -> None:
    large = root(driver, "large")
    for number in range(5):
        btrfsutil.create_subvolume(large / f"inside{number}")
    btrfsutil.set_subvolume_read_only(large / "inside0", read_only=True)
    fill(large / "inside1", "metadata")
    driver.remove("large")
    assert snapshots(driver) == {"image", "small"}


def test_changes_and_usage(full: BtrfsDriver) -> None:
    """They may be refused, but leave nothing."""
    for use in (full.usage, lambda key: list(full.changes(key)), lambda key: full.limit(key, MIB)):
        with contextlib.suppress(Unavailable):
            use("large")
    assert not list(Path(full._layout.state_dir).glob("sending/*"))
    full.remove("large")
