from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugrun.api import (
    DriverError,
    InvalidArgument,
    Mount,
    NotFound,
    SnapshotKind,
    StorageDriver,
    SupportsGC,
    SupportsLayerDir,
    Unavailable,
)
from plugrun.testing import mounted
from plugrun_storage_overlay import driver as driver_module
from plugrun_storage_overlay.driver import OverlayDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fixtures.disk import Disk

OFF = ("index=off", "metacopy=off", "redirect_dir=nofollow")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    return state


@pytest.fixture
def driver(state: Path) -> OverlayDriver:
    return OverlayDriver(state)


def layers(driver: OverlayDriver, *names: str) -> None:
    parent = None
    for name in names:
        (driver.layer_dir("key") / name).write_text(name)
        driver.commit_layer(name, "key", parent)
        parent = name


# --- What is told of a snapshot ------------------------------------------------------------------------------


def test_no_parent_is_told_of_what_another_process_commits_meanwhile(
    driver: OverlayDriver, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers(driver, "base")
    driver.prepare("web", "base")
    look = driver._layout.parent

    def parent(place: str, key: str) -> str | None:
        OverlayDriver(state).commit("layer", "web")
        return look(place, key)

    monkeypatch.setattr(driver._layout, "parent", parent)
    with pytest.raises(NotFound):  # not that it stands on nothing
        driver.stat("web")
    assert OverlayDriver(state).stat("layer").parent == "base"


def test_what_another_process_removes_meanwhile_has_no_mounts(
    driver: OverlayDriver, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers(driver, "base")
    driver.prepare("web", "base")
    look = driver._layout.ancestors

    def ancestors(place: str, key: str) -> list[str]:
        found = look(place, key)
        OverlayDriver(state).remove("web")
        return found

    monkeypatch.setattr(driver._layout, "ancestors", ancestors)
    with pytest.raises(NotFound):
        driver.mounts("web")


# --- What is mounted ------------------------------------------------------------------------------------------


def test_supports(driver: OverlayDriver) -> None:
    for protocol in (StorageDriver, SupportsLayerDir, SupportsGC):
        assert isinstance(driver, protocol)


def test_mounts_are_as_small_as_they_can_be(driver: OverlayDriver, state: Path) -> None:
    layers(driver, "base", "top")
    lower = f"lowerdir={state}/committed/top/fs:{state}/committed/base/fs"
    assert driver.prepare("empty", None) == [Mount("bind", f"{state}/active/empty/fs", ("rw",))]
    assert driver.view("nothing", None) == [Mount("bind", f"{state}/view/nothing/fs", ("ro",))]
    assert driver.view("one", "base") == [Mount("bind", f"{state}/committed/base/fs", ("ro",))]
    assert driver.view("two", "top") == [Mount("overlay", "overlay", (lower, "ro", *OFF))]
    own = (f"upperdir={state}/active/web/fs", f"workdir={state}/active/web/work")
    assert driver.prepare("web", "top") == [Mount("overlay", "overlay", (lower, *own, *OFF))]


@pytest.mark.root
@pytest.mark.parametrize("attribute", ["redirect", "metacopy"])
def test_layer_cannot_steer_the_kernel(driver: OverlayDriver, attribute: str) -> None:
    """An attribute that got into a layer shows content from where it points, unless the options forbid it."""
    base = driver.layer_dir("base-key")
    (base / "secret").mkdir()
    (base / "secret/f").write_text("secret")
    driver.commit_layer("base", "base-key", None)
    top = driver.layer_dir("top-key")
    if attribute == "redirect":
        (top / "innocent").mkdir()
        os.setxattr(top / "innocent", "trusted.overlay.redirect", b"/secret")
        looked_at = "innocent/f"
    else:
        looked_at = "innocent"
        (top / looked_at).write_text("")
        os.truncate(top / looked_at, 6)
        os.setxattr(top / looked_at, "trusted.overlay.metacopy", b"")
        os.setxattr(top / looked_at, "trusted.overlay.redirect", b"/secret/f")
    driver.commit_layer("top", "top-key", "base")
    (mount,) = driver.prepare("web", "top")
    assert content(mount, looked_at) != "secret"
    options = [option for option in mount.options if option not in OFF]
    permissive = Mount(mount.type, mount.source, (*options, "redirect_dir=on", "metacopy=on"))
    assert content(permissive, looked_at) == "secret", "positive control"


def content(mount: Mount, name: str) -> str:
    with mounted([mount]) as root:
        try:
            return (root / name).read_text()
        except OSError as error:
            return str(error)


# --- Names and modes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", [":", ",", "\\"])
def test_path_that_mount_options_cannot_carry(tmp_path: Path, character: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot keep layers in"):
        OverlayDriver(tmp_path / f"a{character}b")


@pytest.mark.parametrize("key", ["../x", "a/b", "/etc", "", ".", ".."])
def test_keys_are_one_path_component(driver: OverlayDriver, key: str) -> None:
    driver.prepare("web", None)
    for use in (driver.stat, driver.remove, driver.usage, driver.mounts, driver.layer_dir):
        with pytest.raises(InvalidArgument):
            use(key)
    for use in (driver.prepare, driver.view):
        with pytest.raises(InvalidArgument):
            use(key, None)
        with pytest.raises(InvalidArgument):
            use("new", key)
    with pytest.raises(InvalidArgument):
        driver.commit(key, "web")
    assert [info.name for info in driver.walk()] == ["web"]


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    if umask == 0o777 and os.geteuid() != 0:
        pytest.skip("only root gets into directories without permissions")
    (tmp_path / "state").mkdir(mode=0o700)
    old = os.umask(umask)
    try:
        driver = OverlayDriver(tmp_path / "state")
        driver.prepare("web", None)
    finally:
        os.umask(old)
    assert oct((tmp_path / "state/active/web/fs").stat().st_mode & 0o7777) == "0o755"
    for place in ("active", "active/web", "active/web/work", "committed", "trash"):
        assert (tmp_path / "state" / place).stat().st_mode & 0o077 == 0, place


# --- Removing -------------------------------------------------------------------------------------------------


def test_remove_and_usage_follow_no_link(driver: OverlayDriver, state: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "large").write_bytes(b"x" * 2**20)
    driver.prepare("web", None)
    root = state / "active/web/fs"
    (root / "directory").mkdir()
    for link in (root / "link", root / "directory/link"):
        link.symlink_to(canary)
    (root / "file").symlink_to(canary / "large")
    assert driver.usage("web").size < 2**18
    driver.remove("web")
    assert (canary / "large").stat().st_size == 2**20
    assert list((state / "trash").iterdir()) == []


@pytest.mark.root
def test_what_cannot_be_deleted_is_named_and_tried_again(driver: OverlayDriver, state: Path) -> None:
    driver.prepare("web", None)
    stubborn = state / "active/web/fs/d/stubborn"
    stubborn.parent.mkdir()
    stubborn.write_text("x")
    subprocess.run(["chattr", "+i", str(stubborn)], check=True)
    with pytest.raises(DriverError, match="stubborn") as refused:
        driver.remove("web")
    assert "lsattr" in str(refused.value.hint)
    assert list(driver.walk()) == []
    driver.prepare("web", None)  # the key is free all the same
    (left,) = state.glob("trash/*/stubborn")
    subprocess.run(["chattr", "-i", str(left)], check=True)
    driver.remove("web")
    assert list((state / "trash").iterdir()) == []


def test_gc_collects_what_crashes_leave(driver: OverlayDriver, state: Path) -> None:
    layers(driver, "base")
    driver.prepare("web", "base")
    driver.layer_dir("being-unpacked")
    for left in ("staging/web@1", "trash/web@2", "trash/web@2.0", "committed/base/work", "layers/old"):
        (state / left / "d").mkdir(parents=True)
    driver.gc(frozenset({"base", "web", "being-unpacked"}))
    assert sorted(str(path.relative_to(state)) for path in state.rglob("*")) == [
        "active",
        "active/web",
        "active/web/fs",
        "active/web/parent",
        "active/web/work",
        "committed",
        "committed/base",
        "committed/base/fs",
        "committed/base/fs/base",
        "layers",
        "layers/being-unpacked",
        "layers/being-unpacked/fs",
        "lock",
        "staging",
        "trash",
        "view",
    ]


def test_commit_leaves_no_work_directory(driver: OverlayDriver, state: Path) -> None:
    driver.prepare("web", None)
    driver.commit("image", "web")
    assert [path.name for path in (state / "committed/image").iterdir()] == ["fs"]
    assert list((state / "trash").iterdir()) == []


# --- A full disk and a power cut ------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A state directory on a file system of 48 inodes."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=48,mode=0700", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.root
def test_full_disk_is_one_clear_error_and_removing_works(small: Path) -> None:
    driver = OverlayDriver(small)
    with pytest.raises(Unavailable, match="No space left") as refused:
        fill(driver)
    assert "df" in str(refused.value.hint)
    made = [info.name for info in driver.walk()]
    assert 0 < len(made) < 48
    for key in made:
        driver.remove(key)
    driver.gc(frozenset())
    driver.prepare("web", None)


def fill(driver: OverlayDriver) -> None:
    for number in range(48):
        driver.prepare(f"web{number}", None)


def make_durable(driver: OverlayDriver, how: str) -> None:
    if how == "commit_layer":
        (driver.layer_dir("key") / "f").write_bytes(b"x" * 100_000)
        driver.commit_layer("base", "empty-key", None)
        driver.commit_layer("image", "key", "base")
    else:
        (mount,) = driver.prepare("key", None)
        Path(mount.source, "f").write_bytes(b"x" * 100_000)
        driver.commit("image", "key")


@pytest.mark.root
@pytest.mark.parametrize("how", ["commit", "commit_layer"])
@pytest.mark.parametrize("without", ["", "sync_file_system", "sync_directory"])
def test_committed_layer_survives_a_power_cut(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, how: str, without: str
) -> None:
    """And does not when one of the guards is missing, so this test would notice."""
    state = disk.mount(disk.image, "before") / "state"
    state.mkdir(mode=0o700)
    driver = OverlayDriver(state)
    driver.layer_dir("empty-key")
    os.sync()
    if without:
        monkeypatch.setattr(driver_module, without, lambda _: None)
    make_durable(driver, how)
    after = OverlayDriver(disk.after_power_cut() / "state")
    known = {info.name: (info.kind, info.parent) for info in after.walk()}
    file = Path(after._layout.path("committed", "image", "fs"), "f")
    intact = (
        known.get("image") == (SnapshotKind.COMMITTED, "base" if how == "commit_layer" else None)
        and file.exists()
        and file.read_bytes() == b"x" * 100_000
    )
    assert intact == (not without)


@pytest.mark.parametrize("how", ["commit", "commit_layer"])
def test_commit_syncs_each_name_before_and_after_it_moves(
    driver: OverlayDriver, state: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The power cut above cannot tell: ext4 writes its whole journal whichever directory is synced."""
    driver.layer_dir("empty-key")
    done: list[tuple[str, ...]] = []

    def noting(name: str, function: Callable[..., None]) -> Callable[..., None]:
        def call(*paths: str) -> None:
            done.append((name, *(os.path.relpath(path, state) for path in paths)))
            function(*paths)

        return call

    monkeypatch.setattr(driver_module, "sync_file_system", noting("data", driver_module.sync_file_system))
    monkeypatch.setattr(driver_module, "sync_directory", noting("names", driver_module.sync_directory))
    monkeypatch.setattr(os, "rename", noting("move", os.rename))
    make_durable(driver, how)
    place, linked = ("layers", [("names", "layers/key")]) if how == "commit_layer" else ("active", [])
    moved = done.index(("move", f"{place}/key", "committed/image"))
    expected = [("data", "committed"), *linked, done[moved], ("names", "committed"), ("names", place)]
    assert done[moved - len(linked) - 1 : moved + 3] == expected
