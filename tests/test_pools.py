"""Pools without containers: their records, crashes at every step, and what a driver may get wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fakes
from plugrun import mounts
from plugrun.api import DriverError, PoolSpec
from plugrun.engine import Engine
from plugrun.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable
from plugrun.manager import load
from plugrun.paths import Paths
from plugrun.pools import changing, making, mounting, record
from plugrun.pools.record import Pool, State

MIB = 1 << 20
SIZE = 16 * MIB


def make_ext4(file: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", str(file)], check=True)


def pool_spec(**changes) -> PoolSpec:
    return PoolSpec("ext4", ("noatime",), make_ext4, lambda _: None, MIB)._replace(**changes)


def open_engine(roots, pool=None, **changes) -> Engine:
    declared = fakes.spec("fake", pool=pool or pool_spec(), **changes)
    plugins = load([("fake", fakes.plugin(plugrun_storage_drivers=lambda: [declared]))], group=None)
    paths = Paths(roots.root, roots.run_root)
    paths.ensure()
    return Engine(paths, plugins=plugins)


@pytest.fixture
def roots(private_root):
    yield private_root
    mounts.unmount(str(private_root.root / "storage" / "fake"))


@pytest.fixture
def engine(roots):
    engine = open_engine(roots)
    yield engine
    engine.close()


def pool_file(engine: Engine) -> Path:
    return engine.paths.root / "pools" / "fake.img"


def nothing_left(engine: Engine) -> None:
    assert not pool_file(engine).exists()
    assert record.find(engine.paths.root, "fake") is None
    assert not mounts.is_mount_point(str(engine.paths.root / "storage" / "fake"))
    assert not any(str(engine.paths.root) in path for path in backing_files())


def backing_files() -> list[str]:
    return [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]


# --- Records -----------------------------------------------------------------------------------------------------


def test_a_record_is_found_as_it_was_written(tmp_path):
    assert record.find(tmp_path, "fake") is None
    assert record.each(tmp_path) == []
    pool = Pool("fake", Path("/some/file"), State.READY)
    with record.locked(tmp_path, "fake"):
        record.write(tmp_path, pool)
    assert record.find(tmp_path, "fake") == pool
    assert record.each(tmp_path) == ["fake"]
    record.forget(tmp_path, pool)
    record.forget(tmp_path, pool)
    with pytest.raises(NotFound, match="has no pool"):
        record.need(tmp_path, "fake")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"file": "/x", "state": "odd"}', '{"file": 1, "state": "ready"}'])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "pools").mkdir()
    (tmp_path / "pools" / "fake.json").write_text(text)
    with pytest.raises(Unavailable, match=r"pools/fake.json .* is damaged"):
        record.find(tmp_path, "fake")


def test_who_uses_a_pool_keeps_it(tmp_path):
    assert record.use(tmp_path, "fake") is None
    with record.locked(tmp_path, "fake"):
        record.write(tmp_path, Pool("fake", Path("/some/file"), State.READY))
    users = [record.use(tmp_path, "fake"), record.use(tmp_path, "fake")]
    with pytest.raises(FailedPrecondition, match="in use by another plugrun"):
        record.only_user(tmp_path, "fake")
    for user in users:
        os.close(user)
    alone = record.only_user(tmp_path, "fake")
    with pytest.raises(FailedPrecondition, match="is being removed"):
        record.use(tmp_path, "fake")
    os.close(alone)


def test_an_engine_without_pools_pays_one_look(tmp_path):
    asked: list[object] = []

    def audit(event, arguments):
        if asked is not None and event in {"open", "os.listdir", "os.scandir"} and "pools" in str(arguments[0]):
            asked.append(os.fspath(arguments[0]))

    sys.addaudithook(audit)
    mounting.ensure(tmp_path, fakes.spec("fake"), tmp_path / "storage" / "fake")
    assert asked == [str(tmp_path / "pools" / "fake.json")]


# --- Making ------------------------------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ({"make": lambda _: (_ for _ in ()).throw(Unavailable("no mkfs here"))}, "no mkfs here"),
        ({"make": lambda _: (_ for _ in ()).throw(DriverError("mkfs failed"))}, "mkfs failed"),
        ({"make": lambda _: 1 // 0}, "cannot make its pool: ZeroDivisionError"),
        ({"make": lambda _: None}, "does not mount as ext4"),
        ({"options": ("no-such-option",)}, "does not mount as ext4"),
    ],
)
def test_a_pool_that_cannot_be_made_leaves_nothing(roots, pool, words):
    engine = open_engine(roots, pool_spec(**pool))
    with pytest.raises((Unavailable, DriverError), match=words):
        making.create(engine, "fake", SIZE)
    nothing_left(engine)
    engine.close()


@pytest.mark.root
def test_a_pool_that_the_driver_cannot_use_leaves_nothing(roots):
    engine = open_engine(roots, probe=lambda place: "not on this" if os.path.ismount(place) else None)
    with pytest.raises(Unavailable, match="cannot use a ext4 pool here: not on this"):
        making.create(engine, "fake", SIZE)
    nothing_left(engine)
    engine.close()


@pytest.mark.root
def test_wishes_are_left_out_where_the_kernel_refuses_them(roots):
    engine = open_engine(roots, pool_spec(wishes=("no-such-option",)))
    making.create(engine, "fake", SIZE)
    assert mounts.is_mount_point(str(roots.root / "storage" / "fake"))
    engine.close()


@pytest.mark.root
def test_wishes_are_granted(roots):
    engine = open_engine(roots, pool_spec(wishes=("errors=panic",)))
    making.create(engine, "fake", SIZE)
    line = next(line for line in Path("/proc/mounts").read_text().splitlines() if "storage/fake" in line)
    assert "errors=panic" in line
    mounts.unmount(str(roots.root / "storage" / "fake"))
    engine.close()


@pytest.mark.root
def test_a_driver_without_pools(roots):
    engine = open_engine(roots)
    engine.plugins.storage["fake"] = engine.plugins.storage["fake"]._replace(spec=fakes.spec("fake"))
    with pytest.raises(FailedPrecondition, match="'fake' has no pools"):
        making.create(engine, "fake", SIZE)
    engine.close()


@pytest.mark.root
def test_a_state_directory_that_is_a_mount_point_is_not_covered(engine):
    place = engine.paths.root / "storage" / "fake"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], check=True)
    with pytest.raises(FailedPrecondition, match="is a file system of its own already"):
        making.create(engine, "fake", SIZE)
    assert record.find(engine.paths.root, "fake") is None


@pytest.mark.root
def test_layers_are_not_covered(engine):
    engine.storage("fake", {}).prepare("some", None)
    with pytest.raises(FailedPrecondition, match="keeps containers or layers"):
        making.create(engine, "fake", SIZE)
    engine.storage("fake", {}).remove("some")
    making.create(engine, "fake", SIZE)


@pytest.mark.root
def test_somebody_s_file_stays(engine):
    pool_file(engine).parent.mkdir()
    pool_file(engine).write_text("mine")
    with pytest.raises(AlreadyExists, match="exists"):
        making.create(engine, "fake", SIZE)
    assert pool_file(engine).read_text() == "mine"


# --- Crashes -----------------------------------------------------------------------------------------------------

STEPS = {
    "planned": "making._make_file",
    "empty": "making.Pool._replace",
    "making": "making._fill_file",
    "filled": "mounting.mount",
    "mounted": "making.os.chmod",
}
CRASH = """
import os, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
import test_pools as t
from plugrun.pools import making, mounting
from types import SimpleNamespace

def die(*_, **__):
    os._exit(9)

module, _, name = t.STEPS[sys.argv[2]].rpartition(".")
engine = t.open_engine(SimpleNamespace(root=Path(sys.argv[3]), run_root=Path(sys.argv[4])))
setattr(eval(module), name, die)
t.making.create(engine, "fake", t.SIZE)
"""


def crash(engine: Engine, step: str) -> None:
    here = Path(__file__).parent
    argv = [sys.executable, "-c", CRASH, str(here), step, str(engine.paths.root), str(engine.paths.run_root)]
    assert subprocess.run(argv, check=False, timeout=60).returncode == 9
    assert record.find(engine.paths.root, "fake").state is not State.READY


@pytest.mark.root
@pytest.mark.parametrize("step", STEPS)
def test_a_maker_that_was_killed_leaves_what_the_next_use_removes(engine, step):
    crash(engine, step)
    engine.storage("fake", {}).prepare("some", None)
    nothing_left(engine)


@pytest.mark.root
@pytest.mark.parametrize("step", STEPS)
def test_a_maker_that_was_killed_can_be_followed_by_another(engine, step):
    crash(engine, step)
    making.create(engine, "fake", SIZE)
    assert record.find(engine.paths.root, "fake").state is State.READY


@pytest.mark.root
@pytest.mark.parametrize("step", STEPS)
def test_what_a_killed_maker_left_can_be_removed(engine, step):
    crash(engine, step)
    changing.remove(engine, "fake")
    nothing_left(engine)


@pytest.mark.root
def test_a_file_that_came_in_the_way_of_a_killed_maker_stays(engine):
    crash(engine, "planned")
    pool_file(engine).write_text("mine")
    engine.storage("fake", {})
    assert pool_file(engine).read_text() == "mine"
    assert record.find(engine.paths.root, "fake") is None


# --- Changing ----------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_the_device_has_grown_before_the_file_system_does(roots):
    grown: list[tuple[Path, int]] = []

    def grow(place: Path) -> None:
        with open(mounts.covering(place)[1], "rb") as device:
            grown.append((place, device.seek(0, os.SEEK_END)))

    engine = open_engine(roots, pool_spec(grow=grow))
    making.create(engine, "fake", SIZE)
    changing.resize(engine, "fake", 4 * SIZE)
    assert grown == [(roots.root / "storage" / "fake", 4 * SIZE)]
    engine.close()


@pytest.mark.root
def test_a_driver_that_cannot_grow_its_pool(roots):
    engine = open_engine(roots, pool_spec(grow=lambda _: 1 // 0))
    making.create(engine, "fake", SIZE)
    with pytest.raises(DriverError, match="cannot enlarge its pool: ZeroDivisionError"):
        changing.resize(engine, "fake", 2 * SIZE)
    engine.close()


@pytest.mark.root
def test_removing_lets_go_of_the_engine_s_own_driver_and_refuses_others(engine, roots):
    making.create(engine, "fake", SIZE)
    other = open_engine(roots)
    other.storage("fake", {})
    with pytest.raises(FailedPrecondition, match="in use by another plugrun"):
        changing.remove(engine, "fake")
    other.close()
    engine.storage("fake", {})
    changing.remove(engine, "fake")
    nothing_left(engine)


@pytest.mark.root
def test_a_driver_that_cannot_be_opened_does_not_hold_its_pool(engine, roots):
    making.create(engine, "fake", SIZE)
    mounts.unmount(str(roots.root / "storage" / "fake"))
    pool_file(engine).unlink()
    with pytest.raises(Unavailable, match="is gone"):
        engine.storage("fake", {})
    changing.remove(engine, "fake")
    nothing_left(engine)


@pytest.mark.root
def test_the_record_of_a_pool_tells_all(engine):
    making.create(engine, "fake", SIZE)
    text = (engine.paths.root / "pools" / "fake.json").read_text()
    assert json.loads(text) == {"file": str(pool_file(engine)), "state": "ready"}
