from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import btrfsutil
from plugrun.api import (
    DriverError,
    InvalidArgument,
    Mount,
    NotFound,
    SnapshotKind,
    StorageDriver,
    SupportsClone,
    SupportsGC,
    SupportsLayerDir,
    Unavailable,
)
from plugrun.testing import mounted
from plugrun_storage_btrfs import driver as driver_module
from plugrun_storage_btrfs import subvolumes
from plugrun_storage_btrfs.driver import BtrfsDriver
from plugrun_storage_btrfs.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fixtures.storage import FileSystem

pytestmark = pytest.mark.root


@pytest.fixture
def state(tmp_path: Path, file_system: FileSystem) -> Path:
    state = file_system("btrfs", tmp_path / "btrfs") / "state"
    state.mkdir(mode=0o700)
    return state


@pytest.fixture
def driver(state: Path) -> BtrfsDriver:
    driver = BtrfsDriver(state)
    driver.prepare("filling", None)
    (root(driver, "filling") / "f").write_text("text")
    driver.commit("image", "filling")
    driver.prepare("web", "image")
    return driver


def root(driver: BtrfsDriver, key: str) -> Path:
    return Path(driver.mounts(key)[0].source)


def left(state: Path) -> list[str]:
    """Return all that is in the state directory, but for what snapshots show."""
    places = ["active", "view", "committed", "sending"]
    assert sorted(os.listdir(state)) == sorted([*places, "lock"])
    return sorted(str(path.relative_to(state)) for place in places for path in (state / place).iterdir())


# --- What is mounted ------------------------------------------------------------------------------------------


def test_supports(driver: BtrfsDriver) -> None:
    for protocol in (StorageDriver, SupportsClone, SupportsGC):
        assert isinstance(driver, protocol)
    assert not isinstance(driver, SupportsLayerDir)


def test_mounts_are_bind_mounts_of_subvolumes(driver: BtrfsDriver, state: Path) -> None:
    assert driver.mounts("web") == [Mount("bind", f"{state}/active/web/fs", ("rw",))]
    assert driver.view("look", "image") == [Mount("bind", f"{state}/committed/image/fs", ("ro",))]
    assert driver.view("nothing", None) == [Mount("bind", f"{state}/view/nothing/fs", ("ro",))]


def test_a_committed_layer_cannot_be_written(driver: BtrfsDriver, state: Path) -> None:
    with pytest.raises(OSError, match="Read-only"):
        (state / "committed/image/fs/f").write_text("changed")


def test_layers_share_their_extents(driver: BtrfsDriver) -> None:
    (root(driver, "web") / "large").write_bytes(os.urandom(2**20))
    driver.commit("top", "web")
    for number in range(5):
        driver.prepare(f"web{number}", "top")
        assert driver.usage(f"web{number}").size == 0
    assert driver.usage("top").size == 2**20


def test_a_container_sees_one_file_system(driver: BtrfsDriver) -> None:
    """So renaming and linking never answer EXDEV."""
    with mounted(driver.mounts("web")) as point:
        (point / "d").mkdir()
        assert {path.stat().st_dev for path in point.rglob("*")} == {point.stat().st_dev}
        (point / "d/twin").hardlink_to(point / "f")


# --- Names and modes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["../x", "a/b", "/etc", "", ".", ".."])
def test_keys_are_one_path_component(driver: BtrfsDriver, key: str) -> None:
    for use in (driver.stat, driver.remove, driver.usage, driver.mounts, driver.changes):
        with pytest.raises(InvalidArgument):
            use(key)
    for make in (driver.prepare, driver.view):
        with pytest.raises(InvalidArgument):
            make(key, None)
        with pytest.raises(InvalidArgument):
            make("new", key)
    for copy in (driver.commit, driver.clone):
        with pytest.raises(InvalidArgument):
            copy(key, "web")
    assert {info.name for info in driver.walk()} == {"image", "web"}


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(driver: BtrfsDriver, state: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        driver.prepare("new", None)
    finally:
        os.umask(old)
    assert oct((state / "active/new/fs").stat().st_mode & 0o7777) == "0o755"
    for place in ("active", "active/new", "committed", "sending", "lock"):
        assert (state / place).stat().st_mode & 0o077 == 0, place


# --- Clones ---------------------------------------------------------------------------------------------------


def test_a_clone_stands_on_the_same_parent(driver: BtrfsDriver) -> None:
    (root(driver, "web") / "own").write_text("own")
    driver.clone("next", "web")
    assert driver.stat("next") == ("next", SnapshotKind.ACTIVE, "image")
    (root(driver, "next") / "own").write_text("changed")
    assert (root(driver, "web") / "own").read_text() == "own"
    driver.remove("web")
    assert (root(driver, "next") / "own").read_text() == "changed"
    driver.prepare("empty", None)
    driver.clone("empty2", "empty")
    assert driver.stat("empty2").parent is None


def test_only_active_snapshots_are_cloned(driver: BtrfsDriver) -> None:
    driver.view("look", "image")
    for source in ("image", "look", "unknown"):
        with pytest.raises(NotFound, match=source):
            driver.clone("next", source)


# --- Subvolumes that containers make ---------------------------------------------------------------------------


def make_nested(place: Path) -> None:
    """Make what keeps a subvolume from being deleted: others in it, read-only ones, and one in such a one."""
    for name in ("a", "a/b", "d"):
        btrfsutil.create_subvolume(place / name)
    (place / "a/b/file").write_text("text")
    btrfsutil.create_snapshot(place / "a", place / "d/copy", read_only=True)
    for name in ("a/b", "a"):
        btrfsutil.set_subvolume_read_only(place / name, read_only=True)


def test_nested_subvolumes_are_copied_and_removed_along(driver: BtrfsDriver, state: Path) -> None:
    make_nested(root(driver, "web"))
    driver.clone("next", "web")
    assert (root(driver, "next") / "a/b/file").read_text() == "text"
    driver.commit("layer", "web")
    driver.prepare("child", "layer")
    assert (root(driver, "child") / "a/b/file").read_text() == "text"
    for key in ("next", "child", "layer"):
        driver.remove(key)
    assert left(state) == ["committed/image"]
    assert len(subvolumes.nested(str(state.parent))) == 1


def test_the_default_subvolume_is_removed(driver: BtrfsDriver, state: Path) -> None:
    """Which a privileged container can make its own, or one inside of it."""
    for inside in (False, True):
        driver.prepare("next", "image")
        place = root(driver, "next")
        if inside:
            btrfsutil.create_subvolume(place := place / "inside")
        btrfsutil.set_default_subvolume(place)
        driver.remove("next")
        assert btrfsutil.get_default_subvolume(state) == 5


def test_what_cannot_be_deleted_is_named_and_tried_again(driver: BtrfsDriver, state: Path) -> None:
    swap = root(driver, "web") / "swap"
    swap.touch()
    subprocess.run(["chattr", "+C", str(swap)], check=True)
    swap.write_bytes(bytes(2**20))
    swap.chmod(0o600)
    subprocess.run(["mkswap", "-q", str(swap)], check=True)
    subprocess.run(["swapon", str(swap)], check=True)
    try:
        with pytest.raises(DriverError, match="active/web/fs") as refused:
            driver.remove("web")
    finally:
        subprocess.run(["swapoff", str(swap)], check=True)
    assert "swapon --show" in str(refused.value.hint)
    driver.remove("web")
    assert left(state) == ["committed/image"]


# --- Crashes --------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """Ends an action where a kill would: nothing catches it to tidy up, when tidying is off."""


def crashing(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Raise before the ``step``-th call that changes the file system, and do nothing more after that."""
    calls = itertools.count(1)

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(calls) >= step:
                raise Crash
            return function(*args, **kwargs)

        return call

    for module, names in (
        (btrfsutil, ("create_subvolume", "create_snapshot", "delete_subvolume", "set_subvolume_read_only")),
        (os, ("mkdir", "symlink", "rename", "rmdir", "unlink", "chmod")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, wrapped(getattr(module, name)))


ACTIONS: dict[str, Callable[[BtrfsDriver], object]] = {
    "prepare": lambda driver: driver.prepare("new", "image"),
    "empty": lambda driver: driver.prepare("new", None),
    "view": lambda driver: driver.view("new", "image"),
    "clone": lambda driver: driver.clone("new", "web"),
    "commit": lambda driver: driver.commit("new", "web"),
    "remove": lambda driver: driver.remove("web"),
    "changes": lambda driver: list(driver.changes("web")),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("mend", ["gc", "again"])
def test_ended_before_each_step(driver: BtrfsDriver, state: Path, action: str, mend: str) -> None:
    """What is left is a whole snapshot or none; clean-up takes the rest, and so does trying again."""
    make_nested(root(driver, "web"))
    for step in itertools.count(1):
        with pytest.MonkeyPatch.context() as patch:
            crashing(patch, step)
            ended = True
            with contextlib.suppress(Crash):
                ACTIONS[action](driver)
                ended = False
        after = BtrfsDriver(state)
        known = {info.name: info.kind.value for info in after.walk()}
        assert set(known) <= {"image", "web", "new"}
        if mend == "gc":
            after.gc(frozenset(known))
            assert left(state) == sorted(f"{kind}/{name}" for name, kind in known.items())
            assert btrfsutil.get_subvolume_read_only(state / "committed/image/fs")
        for key in ("new", "web"):
            with contextlib.suppress(NotFound):
                after.remove(key)
        assert left(state) == ["committed/image"]
        assert len(subvolumes.nested(str(state.parent))) == 1
        after.prepare("web", "image")
        make_nested(root(after, "web"))
        if not ended:
            assert step > 1
            return


def test_a_commit_that_a_crash_cut_short_is_finished(driver: BtrfsDriver, state: Path) -> None:
    btrfsutil.set_subvolume_read_only(state / "committed/image/fs", read_only=False)
    assert list(driver.changes("web")) == []  # what the kernel compares must be read-only
    assert btrfsutil.get_subvolume_read_only(state / "committed/image/fs")


def test_a_commit_that_fails_leaves_the_key(driver: BtrfsDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(subvolumes, "freeze", refuse)
    with pytest.raises(Unavailable, match="No space left"):
        driver.commit("layer", "web")
    assert {info.name for info in driver.walk()} == {"image", "web"}


# --- A power cut ----------------------------------------------------------------------------------------------


class Disk:
    """A file with a btrfs that commits nothing by itself for 1000 seconds."""

    def __init__(self, place: Path) -> None:
        self.image, self.point = place / "disk", place / "point"
        with self.image.open("wb") as stream:
            stream.truncate(256 * 2**20)
        subprocess.run(["mkfs.btrfs", "-q", str(self.image)], check=True, stdout=subprocess.DEVNULL)
        self.point.mkdir()
        self.mount()

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop,commit=1000", str(self.image), str(self.point)], check=True)

    def cut(self) -> None:
        """Go on with what is in the file now; two of one id cannot be mounted at once."""
        copy = self.image.with_name("copy")
        subprocess.run(["cp", "--sparse=always", str(self.image), str(copy)], check=True)
        self.close()
        copy.rename(self.image)
        self.mount()

    def close(self) -> None:
        subprocess.run(["umount", str(self.point)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path)
    yield disk
    disk.close()


def content(state: Path, place: str) -> bytes | None:
    try:
        return (state / place / "fs/own").read_bytes()
    except FileNotFoundError:
        return None


@pytest.mark.parametrize(
    ("action", "without"),
    [
        ("commit", ""),
        ("commit", "sync_data"),
        ("commit", "freeze"),
        ("clone", ""),
        ("clone", "commit_transaction"),
        ("remove", ""),
        ("remove", "finish_deletion"),
    ],
)
def test_power_cut(disk: Disk, monkeypatch: pytest.MonkeyPatch, action: str, without: str) -> None:
    """Nothing is lost and nothing comes back, unless one of the guards is missing; so this test would notice."""
    state = disk.point / "state"
    state.mkdir(mode=0o700)
    driver = BtrfsDriver(state)
    driver.prepare("web", None)
    os.sync()
    if without:
        monkeypatch.setattr(subvolumes if without == "freeze" else driver_module, without, lambda _: None)
    (root(driver, "web") / "own").write_bytes(b"x" * 100_000)
    ACTIONS[action](driver)
    disk.cut()
    found = {place: content(state, place) for place in ("active/web", "active/new", "committed/new")}
    intact = {
        "commit": found["committed/new"] == b"x" * 100_000 and BtrfsDriver(state).stat("new").parent is None,
        "clone": found["active/new"] == b"x" * 100_000,
        "remove": not (state / "active/web").exists(),
    }[action]
    assert intact == (not without)


# --- What is no btrfs ------------------------------------------------------------------------------------------


def test_read_only(driver: BtrfsDriver, state: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(state.parent)], check=True)
    for use in (
        lambda: driver.prepare("new", "image"),
        lambda: driver.clone("new", "web"),
        lambda: driver.remove("web"),
        lambda: driver.gc(frozenset()),
    ):
        with pytest.raises(Unavailable, match="Read-only file system") as refused:
            use()
        assert "dmesg" in str(refused.value.hint)
    assert {info.name for info in driver.walk()} == {"image", "web"}


def test_state_directory_on_another_file_system(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="Inappropriate ioctl"):
        BtrfsDriver(tmp_path).prepare("web", None)
    assert list((tmp_path / "active").iterdir()) == []


def test_a_key_s_leftover_is_no_snapshot(driver: BtrfsDriver, state: Path) -> None:
    (state / "active/half").mkdir()
    assert Layout(str(state)).place("half") is None
    driver.remove("half")  # found in part
    with pytest.raises(NotFound):
        driver.remove("half")
