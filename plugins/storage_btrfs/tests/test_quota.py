from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import btrfsutil
from plugrun.api import NotFound, SupportsQuota, Unavailable
from plugrun_storage_btrfs import ioctl
from plugrun_storage_btrfs.driver import BtrfsDriver

if TYPE_CHECKING:
    from fixtures.storage import FileSystem

pytestmark = pytest.mark.root

MIB = 2**20


@pytest.fixture
def driver(tmp_path: Path, file_system: FileSystem) -> BtrfsDriver:
    state = file_system("btrfs", tmp_path / "btrfs") / "state"
    state.mkdir(mode=0o700)
    driver = BtrfsDriver(state)
    driver.prepare("filling", None)
    write(root(driver, "filling") / "base", 30)
    driver.commit("image", "filling")
    driver.prepare("web", "image")
    return driver


@pytest.fixture(params=["simple", "full"])
def way(request: pytest.FixtureRequest, driver: BtrfsDriver) -> str:
    """Have the file system account space in one way or the other, the latter turned on by somebody else."""
    if request.param == "full":
        with ioctl.opened(driver._layout.state_dir) as descriptor:
            ioctl.enable_quota(descriptor, ioctl.QUOTA_FULL)
            ioctl.wait_for_rescan(descriptor)
    return str(request.param)


def root(driver: BtrfsDriver, key: str) -> Path:
    return Path(driver.mounts(key)[0].source)


def write(path: Path, mebibytes: int) -> None:
    with path.open("wb") as stream:
        for _ in range(mebibytes):
            stream.write(os.urandom(MIB))
            stream.flush()
        os.fsync(stream.fileno())


def refused(path: Path, mebibytes: int) -> None:
    with pytest.raises(OSError, match="quota") as error:
        write(path, mebibytes)
    assert error.value.errno == errno.EDQUOT
    path.unlink()
    os.sync()


def touch(path: Path, files: int) -> None:
    for number in range(files):
        (path / f"{number}{'x' * 200}").touch()


def groups(driver: BtrfsDriver) -> set[str]:
    """Return the groups of accounts; none when nothing is accounted."""
    with ioctl.opened(driver._layout.state_dir) as descriptor:
        place = Path("/sys/fs/btrfs") / ioctl.uuid(descriptor) / "qgroups"
    return {path.name for path in place.iterdir() if path.is_dir()} if place.exists() else set()


def soon(driver: BtrfsDriver, expected: set[str]) -> bool:
    """Answer whether the groups are these, once the kernel has cleaned up what was deleted."""
    deadline = time.monotonic() + 30
    while groups(driver) != expected and time.monotonic() < deadline:
        btrfsutil.sync(driver._layout.state_dir)
    return groups(driver) == expected


def test_nothing_is_accounted_until_it_is_asked_for(driver: BtrfsDriver) -> None:
    assert isinstance(driver, SupportsQuota)
    driver.clone("next", "web")
    driver.remove("next")
    assert groups(driver) == set()


def test_what_the_image_holds_does_not_count(driver: BtrfsDriver, way: str) -> None:
    web = root(driver, "web")
    driver.limit("web", 20 * MIB)
    write(web / "fits", 15)
    refused(web / "more", 10)
    (web / "base").unlink()
    refused(web / "more", 10)
    (web / "fits").unlink()
    os.sync()
    write(web / "again", 15)


def test_a_limit_can_change(driver: BtrfsDriver, way: str) -> None:
    web = root(driver, "web")
    driver.limit("web", 10 * MIB)
    refused(web / "f", 15)
    driver.limit("web", 30 * MIB)
    write(web / "f", 15)
    driver.limit("web", 20 * MIB)
    refused(web / "g", 10)


def test_a_limit_counts_what_was_written_before(driver: BtrfsDriver, way: str) -> None:
    driver.limit("web", 10 * MIB)  # from now on there are accounts
    driver.prepare("next", "image")
    write(root(driver, "next") / "f", 15)
    driver.limit("next", 20 * MIB)
    refused(root(driver, "next") / "g", 10)


def test_a_clone_has_no_limit(driver: BtrfsDriver, way: str) -> None:
    driver.limit("web", 20 * MIB)
    write(root(driver, "web") / "f", 15)
    driver.clone("next", "web")
    write(root(driver, "next") / "g", 30)
    driver.limit("next", 40 * MIB)
    if way == "simple":
        refused(root(driver, "web") / "g", 10)


def test_a_committed_layer_has_no_limit(driver: BtrfsDriver, way: str) -> None:
    driver.limit("web", 20 * MIB)
    write(root(driver, "web") / "f", 15)
    driver.commit("layer", "web")
    driver.prepare("next", "layer")
    write(root(driver, "next") / "g", 30)


def test_subvolumes_made_inside_are_in_the_limit(driver: BtrfsDriver) -> None:
    web = root(driver, "web")
    driver.limit("web", 20 * MIB)
    btrfsutil.create_subvolume(web / "inside")
    write(web / "inside/f", 15)
    refused(web / "g", 10)
    refused(web / "inside/g", 10)
    driver.clone("next", "web")
    assert (root(driver, "next") / "inside/f").exists()
    driver.limit("next", 20 * MIB)
    refused(root(driver, "next") / "inside/g", 25)


@pytest.mark.parametrize("end", ["remove", "commit"])
def test_a_snapshot_at_its_limit_comes_to_its_end(driver: BtrfsDriver, way: str, end: str) -> None:
    """No accounts and no groups are left, whatever is in it; nor is anything refused because it is full."""
    driver.limit("web", 10**9)
    before = groups(driver)
    driver.prepare("next", "image")
    next_ = root(driver, "next")
    btrfsutil.create_subvolume(next_ / "inside")
    driver.limit("next", 10 * MIB)
    with pytest.raises(OSError, match="quota"):
        write(next_ / "f", 15)
    with pytest.raises(OSError, match="quota"):
        touch(next_, 10**6)  # metadata as well
    if end == "commit":
        driver.commit("layer", "next")
        driver.remove("layer")
    else:
        driver.remove("next")
    assert soon(driver, before)


def test_only_active_snapshots_have_limits(driver: BtrfsDriver) -> None:
    for key in ("image", "unknown"):
        with pytest.raises(NotFound):
            driver.limit(key, MIB)
    assert groups(driver) == set()


def test_older_kernels_account_fully(driver: BtrfsDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    enable = ioctl.enable_quota

    def older(descriptor: int, how: int) -> None:
        if how == ioctl.QUOTA_SIMPLE:
            raise OSError(errno.EINVAL, "Invalid argument")
        enable(descriptor, how)

    monkeypatch.setattr(ioctl, "enable_quota", older)
    driver.limit("web", 10 * MIB)
    refused(root(driver, "web") / "f", 15)
    assert not any(group.startswith("1_") for group in groups(driver))


def test_a_kernel_that_cannot(driver: BtrfsDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(ioctl, "enable_quota", refuse)
    with pytest.raises(Unavailable, match="does not account the space of subvolumes: Operation not permitted"):
        driver.limit("web", MIB)
