"""Copy-up: what arrives, whom it hurts when the image or a neighbour is hostile, and what a crash leaves."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from plugrun.errors import Unavailable
from plugrun.lifecycle import copy_up
from plugrun.rootfd import RootDir
from plugrun.tree_copy import copy_tree
from trees import differences, survey

pytestmark = pytest.mark.root

CHANGES = {
    "os.mkdir", "os.rename", "os.link", "os.symlink", "os.rmdir", "os.remove", "os.chown", "os.chmod", "os.utime",
    "os.setxattr", "os.truncate", "os.mknod",
}  # fmt: skip


@pytest.fixture
def image(tmp_path):
    """A root file system with one of everything at ``/data``."""
    data = tmp_path / "image" / "data"
    (data / "deep" / "er").mkdir(parents=True)
    (data / "file").write_bytes(b"content" * 1000)
    (data / "program").write_text("setuid\n")
    (data / b"\xff\n.txt".decode(errors="surrogateescape")).touch()
    os.chown(data / "program", 1000, 1001)
    (data / "program").chmod(0o6755)
    os.setxattr(data / "file", "user.note", b"\0x")
    os.link(data / "file", data / "deep" / "er" / "same")
    os.symlink("/etc/passwd", data / "link")
    os.mkfifo(data / "fifo", 0o640)
    os.mknod(data / "null", 0o20666, os.makedev(1, 3))
    os.mknod(data / "socket", 0o600 | stat.S_IFSOCK)
    with (data / "sparse").open("wb") as stream:
        stream.seek(10 << 20)
        stream.write(b"end")
        stream.truncate(20 << 20)
    for place in ("deep/er", "deep", "."):
        os.utime(data / place, ns=(1, 12345 * 10**9 + 6))
    data.chmod(0o2750)
    os.chown(data, 33, 44)
    return tmp_path / "image"


@pytest.fixture
def volume(tmp_path):
    place = tmp_path / "volume"
    place.mkdir()
    return place


def fill(image, volume, destination="/data"):
    with RootDir.at(volume) as target, RootDir.at(image) as source:
        copy_up.finish(target)
        copy_up.fill(target, source, destination, "volume data")


def test_everything_arrives(image, volume):
    fill(image, volume)
    assert differences(survey(volume), survey(image / "data")) == []
    assert (volume / "sparse").stat().st_blocks < 100


def test_a_volume_with_anything_in_it_is_left_alone(image, volume):
    (volume / ".hidden").touch()
    before = survey(volume)
    fill(image, volume)
    assert survey(volume) == before


@pytest.mark.parametrize("destination", ["/nosuch", "/data/file", "/data/link", "/data/fifo"])
def test_where_the_image_has_no_directory_nothing_is_done(image, volume, destination):
    before = survey(volume)
    fill(image, volume, destination)
    assert survey(volume) == before


@pytest.mark.parametrize("target", ["/canary", "../../canary", "/data/../../../canary"])
def test_a_link_in_the_image_does_not_lead_to_the_host(image, volume, tmp_path, target):
    (tmp_path / "canary").mkdir()
    (tmp_path / "canary" / "secret").touch()
    os.symlink(str(tmp_path) + target if target == "/canary" else target, image / "v")
    fill(image, volume, "/v")
    assert os.listdir(volume) == []
    (image / "canary").mkdir()
    (image / "canary" / "mine").touch()
    os.unlink(image / "v")
    os.symlink(target, image / "v")
    fill(image, volume, "/v")
    assert os.listdir(volume) == ["mine"]  # the control: links are followed, inside


@pytest.mark.parametrize("name", [copy_up.PARTIAL, copy_up.WHOLE])
def test_a_neighbour_who_puts_a_link_where_the_copy_is_made(image, volume, tmp_path, name):
    (tmp_path / "canary").mkdir()
    (tmp_path / "canary" / "secret").touch()
    os.symlink(tmp_path / "canary", volume / name)
    before = survey(tmp_path / "canary")
    fill(image, volume)
    assert survey(tmp_path / "canary") == before


def test_an_image_with_the_names_of_half_a_copy(image, volume):
    for name in (copy_up.PARTIAL, copy_up.WHOLE):
        (image / "data" / name).mkdir()
        (image / "data" / name / "x").touch()
    fill(image, volume)
    assert (volume / "file").exists()
    assert not {"x", copy_up.PARTIAL, copy_up.WHOLE} & set(os.listdir(volume))


def test_a_full_disk_leaves_nothing(image, tmp_path, file_system):
    (image / "data" / "large").write_bytes(os.urandom(3 << 20))
    volume = file_system("ext4", tmp_path / "small", size=2 << 20)
    (volume / "lost+found").rmdir()
    with pytest.raises(Unavailable, match="volume data cannot take what the image has at /data: No space left"):
        fill(image, volume)
    assert os.listdir(volume) == []


def test_a_tree_deeper_than_a_process_has_descriptors(tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    place = tmp_path / "from"
    for _ in range(400):
        place = place / "d"
        place.mkdir()
    source, target = os.open(tmp_path / "from", os.O_RDONLY), os.open(tmp_path / "to", os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    copy_tree(source, target)
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(source)
    os.close(target)
    assert survey(tmp_path / "to").keys() == survey(tmp_path / "from").keys()


def killed_at(number, act):
    """Do something in a process that dies just before its ``number``-th change to files; say whether it died."""
    child = os.fork()
    if child == 0:
        left = [number]

        def count(event, arguments):
            if event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT):
                left[0] -= 1
                if left[0] == 0:
                    os._exit(9)

        try:
            sys.addaudithook(count)
            act()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, 9}
    return code == 9


def test_a_crash_at_any_step(image, tmp_path):
    """Whatever is left, the next one to mount the volume makes it whole; never is half of it taken for all."""
    wanted = survey(image / "data")
    died = 0
    while True:
        volume = tmp_path / f"volume-{died}"
        volume.mkdir()
        if not killed_at(died + 1, lambda volume=volume: fill(image, volume)):
            break
        died += 1
        fill(image, volume)
        wrong = [one for one in differences(survey(volume), wanted) if (one.name, one.fact) != (b".", "mtime")]
        assert wrong == [], f"killed at change {died}"
    assert died > 40


def test_a_crash_does_not_cost_what_others_have_written_since(image, volume):
    for number in (5, 20):
        assert killed_at(number, lambda: fill(image, volume))
        (volume / "mine").write_text("kept\n")
        fill(image, volume)
        assert (volume / "mine").read_text() == "kept\n"
        assert os.listdir(volume) == ["mine"]
        (volume / "mine").unlink()


def test_what_others_have_written_since_stays_when_a_whole_copy_is_moved_up(image, volume):
    fill(image, volume)
    aside = volume / copy_up.WHOLE
    aside.mkdir()
    (aside / "file").write_text("old\n")
    (aside / "new").write_text("new\n")
    (volume / "file").write_text("kept\n")
    fill(image, volume)
    assert ((volume / "file").read_text(), (volume / "new").read_text()) == ("kept\n", "new\n")
    assert not aside.exists()


def test_only_a_directory_counts_as_half_a_copy(image, volume):
    Path(volume / copy_up.WHOLE).write_text("mine\n")
    fill(image, volume)
    assert (volume / copy_up.WHOLE).read_text() == "mine\n"
