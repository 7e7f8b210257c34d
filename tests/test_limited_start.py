"""When the engine limits a container whose driver makes room for mounting it: before anything runs in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kit_runs import in_memory
from limited_copies import RoomyCopies
from plain_copies import ACTIVE
from plugrun.errors import Unavailable
from plugrun.lifecycle import trees
from plugrun.lifecycle.start import start
from plugrun.mounts import is_mount_point

pytestmark = pytest.mark.root

MIB = 2**20
SIZE = 8 * MIB
FILL = ("sh", "-c", "dd if=/dev/zero bs=64k >> /fill; true")


class Recorded(RoomyCopies):
    """It writes down what the engine asks of it, and whether the container's tree was mounted then."""

    refuses = False

    def __init__(self, state_dir: Path, root: Path) -> None:
        super().__init__(state_dir)
        self.root = root
        self.asked: list[tuple[str, bool]] = []

    def mounts(self, key):
        self.note("mounts")
        return super().mounts(key)

    def limit(self, key, size):
        self.note("limit")
        if self.refuses:
            raise Unavailable("no quotas any more")
        super().limit(key, size)

    def note(self, what: str) -> None:
        self.asked.append((what, is_mount_point(str(self.root))))


@pytest.fixture
def box(plugrun, busybox, engine):
    """A container that is about to get a limit."""
    plugrun("create", "--name", "box", "--net", "none", busybox, *FILL).ok()
    return engine.containers.find("box")


@pytest.fixture
def driver(box, engine, monkeypatch):
    """The driver that has it, with a copy of the tree."""
    with in_memory() as state:
        stand_in = Recorded(state, engine.paths.rootfs(box.id))
        stand_in.prepare(box.snapshot, None)
        with trees.own(engine, box) as root:
            subprocess.run(["cp", "-a", f"{root}/.", str(tree(stand_in, box))], check=True)
        box.config = box.config._replace(storage_size=SIZE)
        engine.containers.update(box)
        stand_in.limit(box.snapshot, SIZE)
        stand_in.asked.clear()
        monkeypatch.setattr(engine, "storage", lambda *_: stand_in)
        yield stand_in


def tree(driver, box) -> Path:
    return driver.place(ACTIVE, box.snapshot) / "fs"


def test_a_container_that_got_room_is_limited_again_before_it_runs(box, driver, engine, plugrun):
    for _ in range(3):
        driver.asked.clear()
        start(engine, box.id, connect=lambda _: driver.note("runs"))
        assert driver.asked == [("mounts", False), ("limit", True), ("runs", True)]
        plugrun("wait", "box").ok()
        assert driver.usage(box.snapshot).size <= SIZE
        assert driver.usage(box.snapshot).size > SIZE - MIB  # it tried


def test_a_container_that_got_room_is_limited_again_before_anything_is_copied_into_it(box, driver, engine):
    with trees.own(engine, box):
        driver.note("written to")
    assert [what for what, _ in driver.asked] == ["mounts", "limit", "written to"]


def test_where_it_cannot_be_limited_any_more_it_does_not_start(box, driver, engine):
    driver.refuses = True
    with pytest.raises(Unavailable, match="no quotas any more"):
        start(engine, box.id)
    assert not is_mount_point(str(driver.root))
    driver.refuses = False
    start(engine, box.id)
