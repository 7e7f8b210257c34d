"""Loop devices, on real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plugrun import loop, mounts
from plugrun.api import Mount
from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable

pytestmark = pytest.mark.root

MIB = 1 << 20


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, 16 * MIB)
    return str(path)


@pytest.fixture
def ext4(file):
    subprocess.run(["mkfs.ext4", "-q", file], check=True)
    return file


@pytest.fixture
def places(tmp_path):
    made = [tmp_path / "first", tmp_path / "second"]
    for place in made:
        place.mkdir()
    yield list(map(str, made))
    for place in made:
        mounts.unmount(str(place))


def test_a_device_has_the_file_s_content_and_ends_with_the_block(file):
    with loop.attached(file) as device:
        with open(device, "r+b") as stream:
            stream.write(b"hello")
        assert loop.devices(file) == [device]
    with open(file, "rb") as stream:
        assert stream.read(5) == b"hello"
    assert loop.devices(file) == []


def test_a_file_is_read_and_written_directly_where_that_is_possible(file):
    with loop.attached(file) as device:
        assert Path(f"/sys/block/{os.path.basename(device)}/loop/dio").read_text().strip() == "1"


def test_a_mount_keeps_the_device_and_nothing_else_does(ext4, places):
    mounts.mount_all([Mount("ext4", ext4, ("loop", "noatime"))], places[0])
    assert len(loop.devices(ext4)) == 1
    assert list(mounts.points_of(loop.devices(ext4)[0])) == [places[0]]
    assert mounts.covering(places[0])[0::2] == (places[0], "ext4")
    mounts.unmount(places[0])
    assert loop.devices(ext4) == []


def test_a_file_never_has_two_devices_that_write(ext4, places):
    for place in places:
        mounts.mount_all([Mount("ext4", ext4, ("loop",))], place)
    assert len(loop.devices(ext4)) == 1
    with open(f"{places[0]}/seen", "w"):
        assert os.path.exists(f"{places[1]}/seen")


def test_processes_that_attach_at_once_share_a_device(file):
    script = f"""
import sys
from plugrun import loop
sys.stdin.readline()
with loop.attached({file!r}):
    pass
print("done", loop.devices({file!r}), flush=True)
with loop.attached({file!r}) as device, open(device):
    pass
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    several = [subprocess.Popen([sys.executable, "-c", script], **pipes) for _ in range(4)]
    with loop.attached(file) as device:
        held = os.open(device, os.O_RDONLY)
    try:
        answers = [one.communicate("go\n", timeout=60)[0].strip() for one in several]
        assert answers == [f"done ['{device}']"] * 4
    finally:
        os.close(held)
    assert loop.devices(file) == []


def test_a_device_that_only_reads(file):
    with loop.attached(file, read_only=True) as device:
        assert Path(f"/sys/block/{os.path.basename(device)}/ro").read_text().strip() == "1"
        with pytest.raises(FailedPrecondition, match="for reading only"), loop.attached(file):
            pass


def test_a_device_grows_with_its_file(file):
    with loop.attached(file) as device:
        os.truncate(file, 32 * MIB)
        loop.enlarge(file)
        with open(device, "rb") as stream:
            assert stream.seek(0, os.SEEK_END) == 32 * MIB


def test_a_device_of_a_part_of_the_file_is_refused(file):
    device = subprocess.run(
        ["losetup", "--find", "--show", "--offset", "4096", file], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        with pytest.raises(FailedPrecondition, match=f"attached to {device}, in part"), loop.attached(file):
            pass
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def test_what_is_no_file(tmp_path):
    with pytest.raises(NotFound, match="no such file"), loop.attached(str(tmp_path / "never-was")):
        pass
    with pytest.raises(InvalidArgument, match="directory"), loop.attached(str(tmp_path)):
        pass
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidArgument, match="not a regular file"), loop.attached(str(tmp_path / "pipe")):
        pass


def test_a_machine_without_loop_devices(file, monkeypatch, tmp_path):
    monkeypatch.setattr(loop, "_CONTROL", str(tmp_path / "loop-control"))
    with pytest.raises(Unavailable, match="no loop devices here") as caught, loop.attached(file):
        pass
    assert "modprobe loop" in caught.value.hint


def test_a_mount_that_fails_leaves_no_device(file, places):
    with pytest.raises(Exception, match="cannot mount xfs"):
        mounts.mount_all([Mount("xfs", file, ("loop",))], places[0])
    assert loop.devices(file) == []


def test_a_mount_of_a_file_that_is_gone_undoes_those_before_it(tmp_path, places):
    with pytest.raises(NotFound):
        mounts.mount_all([Mount("tmpfs", "tmpfs"), Mount("ext4", str(tmp_path / "gone"), ("loop",))], places[0])
    assert not mounts.is_mount_point(places[0])
