"""That every difference is covered, and nothing is looked at that did not change."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import struct
import subprocess
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import btrfsutil
from plugrun.api import Changed, DriverError, NotFound, SupportsChanges, Unavailable
from plugrun.testing.trees import Tree, describe
from plugrun_storage_btrfs import ioctl, items, stream
from plugrun_storage_btrfs.driver import BtrfsDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    from fixtures.storage import FileSystem

# --- With real subvolumes -------------------------------------------------------------------------------------


@pytest.fixture
def driver(tmp_path: Path, file_system: FileSystem) -> BtrfsDriver:
    state = file_system("btrfs", tmp_path / "btrfs") / "state"
    state.mkdir(mode=0o700)
    return BtrfsDriver(state)


def image(driver: BtrfsDriver, fill: Callable[[Path], object]) -> Path:
    """Make an image, and a container of it; return the container's root."""
    driver.prepare("filling", None)
    fill(root(driver, "filling"))
    driver.commit("image", "filling")
    driver.prepare("web", "image")
    return root(driver, "web")


def root(driver: BtrfsDriver, key: str) -> Path:
    return Path(driver.mounts(key)[0].source)


def found(driver: BtrfsDriver) -> set[Changed]:
    os.sync()
    return set(driver.changes("web"))


def tree(path: Path) -> Tree:
    """Describe a tree by path, with the times of everything; which names belong together is told by their content."""
    return {name: (*facts[:5], (path / name).lstat().st_mtime_ns) for name, facts in describe(path, times=True).items()}


def covered(name: str, changes: set[Changed]) -> bool:
    path = b"" if name == "." else os.fsencode(name)
    above = [b"", *itertools.accumulate(path.split(b"/"), lambda one, two: one + b"/" + two)]
    return Changed(path) in changes or any(Changed(place, whole=True) in changes for place in above)


def uncovered(driver: BtrfsDriver) -> set[str]:
    """Return what differs and is not told."""
    driver.view("before", "image")
    before, after = tree(root(driver, "before")), tree(root(driver, "web"))
    driver.remove("before")
    changes = found(driver)
    differing = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    gone = {name for name in before if name not in after}
    return {
        name
        for name in differing
        if not covered(name, changes) and not (os.path.dirname(name) in gone and name in gone)
    }


@pytest.mark.root
def test_ten_files_of_many(driver: BtrfsDriver) -> None:
    assert isinstance(driver, SupportsChanges)

    def fill(root: Path) -> None:
        for number in range(200):
            (root / f"d{number}").mkdir()
            (root / f"d{number}/f").write_text("text")

    web = image(driver, fill)
    assert found(driver) == set()
    for number in range(10):
        (web / f"d{number}/f").write_text("changed")
    assert found(driver) == {Changed(b"d%d/f" % number) for number in range(10)}
    assert list((root(driver, "web").parents[2] / "sending").iterdir()) == []


def write_large(root: Path) -> None:
    with (root / "large").open("r+b") as stream:
        stream.seek(2**20)
        stream.write(b"x")


def swap(root: Path) -> None:
    (root / "d").rename(root / "passing")
    (root / "e").rename(root / "d")
    (root / "passing").rename(root / "e")


def move_and_replace(root: Path) -> None:
    (root / "d").rename(root / "moved")
    (root / "d").mkdir()
    (root / "d/other").write_text("new")


CASES: dict[str, tuple[Callable[[Path], object], set[Changed]]] = {
    "content": (lambda root: (root / "d/one").write_text("more"), {Changed(b"d/one")}),
    "content in the middle": (write_large, {Changed(b"large")}),
    "shorter": (lambda root: os.truncate(root / "large", 5), {Changed(b"large")}),
    "mode": (lambda root: (root / "d/one").chmod(0o600), {Changed(b"d/one")}),
    "owner": (lambda root: os.chown(root / "d", 5, 6), {Changed(b"d")}),
    "time": (lambda root: os.utime(root / "d/one", (1, 1)), {Changed(b"d/one")}),
    "attribute": (lambda root: os.setxattr(root / "d", "user.note", b"x"), {Changed(b"d")}),
    "attribute gone": (lambda root: os.removexattr(root / "large", "user.note"), {Changed(b"large")}),
    "root directory": (lambda root: root.chmod(0o700), {Changed(b"")}),
    "new file": (lambda root: (root / "d/new").write_text("x"), {Changed(b"d"), Changed(b"d/new")}),
    "new link": (lambda root: (root / "d/new").symlink_to("x"), {Changed(b"d"), Changed(b"d/new")}),
    "new device": (lambda root: os.mknod(root / "d/new", 0o20600, 5), {Changed(b"d"), Changed(b"d/new")}),
    "removed file": (lambda root: (root / "d/one").unlink(), {Changed(b"d"), Changed(b"d/one")}),
    "new directory": (
        lambda root: (root / "new/sub").mkdir(parents=True),
        {Changed(b""), Changed(b"new"), Changed(b"new/sub")},
    ),
    "moved file": (
        lambda root: (root / "d/one").rename(root / "e/one"),
        {Changed(b"d"), Changed(b"e"), Changed(b"d/one"), Changed(b"e/one")},
    ),
    "moved directory": (
        lambda root: (root / "d").rename(root / "e/d"),
        {Changed(b""), Changed(b"e"), Changed(b"e/d"), Changed(b"d", whole=True), Changed(b"e/d", whole=True)},
    ),
    "content of two names": (
        lambda root: (root / "twin").write_text("more"),
        {Changed(b"twin"), Changed(b"e/twin")},
    ),
    "a third name": (
        lambda root: (root / "d/twin").hardlink_to(root / "twin"),
        {Changed(b"d"), Changed(b"twin"), Changed(b"e/twin"), Changed(b"d/twin")},
    ),
}


def start(root: Path) -> None:
    for name in ("d", "e", "d/below"):
        (root / name).mkdir()
    for name in ("d/one", "d/below/two", "e/three", "twin"):
        (root / name).write_text("text")
    (root / "e/twin").hardlink_to(root / "twin")
    (root / "large").write_bytes(os.urandom(2**21))
    os.setxattr(root / "large", "user.note", b"x")


@pytest.mark.root
def test_each_kind_of_change(driver: BtrfsDriver) -> None:
    image(driver, start)
    for name, (act, expected) in CASES.items():
        driver.remove("web")
        driver.prepare("web", "image")
        act(root(driver, "web"))
        assert found(driver) == expected, name
        assert uncovered(driver) == set(), name


@pytest.mark.root
def test_directories_that_change_places(driver: BtrfsDriver) -> None:
    image(driver, start)
    for act in (swap, move_and_replace):
        driver.remove("web")
        driver.prepare("web", "image")
        act(root(driver, "web"))
        assert uncovered(driver) == set(), act


@pytest.mark.root
def test_the_other_name_of_a_changed_file_in_a_moved_directory(driver: BtrfsDriver) -> None:
    web = image(driver, start)
    (web / "twin").write_text("more")
    (web / "e").rename(web / "z")
    assert uncovered(driver) == set()


@pytest.mark.root
def test_more_names_than_the_kernel_tells(driver: BtrfsDriver) -> None:
    def fill(root: Path) -> None:
        (root / "f").write_text("text")
        for number in range(100):
            (root / f"{number}{'x' * 200}").hardlink_to(root / "f")

    web = image(driver, fill)
    assert found(driver) == set()
    (web / "f").write_text("more")
    assert Changed(b"", whole=True) in found(driver)


class Chaos:
    """A container that does anything, the same every time for one seed."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.seed = root, seed
        self.random, self.names = random.Random(seed), itertools.count()

    def act(self, times: int) -> None:
        for _ in range(times):
            self.random.choice(
                [self.write, self.write, self.mkdir, self.rename, self.rename, self.link, self.remove, self.touch]
            )()

    def some(self, *, directory: bool | None = None) -> Path | None:
        paths = sorted(self.root.rglob("*"))
        return self.random.choice([one for one in paths if directory in {None, one.is_dir()}] or [None])

    def place(self) -> Path:
        """Return a name that is free, sometimes one that was there before."""
        parent = self.some(directory=True) if self.random.random() < 0.8 else None
        place = (parent or self.root) / f"n{self.random.randrange(12)}"
        return (parent or self.root) / f"x{self.seed}-{next(self.names)}" if os.path.lexists(place) else place

    def write(self) -> None:
        path = self.some(directory=False) if self.random.random() < 0.3 else None
        (path or self.place()).write_bytes(self.random.randbytes(self.random.choice([0, 10, 9000])))

    def mkdir(self) -> None:
        self.place().mkdir()

    def rename(self) -> None:
        path, target = self.some(), self.place()
        if path is not None and path != target and path not in target.parents:
            path.rename(target)

    def link(self) -> None:
        if (path := self.some(directory=False)) is not None:
            self.place().hardlink_to(path)

    def remove(self) -> None:
        if (path := self.some()) is not None:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def touch(self) -> None:
        if (path := self.some()) is not None:
            self.random.choice(
                [
                    lambda: path.chmod(self.random.choice([0o700, 0o755, 0o711])),
                    lambda: os.chown(path, self.random.randrange(5), 0),
                    lambda: os.setxattr(path, "user.note", self.random.randbytes(4)),
                    lambda: os.utime(path, (5, self.random.randrange(99))),
                ]
            )()


@pytest.mark.root
@pytest.mark.parametrize("seed", range(12))
def test_whatever_a_container_does(driver: BtrfsDriver, seed: int) -> None:
    web = image(driver, lambda root: Chaos(root, seed).act(60))
    chaos = Chaos(web, 1000 + seed)
    for _ in range(6):
        chaos.act(8)
        assert uncovered(driver) == set()


@pytest.mark.root
def test_subvolumes_inside(driver: BtrfsDriver) -> None:
    web = image(driver, lambda root: btrfsutil.create_subvolume(root / "old"))
    (web / "dir").mkdir()
    btrfsutil.create_subvolume(web / "dir/new")
    assert {Changed(b"old", whole=True), Changed(b"dir/new", whole=True)} <= found(driver)


@pytest.mark.root
def test_without_a_parent_everything_is_new(driver: BtrfsDriver) -> None:
    driver.prepare("web", None)
    assert list(driver.changes("web")) == [Changed(b"", whole=True)]


@pytest.mark.root
def test_only_active_snapshots_have_changes(driver: BtrfsDriver) -> None:
    image(driver, start)
    driver.view("look", "image")
    for key in ("image", "look", "unknown"):
        with pytest.raises(NotFound):
            driver.changes(key)


@pytest.mark.root
def test_stopping_early_leaves_nothing(driver: BtrfsDriver) -> None:
    web = image(driver, start)
    for number in range(5000):  # more than a pipe holds
        (web / f"new{number}").write_text("x")
    os.sync()
    descriptors = len(os.listdir("/proc/self/fd"))
    changes = driver.changes("web")
    assert next(iter(changes))
    driver.gc(frozenset())  # spares what is in use
    assert next(iter(changes))
    changes.close()  # type: ignore[attr-defined]
    assert list((web.parents[2] / "sending").iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.root
def test_the_kernel_s_reason_is_told(driver: BtrfsDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    image(driver, start)

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ioctl, "send", refuse)
    with pytest.raises(Unavailable, match="Input/output error"):
        list(driver.changes("web"))


@pytest.mark.root
def test_usage_counts_an_extent_once(driver: BtrfsDriver) -> None:
    web = image(driver, start)
    assert driver.usage("image").size == pytest.approx(2**21, abs=4096)
    assert driver.usage("web") == (0, 0)
    (web / "new").write_bytes(os.urandom(2**20))
    (web / "hole").touch()
    os.truncate(web / "hole", 2**30)
    subprocess.run(["cp", "--reflink=always", str(web / "new"), str(web / "copy")], check=True)
    usage = driver.usage("web")
    assert usage.size == 2**20
    assert usage.inodes == 3
    driver.clone("next", "web")
    assert driver.usage("next") == usage, "what a clone shares with its source is not the parent's"


@pytest.mark.root
def test_tree_search_goes_on_where_a_buffer_ends(driver: BtrfsDriver) -> None:
    image(driver, lambda root: [(root / f"f{number}").write_text("x") for number in range(3000)])
    inodes = list(items.changed_inodes(str(root(driver, "web")), 0))
    assert len({inode.number for inode in inodes}) == len(inodes) == 3001


# --- The format ------------------------------------------------------------------------------------------------


def command(number: int, **attributes: bytes) -> bytes:
    kinds = {"path": 15, "to": 16, "link": 17, "mode": 5}
    data = b"".join(struct.pack("<HH", kinds[name], len(value)) + value for name, value in attributes.items())
    return struct.pack("<IHI", len(data), number, 0) + data


MKFILE, MKDIR, RENAME, LINK, UNLINK, CHMOD, END = 3, 4, 9, 10, 11, 18, 21
HEAD = b"btrfs-stream\0" + struct.pack("<I", 1)


def parsed(*commands: bytes) -> list[Changed]:
    return list(stream.changes(BytesIO(HEAD + b"".join(commands) + command(END)).read))


def test_a_new_file_gets_its_place() -> None:
    made = parsed(command(MKFILE, path=b"o300-7-0"), command(RENAME, path=b"o300-7-0", to=b"a/f"))
    assert made == [Changed(b"a/f")]


def test_a_new_directory_used_before_it_gets_its_place_is_whole() -> None:
    made = parsed(
        command(MKDIR, path=b"o300-7-0"),
        command(RENAME, path=b"moved", to=b"o300-7-0/moved"),
        command(RENAME, path=b"o300-7-0", to=b"a"),
    )
    assert Changed(b"a", whole=True) in made
    assert Changed(b"moved", whole=True) in made


def test_one_place_in_a_row_is_told_once() -> None:
    assert parsed(*[command(CHMOD, path=b"f")] * 3, command(UNLINK, path=b"g")) == [Changed(b"f"), Changed(b"g")]


def test_a_name_like_a_passing_one_is_a_name() -> None:
    assert parsed(command(CHMOD, path=b"o300-7-0")) == [Changed(b"o300-7-0")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ends early"),
        (b"x" * 40, "unknown format"),
        (HEAD, "ends early"),
        (HEAD + command(CHMOD, path=b"f"), "ends early"),
        (HEAD + command(CHMOD, path=b"f")[:-1], "ends early"),
        (HEAD + struct.pack("<IHI", 2**31, CHMOD, 0), "a command of"),
    ],
)
def test_what_is_no_stream(data: bytes, reason: str) -> None:
    with pytest.raises(DriverError, match=reason):
        list(stream.changes(BytesIO(data).read))
