"""The module that mounts, on real file systems."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess

import pytest

from plugrun import linux, mounts, namespaces
from plugrun.api import Mount
from plugrun.errors import DriverError

pytestmark = pytest.mark.root


@pytest.fixture
def target(tmp_path):
    place = tmp_path / "target"
    place.mkdir()
    yield str(place)
    mounts.unmount(str(place))


def test_a_bind_mount_takes_its_flags(tmp_path, target):
    (tmp_path / "source").mkdir()
    mounts.mount_all([Mount("bind", str(tmp_path / "source"), ("rbind", "ro", "nodev"))], target)
    assert mounts.is_mount_point(target)
    with pytest.raises(OSError, match="Read-only"):
        (tmp_path / "target" / "x").write_text("")


def test_unmount_takes_everything_and_twice_is_fine(tmp_path, target):
    (tmp_path / "source").mkdir()
    mounts.mount_all([Mount("tmpfs", "tmpfs"), Mount("bind", str(tmp_path / "source"))], target)
    mounts.unmount(target)
    assert not mounts.is_mount_point(target)
    mounts.unmount(target)
    mounts.unmount(target + "-never-was")


def test_unmount_succeeds_while_somebody_looks_inside(target):
    mounts.mount_all([Mount("tmpfs", "tmpfs")], target)
    inside = os.open(target, os.O_RDONLY)
    try:
        mounts.unmount(target)
        assert not mounts.is_mount_point(target)
    finally:
        os.close(inside)


def test_a_refused_mount_names_the_place_and_leaves_nothing(target):
    with pytest.raises(DriverError, match=f"cannot mount overlay file system at {target}"):
        mounts.mount_all([Mount("tmpfs", "tmpfs"), Mount("overlay", "overlay", ("lowerdir=/nonexistent",))], target)
    assert not mounts.is_mount_point(target)


@pytest.mark.parametrize("refused", ["MS_REMOUNT", "MS_PRIVATE"])
def test_a_bind_mount_whose_flags_are_refused_does_not_stay(tmp_path, target, monkeypatch, refused):
    (tmp_path / "source").mkdir()
    real = linux.mount

    def mount(source, where, fstype, flags, data):
        if flags & getattr(linux, refused):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        real(source, where, fstype, flags, data)

    monkeypatch.setattr(linux, "mount", mount)
    with pytest.raises(DriverError, match="Operation not permitted"):
        mounts.mount_all([Mount("tmpfs", "tmpfs"), Mount("bind", str(tmp_path / "source"), ("ro",))], target)
    assert not mounts.is_mount_point(target)


def test_what_is_mounted_spreads_to_no_other_namespace(tmp_path, target):
    """Below a shared mount, as systemd makes ``/``, a new one is shared too unless it is told not to be."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", target], check=True)
    subprocess.run(["mount", "--make-shared", target], check=True)
    for name in ("ours", "control", "source"):
        (tmp_path / "target" / name).mkdir()
    subprocess.run(["mount", "--bind", f"{target}/source", f"{target}/control"], check=True)
    mounts.mount_all([Mount("bind", f"{target}/source", ("rbind",))], f"{target}/ours")
    try:
        assert propagation(f"{target}/control").startswith("shared")
        assert propagation(f"{target}/ours") == "private"
    finally:
        for name in ("ours", "control"):
            mounts.unmount(f"{target}/{name}")


def propagation(point):
    listed = ["findmnt", "--noheadings", "--output", "PROPAGATION", "--mountpoint", point]
    return subprocess.run(listed, capture_output=True, text=True, check=True).stdout.strip()


def test_an_overlay_that_the_kernel_makes_read_only_does_not_stay(tmp_path, target, file_system):
    """It does where there is no room for its work directory, and says so in its log alone."""
    disk = file_system("ext4", tmp_path / "disk", size=2**23)
    for name in ("lower", "upper", "work"):
        (disk / name).mkdir()
    overlay = Mount("overlay", "overlay", [f"{name}dir={disk / name}" for name in ("lower", "upper", "work")])
    with contextlib.suppress(OSError), open(disk / "ballast", "wb", buffering=0) as ballast:
        while ballast.write(bytes(1024)):
            pass
    with pytest.raises(DriverError, match=r"cannot mount overlay file system at .*: No space left on device"):
        mounts.mount_all([overlay], target)
    assert not mounts.is_mount_point(target)
    (disk / "ballast").unlink()
    mounts.mount_all([overlay], target)


def test_more_lower_directories_than_fit_in_a_page(tmp_path, target):
    lowers = []
    for number in range(128):
        lower = tmp_path / f"{'x' * 60}{number}"
        lower.mkdir()
        (lower / f"file{number}").write_text(str(number))
        lowers.append(str(lower))
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    options = (f"lowerdir={':'.join(lowers)}", f"upperdir={tmp_path}/upper", f"workdir={tmp_path}/work")
    assert len(",".join(options)) > 2 * mounts.PAGE
    before = len(os.listdir("/proc/self/fd"))
    mounts.mount_all([Mount("overlay", "overlay", options)], target)
    assert len(os.listdir(target)) == 128
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_namespace_is_new_pinned_and_has_loopback_up(tmp_path):
    pin = tmp_path / "ns"
    mine = os.stat("/proc/self/ns/net").st_ino
    namespaces.create(pin)
    try:
        assert os.stat(pin).st_ino != mine
        assert os.stat("/proc/thread-self/ns/net").st_ino == mine  # the engine itself did not move
        inside = ["nsenter", f"--net={pin}", "ip", "-o", "link"]
        links = subprocess.run(inside, capture_output=True, text=True, check=True).stdout
        assert [line.split()[1] for line in links.splitlines()] == ["lo:"]
        assert "LOOPBACK,UP" in links
    finally:
        namespaces.delete(pin)
    assert not pin.exists()
    namespaces.delete(pin)
