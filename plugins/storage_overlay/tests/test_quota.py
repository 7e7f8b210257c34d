"""Project quotas, on an xfs that has them; the kernel needs CONFIG_XFS_QUOTA."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from pathlib import Path

import pytest

from plugrun.api import DriverError, NotFound, Unavailable
from plugrun.testing import mounted
from plugrun.testing.storage_quota import crowd
from plugrun_storage_overlay import pool, project, quota
from plugrun_storage_overlay.driver import OverlayDriver

pytestmark = pytest.mark.root

MIB = 1 << 20
_NESTED = 300  # deeper than descriptors may be spent


@pytest.fixture
def state(file_system, tmp_path) -> Path:
    try:
        mount = file_system("xfs", tmp_path / "xfs", size=500 * MIB, options="prjquota")
    except subprocess.CalledProcessError:
        pytest.skip("the xfs of this kernel has no quotas")
    state = mount / "state"
    state.mkdir(mode=0o700)
    return state


@pytest.fixture
def driver(state):
    return OverlayDriver(state)


def upper(state: Path, key: str) -> Path:
    return state / "active" / key / "fs"


def fill(path: Path, mebibytes: int) -> bool:
    """Write so much; answer whether there was room."""
    try:
        with path.open("wb") as stream:
            for _ in range(mebibytes):
                stream.write(bytes(MIB))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        return False
    return True


def project_of(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return project._get(descriptor)[3]
    finally:
        os.close(descriptor)


def project_of_link(path: Path) -> int | None:
    """Return the project of what cannot be opened; ``None`` before Linux 6.17."""
    buffer = ctypes.create_string_buffer(project._EXTENDED.size)
    arguments = (os.fsencode(path), buffer, ctypes.c_size_t(len(buffer)), project._AT_SYMLINK_NOFOLLOW)
    if project._libc.syscall(project._FILE_GETATTR, -100, *arguments) != 0:
        return None
    return project._EXTENDED.unpack(buffer.raw)[3]


def limit_of(state: Path, key: str) -> int:
    """Return how much the file system lets a snapshot occupy: it answers statfs(2) for the project."""
    found = os.statvfs(upper(state, key))
    return found.f_blocks * found.f_frsize


def test_each_snapshot_has_a_project_of_its_own_while_it_exists(driver, state):
    for key in ("one", "two", "three"):
        driver.prepare(key, None)
        driver.limit(key, 10 * MIB)
    ids = [project.of(str(upper(state, key))) for key in ("one", "two", "three")]
    assert len(set(ids)) == 3
    assert 0 not in ids
    assert project.of(str(state / "active" / "one" / "work")) == ids[0]
    driver.remove("two")
    driver.prepare("four", None)
    driver.limit("four", 10 * MIB)
    assert project.of(str(upper(state, "four"))) not in {ids[0], ids[2]}


def test_a_limit_binds_one_snapshot_and_can_be_changed(driver, state):
    for key in ("one", "two"):
        driver.prepare(key, None)
    driver.limit("one", 10 * MIB)
    assert not fill(upper(state, "one") / "big", 20)
    assert fill(upper(state, "two") / "big", 20)
    driver.limit("one", 30 * MIB)
    assert fill(upper(state, "one") / "big", 20)
    driver.remove("one")
    assert os.listdir(state / "trash") == []


def test_what_is_in_a_snapshot_already_counts(driver, state):
    driver.prepare("one", None)
    root = upper(state, "one")
    (root / "sub").mkdir()
    (root / "sub" / "file").write_bytes(bytes(8 * MIB))
    (root / "link").symlink_to("sub")
    os.mkfifo(root / "pipe")
    directory = os.open(root, os.O_RDONLY)
    for _ in range(_NESTED):
        os.mkdir("deep", dir_fd=directory)
        below = os.open("deep", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    driver.limit("one", 10 * MIB)
    own = project.of(str(root))
    assert project._get(directory)[3] == own
    os.close(directory)
    assert project_of(root / "sub" / "file") == own
    assert not fill(root / "more", 5)
    moved = contextlib.nullcontext() if project_of_link(root / "link") == own else pytest.raises(OSError, match="cross")
    with moved:  # fails where a link made before the limit stays outside of the project, as the README says
        (root / "link").rename(root / "sub" / "link")


@pytest.fixture
def full(driver, state) -> Path:
    """The root of ``web``, a snapshot on an image, with so much in it that its 10 MiB take not one empty file more."""
    (driver.layer_dir("key") / "of-image").touch()
    driver.commit_layer("image", "key", None)
    with mounted(driver.prepare("web", "image")) as root:
        driver.limit("web", 10 * MIB)
        assert not fill(root / "big", 20)
        crowd(root)
    return upper(state, "web")


def test_a_full_snapshot_can_be_mounted_and_emptied(driver, full, state):
    for _ in range(3):
        with mounted(driver.mounts("web")) as root:
            driver.limit("web", 10 * MIB)  # as the engine does
            assert limit_of(state, "web") == 10 * MIB
            with pytest.raises(OSError, match="No space left"):
                (root / "more").mkdir()
    with mounted(driver.mounts("web")) as root:
        driver.limit("web", 10 * MIB)
        (root / "big").unlink()
        assert fill(root / "new", 5)


def test_what_holds_more_than_its_limit_can_be_mounted_too(driver, full, state):
    driver.limit("web", MIB)
    with mounted(driver.mounts("web")) as root:
        assert not os.statvfs(root).f_flag & os.ST_RDONLY
        driver.limit("web", MIB)
        assert not fill(root / "more", 1)


def test_without_room_overlay_mounts_a_full_snapshot_read_only(driver, full, monkeypatch):
    """The control of the one before: what room is made for is still so."""
    monkeypatch.setattr(quota, "make_room", lambda *_: None)
    with mounted(driver.mounts("web")) as root:
        assert os.statvfs(root).f_flag & os.ST_RDONLY


def test_room_is_made_for_what_is_full_alone(driver, full, state):
    room = quota._ROOM
    driver.mounts("web")
    assert 10 * MIB < limit_of(state, "web") <= 10 * MIB + room
    driver.mounts("web")
    assert limit_of(state, "web") <= 10 * MIB + room  # not once more for each time it is asked
    driver.limit("web", 100 * MIB)
    driver.mounts("web")
    assert limit_of(state, "web") == 100 * MIB


def test_the_limit_of_an_administrator_is_left_alone(driver, state):
    """A state directory in a project of somebody else's: limits would be theirs, and leaving it is not ours."""
    project.assign(str(state), 42)
    directory = os.open(state, os.O_RDONLY)
    try:
        quota.Quotas(directory, "").limit(42, 2 * MIB)
        (driver.layer_dir("key") / "of-image").touch()
        driver.commit_layer("image", "key", None)
        driver.prepare("web", "image")
        assert project.of(str(upper(state, "web"))) == 42
        driver.mounts("web")
        assert limit_of(state, "web") == 2 * MIB
        with pytest.raises(Unavailable, match="in project 42 of its xfs already") as caught:
            driver.limit("web", 10 * MIB)
        assert caught.value.hint
        assert limit_of(state, "web") == 2 * MIB
    finally:
        os.close(directory)


def test_what_is_no_active_snapshot_cannot_be_limited(driver):
    with pytest.raises(NotFound):
        driver.limit("never", MIB)


@pytest.mark.parametrize(("kind", "words"), [("xfs", "quotas"), ("ext4", "is not on xfs")])
def test_a_file_system_without_project_quotas_is_named(file_system, tmp_path, kind, words):
    state = file_system(kind, tmp_path / "at", size=500 * MIB)
    driver = OverlayDriver(state)
    driver.prepare("one", None)
    with pytest.raises(Unavailable, match=words) as caught:
        driver.limit("one", MIB)
    assert caught.value.hint


def test_a_pool_is_made_and_grown(file_system, tmp_path):
    file = tmp_path / "pool"
    file.touch()
    os.truncate(file, 400 * MIB)
    pool.make(file)
    with pytest.raises(DriverError, match=r"mkfs\.xfs failed"):
        pool.make(file)  # never over a file system that is there
    place = tmp_path / "at"
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", str(file), str(place)], check=True)
    try:
        before = os.statvfs(place).f_blocks
        os.truncate(file, 800 * MIB)
        device = subprocess.run(["losetup", "-j", str(file)], check=True, capture_output=True, text=True).stdout
        subprocess.run(["losetup", "-c", device.partition(":")[0]], check=True)
        pool.grow(place)
        assert os.statvfs(place).f_blocks > 1.9 * before
        pool.grow(place)  # twice is fine
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_missing_program_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(pool, "_PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"mkfs\.xfs") as caught:
        pool.make(tmp_path / "file")
    assert "xfsprogs" in caught.value.hint
