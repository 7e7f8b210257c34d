from __future__ import annotations

import fcntl
import os
import resource
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import trees
from plugrun.api import Mount, NotFound, SupportsClone, Unavailable
from plugrun.testing import mounted
from plugrun_storage_overlay import clone as clone_module
from plugrun_storage_overlay.clone import copy_tree
from plugrun_storage_overlay.driver import OverlayDriver

if TYPE_CHECKING:
    from fixtures.disk import Disk
    from fixtures.storage import FileSystem

LEVELS = 3000  # beyond PATH_MAX, Python's recursion limit, and the descriptors that the test leaves


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    return state


@pytest.fixture
def driver(state: Path) -> OverlayDriver:
    driver = OverlayDriver(state)
    base = driver.layer_dir("key")
    for name in ("lower", "gone", "both"):
        (base / name).write_text(name)
    (base / "replaced").mkdir()
    (base / "replaced" / "hidden").write_text("")
    os.link(base / "lower", base / "lower2")
    driver.commit_layer("base", "key", None)
    return driver


def written(root: Path) -> None:
    """Do what a container may do."""
    (root / "gone").unlink()
    with (root / "lower").open("a") as stream:
        stream.write("more")
    (root / "replaced" / "hidden").unlink()
    (root / "replaced").rmdir()
    (root / "replaced").mkdir(mode=0o1777)
    file = root / "replaced" / "file"
    file.write_bytes(b"x" * 100_000)
    os.setxattr(file, "user.mine", b"\0\xff")
    os.chown(file, 7, 8)
    file.chmod(0o6755)
    os.setxattr(file, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.utime(file, ns=(123_456_789, 987_654_321))
    for name in ("one", "two", "three"):
        os.link(file, root / name)
    with (root / "sparse").open("wb") as stream:
        stream.write(b"begin")
        stream.seek(10 << 20)
        stream.write(b"middle")
        stream.truncate(20 << 20)
    (root / "link").symlink_to("/etc/passwd\nnew line")
    os.chown(root / "link", 5, 6, follow_symlinks=False)
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "zero", 0o20666, os.makedev(1, 5))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    (root / os.fsdecode(b"\xff\xfe")).write_text("no text")
    (root / "acl").write_text("")
    acl = "0200000001000600ffffffff020007000100000004000400ffffffff10000700ffffffff20000400ffffffff"
    os.setxattr(root / "acl", "system.posix_acl_access", bytes.fromhex(acl))
    os.utime(root / "replaced", ns=(1, 2))
    root.chmod(0o711)
    os.utime(root, ns=(3, 4))


def upper(state: Path, key: str) -> Path:
    return state / "active" / key / "fs"


@pytest.mark.root
def test_the_copy_is_the_same_to_the_last_bit(driver: OverlayDriver, state: Path) -> None:
    assert isinstance(driver, SupportsClone)
    with mounted(driver.prepare("web", "base")) as root:
        written(root)
    driver.clone("copy", "web")
    before, after = trees.survey(upper(state, "web")), trees.survey(upper(state, "copy"))
    before[b"."].xattrs.pop(b"trusted.overlay.uuid", None)  # by which kernels since 6.6 tell the two apart
    assert after == before
    assert before[b"gone"].kind == "character device"  # whiteouts are among it
    assert before[b"replaced"].xattrs[b"trusted.overlay.opaque"] == b"y"
    assert before[b"acl"].xattrs[b"system.posix_acl_access"]
    assert (upper(state, "copy") / "sparse").stat().st_blocks < 1000
    assert [info.parent for info in driver.walk() if info.name == "copy"] == ["base"]
    assert sorted(os.listdir(state / "active" / "copy")) == ["fs", "parent", "work"]
    assert not os.listdir(state / "staging")
    with mounted(driver.mounts("web")) as one, mounted(driver.mounts("copy")) as other:
        assert trees.survey(one) == trees.survey(other)


@pytest.mark.root
def test_one_is_written_and_removed_without_the_other(driver: OverlayDriver) -> None:
    with mounted(driver.prepare("web", "base")) as root:
        written(root)
        driver.clone("copy", "web")  # while it is mounted
    with mounted(driver.mounts("copy")) as root:
        (root / "one").write_text("new")
        assert (root / "two").read_text() == "new"  # the same file still
    with mounted(driver.mounts("web")) as root:
        assert (root / "one").read_bytes() == b"x" * 100_000
    driver.remove("web")
    with mounted(driver.mounts("copy")) as root:
        assert (root / "one").read_text() == "new"
        assert (root / "both").read_text() == "both"


def test_an_active_snapshot_without_a_parent_has_a_copy(driver: OverlayDriver, state: Path) -> None:
    driver.prepare("web", None)
    (upper(state, "web") / "file").write_text("x")
    driver.clone("copy", "web")
    assert driver.mounts("copy") == [Mount("bind", str(upper(state, "copy")), ("rw",))]
    assert (upper(state, "copy") / "file").read_text() == "x"


def test_only_what_is_active_has_a_copy(driver: OverlayDriver, state: Path) -> None:
    driver.view("seen", "base")
    for source in ("base", "seen", "nothing"):
        with pytest.raises(NotFound):
            driver.clone("copy", source)
    assert not os.listdir(state / "staging")


def test_how_deep_a_tree_is_does_not_matter(tmp_path: Path) -> None:
    for name in ("source", "target", "links"):
        (tmp_path / name).mkdir()
    at = os.open(tmp_path / "source", os.O_RDONLY)
    for _ in range(LEVELS):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("end", os.O_CREAT, dir_fd=at))
    os.close(at)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        copy_tree(*(str(tmp_path / name) for name in ("source", "target", "links")))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    at = os.open(tmp_path / "target", os.O_RDONLY)
    for _ in range(LEVELS):
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    assert os.listdir(at) == ["end"]
    os.close(at)
    # deeper than shutil.rmtree gets
    os.system(f"rm -rf {tmp_path}/source {tmp_path}/target")


def test_files_with_as_many_names_as_can_be_keep_them(driver: OverlayDriver, state: Path) -> None:
    """The way through which the names find their file is no name too many (ext4 has at most 65,000)."""
    driver.prepare("web", None)
    for number in range(50):
        (upper(state, "web") / "first").touch()
        os.link(upper(state, "web") / "first", upper(state, "web") / f"{number}")
    most = 0
    link = os.link

    def count(source: str, name: str, **where: int) -> None:
        nonlocal most
        link(source, name, **where)  # type: ignore[arg-type]
        most = max(most, os.stat(name, dir_fd=where["dst_dir_fd"]).st_nlink)

    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(clone_module.os, "link", count)
        driver.clone("copy", "web")
    assert most == 51
    assert (upper(state, "copy") / "first").stat().st_nlink == 51


@pytest.mark.root
def test_where_files_can_share_their_data_they_do(tmp_path: Path, file_system: FileSystem) -> None:
    disk = file_system("btrfs", tmp_path / "disk", size=256 << 20)
    (disk / "source").mkdir()
    (disk / "source" / "large").write_bytes(os.urandom(1 << 20) * 64)
    os.mkfifo(disk / "source" / "fifo")
    for number in range(4):
        (disk / f"{number}").mkdir()
        (disk / "links").mkdir(exist_ok=True)
        copy_tree(str(disk / "source"), str(disk / f"{number}"), str(disk / "links"))
        assert (disk / f"{number}" / "large").read_bytes() == (disk / "source" / "large").read_bytes()


@pytest.mark.parametrize("refused", ["ioctl", "copy_file_range"])
def test_where_they_cannot_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    def refuse(*_: object) -> int:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    if refused == "copy_file_range":
        monkeypatch.setattr(os, "copy_file_range", refuse)
    for name in ("source", "target", "links"):
        (tmp_path / name).mkdir()
    content = os.urandom(300_000)
    (tmp_path / "source" / "file").write_bytes(content)
    with (tmp_path / "source" / "hole").open("wb") as stream:
        stream.truncate(1 << 20)
        stream.seek(1 << 19)
        stream.write(content)
    copy_tree(*(str(tmp_path / name) for name in ("source", "target", "links")))
    for name in ("file", "hole"):
        assert (tmp_path / "target" / name).read_bytes() == (tmp_path / "source" / name).read_bytes()
    assert (tmp_path / "target" / "hole").stat().st_blocks <= (tmp_path / "source" / "hole").stat().st_blocks


@pytest.mark.root
def test_a_full_disk_is_one_clear_error_and_leaves_nothing(disk: Disk) -> None:
    state = disk.mount(disk.image, "full") / "state"
    state.mkdir()
    driver = OverlayDriver(state)
    driver.prepare("web", None)
    (upper(state, "web") / "large").write_bytes(
        b"x" * (os.statvfs(state).f_bavail * os.statvfs(state).f_frsize * 2 // 3)
    )
    with pytest.raises(Unavailable, match="No space left on device"):
        driver.clone("copy", "web")
    assert not os.listdir(state / "staging")
    assert [info.name for info in driver.walk()] == ["web"]
    driver.remove("web")


def test_a_clean_up_leaves_alone_what_is_being_copied_and_takes_what_a_kill_left(
    driver: OverlayDriver, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.prepare("web", "base")
    (state / "staging" / "dead@0123").mkdir()
    reached, go_on = threading.Event(), threading.Event()
    copy = clone_module.copy_tree

    def held(*arguments: str) -> None:
        reached.set()
        assert go_on.wait(30)
        copy(*arguments)

    monkeypatch.setattr(clone_module, "copy_tree", held)
    thread = threading.Thread(target=driver.clone, args=("copy", "web"))
    thread.start()
    assert reached.wait(30)
    OverlayDriver(state).gc(frozenset({"web", "base"}))
    assert [entry.partition("@")[0] for entry in os.listdir(state / "staging")] == ["copy"]
    go_on.set()
    thread.join()
    assert driver.stat("copy").parent == "base"
