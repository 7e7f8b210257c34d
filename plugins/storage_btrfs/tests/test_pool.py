from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from plugrun.api import DriverError, PoolSpec, Unavailable
from plugrun_storage_btrfs import plugrun_storage_drivers
from plugrun_storage_btrfs.driver import BtrfsDriver

pytestmark = pytest.mark.root

MIB = 2**20


@pytest.fixture
def pool() -> PoolSpec:
    (spec,) = plugrun_storage_drivers()
    assert spec.pool is not None
    return spec.pool


def file(path: Path, size: int) -> Path:
    with path.open("ab") as stream:
        stream.truncate(size)
    return path


def test_the_smallest_pool_works_and_grows(tmp_path: Path, pool: PoolSpec) -> None:
    image = file(tmp_path / "pool", pool.smallest)
    pool.make(image)
    point = tmp_path / "point"
    point.mkdir()
    loop = subprocess.run(["losetup", "-f", "--show", str(image)], check=True, capture_output=True, text=True)
    device = loop.stdout.strip()
    try:
        subprocess.run(["mount", "-t", pool.type, "-o", ",".join(pool.options), device, str(point)], check=True)
        try:
            driver = BtrfsDriver(point)
            driver.prepare("web", None)
            Path(driver.mounts("web")[0].source, "f").write_bytes(os.urandom(64 * MIB))
            file(image, 2 * pool.smallest)
            subprocess.run(["losetup", "-c", device], check=True)
            pool.grow(point)
            info = os.statvfs(point)
            assert info.f_blocks * info.f_bsize == 2 * pool.smallest
        finally:
            subprocess.run(["umount", str(point)], check=True)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def test_mkfs_says_what_is_wrong(tmp_path: Path, pool: PoolSpec) -> None:
    with pytest.raises(DriverError, match=r"cannot make a btrfs in .*small: .*too small"):
        pool.make(file(tmp_path / "small", MIB))


def test_mkfs_is_needed(tmp_path: Path, pool: PoolSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"mkfs.btrfs is not installed") as refused:
        pool.make(file(tmp_path / "pool", pool.smallest))
    assert "btrfs-progs" in str(refused.value.hint)


def test_only_a_btrfs_grows(tmp_path: Path, pool: PoolSpec) -> None:
    with pytest.raises(DriverError, match="cannot grow the btrfs at"):
        pool.grow(tmp_path)
