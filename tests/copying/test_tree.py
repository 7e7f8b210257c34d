"""Trees copied to the last bit, and what happens to them when somebody interferes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import trees
from plugrun.copying import place
from plugrun.copying.policy import Policy
from plugrun.errors import AlreadyExists, FailedPrecondition, InvalidArgument, PlugrunError, Unavailable

pytestmark = pytest.mark.root

OUT = Policy(owner=(0, 0), rights=False, devices=False, existing=False)
NAMES = [b"-rf", b"*", b"a\nb", b"\xff\xfe", b" ", b"...", b"\x1b[2J", b"x" * 255]


def fill(root: Path) -> None:
    """Everything that a file system can hold."""
    (root / "dir/below").mkdir(parents=True)
    (root / "empty").touch()
    (root / "file").write_text("content")
    (root / "large").write_bytes(os.urandom(3 << 20))
    (root / "dir/below/link").symlink_to("../../file")
    (root / "dangling").symlink_to("/no/where")
    os.link(root / "file", root / "dir/same")
    with (root / "sparse").open("wb") as stream:
        stream.seek(64 << 20)
        stream.write(b"end")
        stream.truncate(128 << 20)
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(name)
    os.setxattr(root / "file", "user.note", b"kept")
    os.chown(root / "dir", 1000, 2000)
    os.chmod(root / "large", 0o4751)
    os.chmod(root / "dir", 0o2770)
    for directory, below, files in os.walk(root, topdown=False):
        for name in (*below, *files):
            os.utime(os.path.join(directory, name), ns=(5, 1_000_000_007), follow_symlinks=False)
    os.utime(root, ns=(5, 2_000_000_009))


def test_a_tree_arrives_as_it_was(copy, source, target):
    fill(source)
    copy(source, target)
    assert trees.differences(trees.survey(target), trees.survey(source)) == []
    assert (target / "sparse").stat().st_blocks * 512 < 1 << 20
    assert copy.walk.vanished == []


def test_the_same_under_a_name_and_where_files_cannot_be_nameless(copy, source, target, monkeypatch):
    fill(source)
    monkeypatch.setattr(place.os, "O_TMPFILE", os.O_DIRECTORY)  # what such a file system makes of it: EISDIR
    copy(source, target, b"new")
    assert trees.differences(trees.survey(target / "new"), trees.survey(source)) == []
    assert os.listdir(target) == ["new"]


def test_out_of_a_container_rights_are_left_behind(copy, source, target):
    fill(source)
    (target / "dir").mkdir(mode=0o711)
    copy(source, target, policy=OUT)
    found = trees.survey(target)
    assert {(node.owner, node.group) for node in found.values()} == {(0, 0)}
    assert found[b"large"].mode == "0751"
    assert b"device" not in found
    assert copy.placer.devices == 1
    assert found[b"dir"].mode == "0711"  # it was there: the container has no say


def test_copying_again_replaces_files_and_merges_directories(copy, source, target):
    fill(source)
    (target / "dir").mkdir()
    (target / "dir/kept").touch()
    (target / "file").symlink_to("/etc/passwd")
    (target / "dangling").touch()
    (target / "large").write_text("short")
    held = (target / "large").open()
    copy(source, target)
    copy(source, target)
    (target / "dir/kept").unlink()
    os.utime(target / "dir", ns=(5, 1_000_000_007))
    assert trees.differences(trees.survey(target), trees.survey(source)) == []
    assert held.read() == "short"  # never written through
    held.close()
    assert not Path("/etc/passwd").is_symlink()


@pytest.mark.parametrize(("ours", "theirs"), [("file", "directory"), ("directory", "file"), ("directory", "link")])
def test_a_directory_replaces_nothing_else_and_nothing_replaces_a_directory(copy, source, target, ours, theirs):
    def make(path, kind):
        if kind == "link":
            path.symlink_to(source)
        else:
            path.mkdir() if kind == "directory" else path.touch()

    make(source / "x", ours)
    make(target / "x", theirs)
    before = trees.survey(target)
    with pytest.raises(AlreadyExists):
        copy(source, target, policy=OUT)
    assert trees.survey(target).keys() == before.keys()


def test_a_tree_into_itself_is_refused(copy, source):
    (source / "below").mkdir()
    with pytest.raises(InvalidArgument, match="into itself"):
        copy(source, source / "below", b"copy")
    assert not (source / "below/copy/below/copy/below").exists()


def test_what_vanishes_meanwhile_is_missing_and_said_so(copy, source, target):
    for name in ("a", "b", "c/d"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).touch()

    def meanwhile(item):
        if item.path == b"a":
            (source / "b").unlink()
            (source / "c").rename(source.parent / "elsewhere")

    copy(source, target, meanwhile=meanwhile)
    assert copy.walk.vanished == [b"b", b"c"]
    assert os.listdir(target) == ["a"]


def test_a_directory_that_became_a_link_is_not_followed(copy, source, target, tmp_path):
    (tmp_path / "host").mkdir()
    (tmp_path / "host/secret").write_text("host")
    (source / "z").touch()
    (source / "dir").mkdir()

    def meanwhile(item):
        if item.path == b"z":  # the directory has been listed, and not been opened
            (source / "dir").rmdir()
            (source / "dir").symlink_to(tmp_path / "host")

    copy(source, target, meanwhile=meanwhile)
    assert copy.walk.vanished == [b"dir"]
    assert not (target / "dir").exists()


def test_a_destination_that_became_a_link_is_not_followed(copy, source, target, tmp_path):
    (tmp_path / "host").mkdir()
    (source / "dir").mkdir()
    (source / "dir/file").write_text("content")

    def meanwhile(item):
        if item.path == b"dir":
            (target / "dir").rename(target / "moved")
            (target / "dir").symlink_to(tmp_path / "host")

    with pytest.raises(FailedPrecondition, match="moved or replaced"):
        copy(source, target, meanwhile=meanwhile)
    assert os.listdir(tmp_path / "host") == []


def test_a_file_that_became_a_device_is_not_opened(copy, source, target, monkeypatch):
    """The descriptor that is read is the very inode that was looked at."""
    (source / "file").write_text("content")
    real = os.fstat

    def swapped(fd):
        status = real(fd)
        if stat.S_ISREG(status.st_mode) and (source / "file").exists():
            (source / "file").unlink()
            os.mkfifo(source / "file")
        return status

    monkeypatch.setattr(os, "fstat", swapped)
    copy(source, target)
    monkeypatch.undo()
    assert (target / "file").read_text() == "content"


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_a_file_that_grows_ends_where_it_ended(copy, source, target, size):
    (source / "log").write_bytes(b"x" * size)
    more = iter([b"x" * size] * 3)

    def grow(count):
        with (source / "log").open("ab") as stream:
            stream.write(next(more, b""))

    copy._count = grow
    copy(source, target)
    assert (target / "log").stat().st_size == size


def test_sockets_are_left_out(copy, source, target):
    os.mknod(source / "socket", 0o600 | stat.S_IFSOCK)
    copy(source, target)
    assert copy.walk.sockets == 1
    assert os.listdir(target) == []


def test_a_tree_as_deep_as_a_path_may_be(copy, source, target):
    deep = b"/".join([b"d" * 9] * 400)
    os.makedirs(os.path.join(os.fsencode(source), deep[:2000]))
    copy(source, target)
    assert os.path.isdir(os.path.join(os.fsencode(target), deep[:2000]))


def test_deeper_is_one_clear_error(copy, source, target):
    fd = os.open(source, os.O_PATH)
    for _ in range(50):
        os.mkdir("d" * 100, dir_fd=fd)
        below = os.open("d" * 100, os.O_PATH, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(InvalidArgument, match="File name too long"):
        copy(source, target)
    subprocess.run(["rm", "-rf", source], check=True)


# --- full disks, and ends that nobody expected ---------------------------------------------------------------------


@pytest.mark.parametrize("nameless", [True, False])
def test_a_full_disk_leaves_no_half_of_a_file(copy, source, tmp_path, file_system, monkeypatch, nameless):
    if not nameless:
        monkeypatch.setattr(place.os, "O_TMPFILE", os.O_DIRECTORY)
    small = file_system("ext4", tmp_path / "small", size=16 << 20)
    (source / "a").write_bytes(b"a" * 1000)
    (source / "b").write_bytes(os.urandom(32 << 20))
    with pytest.raises(Unavailable, match='no space left for "b"'):
        copy(source, small)
    assert sorted(set(os.listdir(small)) - {"lost+found"}) == ["a"]
    assert (small / "a").stat().st_size == 1000


def test_a_read_only_destination(copy, source, tmp_path, file_system):
    (source / "a").touch()
    readonly = file_system("ext4", tmp_path / "ro", size=16 << 20)
    subprocess.run(["mount", "-o", "remount,ro", readonly], check=True)
    with pytest.raises(FailedPrecondition, match="read-only"):
        copy(source, readonly)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from copying.conftest import Copying
class Dies(Copying):
    def _count(self, count):
        os.kill(os.getpid(), signal.SIGKILL)
Dies()(sys.argv[1], sys.argv[2])
"""


def test_a_kill_leaves_no_half_of_a_file(source, target):
    (source / "big").write_bytes(b"x" * (40 << 20))
    tests = str(Path(__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", KILLED, source, target, tests], check=False)
    assert done.returncode == -signal.SIGKILL
    assert os.listdir(target) == []


# --- mounts below the destination ------------------------------------------------------------------------------------


def test_a_file_that_something_is_mounted_on_is_written_through(copy, source, target, tmp_path):
    (source / "hosts").write_text("new")
    (tmp_path / "mounted").write_text("old and longer")
    (target / "hosts").touch()
    subprocess.run(["mount", "--bind", tmp_path / "mounted", target / "hosts"], check=True)
    try:
        copy(source, target)
    finally:
        subprocess.run(["umount", target / "hosts"], check=True)
    assert (tmp_path / "mounted").read_text() == "new"
    assert os.listdir(target) == ["hosts"]


def test_the_kernels_file_systems_are_neither_read_nor_written(copy, source, target):
    for root in (source, target):
        (root / "proc").mkdir()
        subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
    try:
        copy(source, target, policy=OUT)
        subprocess.run(["umount", source / "proc"], check=True)
        (source / "proc/file").touch()
        with pytest.raises(FailedPrecondition, match="kernel's"):
            copy(source, target, policy=OUT)
    finally:
        subprocess.run(["umount", target / "proc"], check=True)
    assert os.listdir(target / "proc") == []


def test_errors_escape_names(copy, source, target):
    (source / "\x1b]0;x\x07").mkdir()
    (target / "\x1b]0;x\x07").touch()
    with pytest.raises(PlugrunError) as refused:
        copy(source, target)
    assert "\x1b" not in str(refused.value)
    assert "\\x1b" in str(refused.value)
