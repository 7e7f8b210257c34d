"""From blobs to snapshots: every layer unpacked once in a driver, whatever fails, races or is killed on the way."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from images import archives
from images.archives import Parts
from images.layers import directory, file, hardlink, layer, snapshot, symlink, xattr
from plain_copies import DirStorage
from plugrun import locks, mounts, snapshots, unneeded
from plugrun.api import NotFound, SnapshotKind
from plugrun.errors import DriverError, FailedPrecondition, InvalidArgument, Unavailable
from plugrun.images import layout
from plugrun.images.store import ImageStore
from plugrun.testing import mounted

OverlayDriver = pytest.importorskip("plugrun_storage_overlay.driver").OverlayDriver

BASE = archives.layer({"base": b"base", "gone": b"x", "dir/old": b"o"})
MIDDLE = archives.layer({".wh.gone": b"", "dir/.wh..wh..opq": b"", "dir/new": b"n"})
TOP = archives.layer({"top": b"top", "base": b"changed"})
MERGED = {"base": b"changed", "dir/new": b"n", "top": b"top"}


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_chain_ids_are_those_of_the_image_specification():
    one, two, three = (f"sha256:{sha256(text)}" for text in "123")
    first = sha256("1")
    second = sha256(f"{one} {two}")
    third = sha256(f"sha256:{second} {three}")
    assert snapshots.chain_ids([]) == []
    assert snapshots.chain_ids([one, two, three]) == [first, second, third]


def test_a_sha512_layer_gets_a_name_that_a_driver_can_hold():
    long, two = "sha512:" + "0" * 128, "sha256:" + "1" * 64
    assert snapshots.chain_ids([long, two]) == [sha256(long), sha256(f"{long} {two}")]


class Spy:
    """A driver that counts the calls of another one."""

    def __init__(self, driver):
        self.driver = driver
        self.calls = Counter()

    def __getattr__(self, name):
        value = getattr(self.driver, name)
        if not callable(value):
            return value

        def call(*arguments):
            self.calls[name] += 1
            return value(*arguments)

        return call


@pytest.fixture
def store(tmp_path):
    return ImageStore(tmp_path / "images")


@pytest.fixture
def add(store, tmp_path):
    def image(name, *layers):
        store.load(archives.write_tar(tmp_path / "archive.tar", Parts(list(layers), name).docker()))
        return store.resolve(name)

    return image


@pytest.fixture(params=[OverlayDriver, DirStorage], ids=["layer directories", "in turn"])
def driver(request, tmp_path):
    (tmp_path / "driver").mkdir(mode=0o700)
    opened = request.param(tmp_path / "driver")
    yield opened
    opened.close()


@pytest.fixture
def overlay(tmp_path):
    (tmp_path / "driver").mkdir(mode=0o700)
    return OverlayDriver(tmp_path / "driver")


@pytest.fixture
def places(tmp_path):
    for name in ("locks", "staging"):
        (tmp_path / name).mkdir()
    return {
        "lock_dir": tmp_path / "locks",
        "staging": tmp_path / "staging",
        "mount": lambda what, where: mounts.mount_all(what, str(where)),
        "unmount": lambda where: mounts.unmount(str(where)),
    }


def unpack(*values, **options):
    with snapshots.unpacked(*values, **options) as top:
        return top


def files(driver, name, tmp_path):
    """Read the tree of a committed snapshot through a view of it."""
    point = tmp_path / "view"
    point.mkdir(exist_ok=True)
    mounts.mount_all(driver.view("looking", name), str(point))
    try:
        return {str(path.relative_to(point)): path.read_bytes() for path in point.rglob("*") if path.is_file()}
    finally:
        mounts.unmount(str(point))
        driver.remove("looking")


def committed(driver):
    return {info.name for info in driver.walk() if info.kind is SnapshotKind.COMMITTED}


def nothing_staged(driver, places):
    assert {info.name for info in driver.walk() if info.kind is not SnapshotKind.COMMITTED} == set()
    assert os.listdir(places["staging"]) == []
    assert not list(places["staging"].parent.glob("driver/*/staging-*"))


def no_locks(places, but=()):
    """Layers that somebody needed may have one, which goes with them."""
    assert set(os.listdir(places["lock_dir"])) <= {"layers", *(f"layer-{name}" for name in but)}


@pytest.mark.root
def test_an_image_is_unpacked_layer_by_layer(store, add, driver, places, tmp_path):
    image = add("i:1", BASE, MIDDLE, TOP)
    told = []
    top = unpack(store, image, driver, **places, progress=lambda *values: told.append(values))
    assert top == snapshots.chain_ids(image.config.diff_ids)[-1]
    assert files(driver, top, tmp_path) == MERGED
    assert committed(driver) == set(snapshots.chain_ids(image.config.diff_ids))
    assert told == [(1, 3), (2, 3), (3, 3)]
    nothing_staged(driver, places)
    no_locks(places, but=committed(driver))


@pytest.mark.root
def test_what_is_unpacked_costs_one_question(store, add, driver, places):
    image = add("i:1", BASE, MIDDLE)
    unpack(store, image, driver, **places)
    spy = Spy(driver)
    assert unpack(store, image, spy, **places)
    assert spy.calls == {"stat": 1}


@pytest.mark.root
def test_shared_layers_are_unpacked_once(store, add, driver, places, tmp_path, monkeypatch):
    first, second = add("one:1", BASE, MIDDLE), add("two:1", BASE, MIDDLE, TOP)
    unpack(store, first, driver, **places)
    opened = []
    monkeypatch.setattr(
        store, "open_layer", lambda layer: (opened.append(layer), ImageStore.open_layer(store, layer))[1]
    )
    top = unpack(store, second, driver, **places)
    assert [layer.diff_id for layer in opened] == [second.layers[2].diff_id]
    assert files(driver, top, tmp_path) == MERGED


def test_an_image_without_layers_has_no_snapshot(store, add, places, tmp_path):
    assert unpack(store, add("empty:1"), DirStorage(tmp_path / "locks"), **places) is None


MODES = layer(
    *(
        xattr(b"user.root", b"r"),
        directory(b"./", mode=0o711),
        directory(b"tmp/", mode=0o1777),
        directory(b"usr/", mode=0o755, mtime=7),
    ),
    *(xattr(b"user.note", b"n"), directory(b"secret/", mode=0o700, uid=3, gid=4), directory(b"usr/bin/", mode=0o751)),
    *(symlink(b"bin", b"usr/bin"), file(b"usr/bin/sh", b"sh"), symlink(b"abs", b"/usr/bin"), file(b"plain", b"p")),
    *(directory(b"gone/", mode=0o700), directory(b"gone/sub/", mode=0o700), directory(b"fresh/", mode=0o700)),
)
WITHOUT = {
    "directories": [file(b"tmp/x"), file(b"secret/y"), file(b"usr/bin/tool"), file(b"new/f"), file(b"fresh/f")],
    "a link": [file(b"bin/tool", b"t"), file(b"tmp/x")],
    "a link and what it leads to": [file(b"usr/bin/tool", b"1"), file(b"bin/tool", b"2"), hardlink(b"l", b"bin/tool")],
    "an absolute link": [file(b"abs/sub/tool", b"t")],
    "an own link": [directory(b"d/"), symlink(b"own", b"d"), file(b"own/sub/f")],
    "a link that it replaces": [directory(b"bin/", mode=0o700), file(b"bin/sub/f"), file(b"usr/f")],
    "a file": [file(b"plain/f")],
    "what it hides": [file(b".wh.gone"), file(b"gone/sub/f"), file(b"secret/.wh..wh..opq"), file(b"secret/d/f")],
    "an entry that comes late": [file(b"tmp/x"), directory(b"tmp/", mode=0o750, uid=5, mtime=9)],
    "what it replaces itself": [file(b"tmp/x"), symlink(b"tmp", b"usr"), file(b"secret/y"), file(b"secret", b"f")],
}


@pytest.mark.root
@pytest.mark.parametrize("name", WITHOUT)
def test_directories_without_an_entry_are_what_the_layers_below_made_them(store, add, overlay, places, tmp_path, name):
    """The same in a driver that gets the layer alone as in one that gets it onto its parents."""
    image = add("i:1", MODES, layer(*WITHOUT[name]))
    (tmp_path / "copies").mkdir()
    onto = DirStorage(tmp_path / "copies")
    trees = []
    for driver in (overlay, onto):
        with mounted(driver.view("looking", unpack(store, image, driver, **places))) as point:
            trees.append(snapshot(point))
        driver.remove("looking")
        nothing_staged(driver, places)
    assert without_times_of_new(trees[0]) == without_times_of_new(trees[1])


def without_times_of_new(tree):
    """Leave out when directories that no layer has an entry for were made: just now."""
    recent = time.time_ns() - 10**12
    return {path: (*one[:2], one[2] if one[2] < recent else None, *one[3:]) for path, one in tree.items()}


@pytest.mark.root
def test_128_layers(store, add, overlay, places, tmp_path):
    layers = [archives.layer({f"f{number}": b"", "last": str(number).encode()}) for number in range(128)]
    top = unpack(store, add("deep:1", *layers), overlay, **places)
    found = files(overlay, top, tmp_path)
    assert len(found) == 129
    assert found["last"] == b"127"


# --- Failures -------------------------------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_damaged_layer_leaves_no_staging_and_what_is_below_it(store, add, driver, places, tmp_path, broken):
    image = add("i:1", BASE, MIDDLE, TOP)
    path = layout.blob_path(tmp_path / "images", image.layers[broken].digest)
    right = path.read_bytes()
    path.write_bytes(right[:-1] + b"\1")  # in the padding after the archive's end: only the digest tells
    with pytest.raises(InvalidArgument, match="is corrupt"):
        unpack(store, image, driver, **places)
    assert committed(driver) == set(snapshots.chain_ids(image.config.diff_ids)[:broken])
    nothing_staged(driver, places)
    path.write_bytes(right)
    assert files(driver, unpack(store, image, driver, **places), tmp_path) == MERGED


@pytest.mark.root
def test_a_missing_blob_is_a_clear_error(store, add, driver, places, tmp_path):
    image = add("i:1", BASE)
    layout.blob_path(tmp_path / "images", image.layers[0].digest).unlink()
    with pytest.raises(FailedPrecondition, match="missing from the image store"):
        unpack(store, image, driver, **places)
    nothing_staged(driver, places)
    no_locks(places)


@pytest.mark.root
def test_a_mount_that_fails_leaves_nothing(store, add, places, tmp_path):
    (tmp_path / "driver").mkdir()
    driver = DirStorage(tmp_path / "driver")

    def fail(what, where):
        raise DriverError("no")

    with pytest.raises(DriverError, match="no"):
        unpack(store, add("i:1", BASE), driver, **places | {"mount": fail})
    nothing_staged(driver, places)


class Held(io.RawIOBase):
    """A layer that is read up to its second piece, which comes when somebody waits for the worker to end."""

    def __init__(self, source, going, ending):
        self.source, self.going, self.ending = source, going, ending
        self.pieces = 0

    def readable(self):
        return True

    def readinto(self, buffer):
        self.pieces += 1
        if self.pieces == 2:
            self.going.set()
            assert self.ending.wait(30)
        return self.source.readinto(memoryview(buffer)[:65536])


@pytest.mark.root
def test_an_interrupt_stops_the_layers_that_are_being_unpacked(store, add, overlay, places, monkeypatch):
    image = add("i:1", BASE, archives.layer({"large": bytes(8 << 20)}))
    going, ending, held = threading.Event(), threading.Event(), []

    def open_layer(layer):
        stream = ImageStore.open_layer(store, layer)
        if layer.diff_id == image.layers[0].diff_id:
            return stream
        held.append(Held(stream, going, ending))
        return io.BufferedReader(held[0], 65536)

    def interrupt(done, total):
        assert going.wait(30)
        raise KeyboardInterrupt

    shutdown = ThreadPoolExecutor.shutdown
    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", lambda *a, **k: (ending.set(), shutdown(*a, **k))[1])
    monkeypatch.setattr(store, "open_layer", open_layer)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with pytest.raises(KeyboardInterrupt):
        unpack(store, image, overlay, **places, progress=interrupt)
    assert held[0].pieces <= 2 + (1 << 20) // 65536  # the megabyte that was asked for, of eight
    nothing_staged(overlay, places)


@pytest.mark.root
def test_an_interrupt_stops_layers_of_which_not_all_are_begun(store, add, overlay, places, monkeypatch):
    add("i:1", BASE, archives.layer({"file": b"x"}))
    image, given_up, submit = store.resolve("i:1"), threading.Event(), ThreadPoolExecutor.submit

    class Waiting(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            given_up.wait(30)
            raise Unavailable("given up")

    def interrupted(*arguments):
        submit(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "open_layer", lambda layer: io.BufferedReader(Waiting()))
    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack(store, image, overlay, **places, give_up=given_up.set)
    assert given_up.is_set()
    nothing_staged(overlay, places)


# --- Several processes -------------------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys
from pathlib import Path
from plain_copies import DirStorage
from plugrun import locks, mounts, snapshots, unneeded
from plugrun.images import unpack
from plugrun.images.store import ImageStore
from plugrun_storage_overlay.driver import OverlayDriver
home = Path(sys.argv[1])
store, driver = ImageStore(home / "images"), globals()[sys.argv[2]](home / "driver")

def main():
    with snapshots.unpacked(
        store, store.resolve("i:1"), driver, lock_dir=home / "locks", staging=home / "staging",
        mount=lambda what, where: mounts.mount_all(what, str(where)), unmount=lambda where: mounts.unmount(str(where)),
    ):
        pass
"""


def start(tmp_path, driver, program):
    argv = [sys.executable, "-c", PROGRAM + program, str(tmp_path), type(driver).__name__]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": path})


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


LOG = """
log = os.open(home / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
fill, wait = snapshots._fill, locks._wait
snapshots._fill = lambda *values: (os.write(log, b"unpack "), fill(*values))[1]
locks._wait = lambda *values, **options: (os.write(log, b"wait "), wait(*values, **options))[1]
main()
"""


@pytest.mark.root
def test_a_process_waits_for_another_that_unpacks_and_finds_it_done(store, add, driver, places, tmp_path, monkeypatch):
    image = add("i:1", BASE, MIDDLE, TOP)
    others, fill = [], snapshots._fill
    log = tmp_path / "log"
    log.touch()

    def meanwhile(*values):
        if not others:
            others.append(start(tmp_path, driver, LOG))
            wait_until(lambda: log.read_bytes() or others[0].poll() is not None)
        return fill(*values)

    monkeypatch.setattr(snapshots, "_fill", meanwhile)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})  # one thread: the first layer is filled first
    top = unpack(store, image, driver, **places)
    assert others[0].wait(60) == 0
    assert set(log.read_text().split()) == {"wait"}
    assert files(driver, top, tmp_path) == MERGED
    nothing_staged(driver, places)
    no_locks(places, but=committed(driver))


@pytest.mark.root
def test_processes_that_unpack_at_once_do_the_work_once(store, add, driver, places, tmp_path):
    image = add("i:1", BASE, MIDDLE, TOP)
    running = [start(tmp_path, driver, LOG) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert (tmp_path / "log").read_text().split().count("unpack") == 3  # three layers, each by one of the three
    assert files(driver, snapshots.chain_ids(image.config.diff_ids)[-1], tmp_path) == MERGED
    nothing_staged(driver, places)
    no_locks(places, but=committed(driver))


KILL_IN_UNPACK = """
count = 0
original = unpack.unpack_layer
def half(stream, *values, **options):
    global count
    count += 1
    original(stream, *values, **options)
    if count >= 2:
        os.kill(os.getpid(), signal.SIGKILL)
unpack.unpack_layer = half
main()
"""


@pytest.mark.root
def test_what_a_killed_process_left_is_replaced(store, add, driver, places, tmp_path):
    image = add("i:1", BASE, MIDDLE, TOP)
    assert start(tmp_path, driver, KILL_IN_UNPACK).wait(60) == -signal.SIGKILL
    left = list(places["staging"].iterdir()) + list((tmp_path / "driver").glob("*/staging-*"))
    assert left  # the control: it was killed in the middle
    top = unpack(store, image, driver, **places)
    assert files(driver, top, tmp_path) == MERGED
    nothing_staged(driver, places)


# --- Layers that nothing needs ---------------------------------------------------------------------------------------


@pytest.mark.root
def test_layers_of_removed_images_go_and_those_that_are_needed_stay(store, add, driver, places):
    kept, gone = add("kept:1", BASE, MIDDLE), add("gone:1", BASE, TOP)
    for image in (kept, gone):
        unpack(store, image, driver, **places)
    assert unneeded.remove_unused(driver, lambda: [kept, gone], lock_dir=places["lock_dir"]) == []
    removed = unneeded.remove_unused(driver, lambda: [kept], lock_dir=places["lock_dir"])
    assert removed == snapshots.chain_ids(gone.config.diff_ids)[1:]
    assert committed(driver) == set(snapshots.chain_ids(kept.config.diff_ids))
    assert set(unneeded.remove_unused(driver, list, lock_dir=places["lock_dir"])) == set(
        snapshots.chain_ids(kept.config.diff_ids)
    )
    assert committed(driver) == set()
    no_locks(places)


@pytest.mark.root
def test_layers_below_a_container_or_being_unpacked_stay(store, add, overlay, places):
    image = add("i:1", BASE, MIDDLE)
    top = unpack(store, image, overlay, **places)
    overlay.prepare("c1", top)
    assert unneeded.remove_unused(overlay, list, lock_dir=places["lock_dir"]) == []
    overlay.remove("c1")
    with locks.held(places["lock_dir"] / f"layer-{top}", what="x"):
        assert unneeded.remove_unused(overlay, list, lock_dir=places["lock_dir"]) == []
    assert len(unneeded.remove_unused(overlay, list, lock_dir=places["lock_dir"])) == 2


@pytest.mark.root
def test_an_image_that_comes_during_a_removal_keeps_what_it_shares(store, add, driver, places):
    old, new = add("old:1", BASE, TOP), add("new:1", BASE, MIDDLE)
    base, top = snapshots.chain_ids(old.config.diff_ids)
    unpack(store, old, driver, **places)
    listed, remove = [], driver.remove
    driver.remove = lambda name: (listed.append(new), remove(name))
    assert unneeded.remove_unused(driver, lambda: listed, lock_dir=places["lock_dir"]) == [top]
    assert committed(driver) == {base}


@pytest.mark.root
def test_layers_stay_until_something_stands_on_them(store, add, driver, places):
    image = add("i:1", BASE, TOP)

    def remove():
        return unneeded.remove_unused(driver, list, lock_dir=places["lock_dir"])

    for _ in ("unpacked now", "found unpacked"):
        with snapshots.unpacked(store, image, driver, **places) as top:
            assert remove() == []
            driver.prepare("c1", top)
        assert remove() == []
        driver.remove("c1")
    assert len(remove()) == 2


@pytest.mark.root
def test_what_is_unpacked_already_stays_while_the_rest_comes(store, add, driver, places, monkeypatch):
    unpack(store, add("old:1", BASE), driver, **places)
    new = add("new:1", BASE, MIDDLE, TOP)
    fill = snapshots._fill

    def meanwhile(*values):
        assert unneeded.remove_unused(driver, list, lock_dir=places["lock_dir"]) == []
        return fill(*values)

    monkeypatch.setattr(snapshots, "_fill", meanwhile)
    assert unpack(store, new, driver, **places)


@pytest.mark.root
def test_who_needs_other_layers_does_not_wait_for_a_removal(store, add, driver, places):
    one, two = add("one:1", BASE, TOP), add("two:1", BASE, MIDDLE)
    for image in (one, two):
        unpack(store, image, driver, **places)
    going, waiting, remove = [], [], driver.remove

    def slowly(name):
        remove(name)
        if not going:
            going.append(name)
            with snapshots.unpacked(store, two, driver, **places) as top:
                waiting.append(top)

    driver.remove = slowly
    unneeded.remove_unused(driver, lambda: [two], lock_dir=places["lock_dir"])
    assert len(waiting) == 1


def remove_leftovers(driver, places):
    chosen = {name: places[name] for name in ("lock_dir", "staging", "unmount")}
    unneeded.remove_leftovers(driver, **chosen)


@pytest.mark.root
def test_what_a_killed_process_left_of_unpacking_can_be_removed(store, add, driver, places, tmp_path):
    kept = add("kept:1", BASE)
    driver.prepare("c1", unpack(store, kept, driver, **places))
    before = snapshot_of(tmp_path)
    add("i:1", MIDDLE, TOP)
    assert start(tmp_path, driver, KILL_IN_UNPACK).wait(60) == -signal.SIGKILL
    assert snapshot_of(tmp_path) != before  # the control: it was killed in the middle
    remove_leftovers(driver, places)
    unneeded.remove_unused(driver, lambda: [kept], lock_dir=places["lock_dir"])
    assert snapshot_of(tmp_path) == before
    assert os.listdir(places["staging"]) == []


def snapshot_of(tmp_path):
    return sorted(path for path in (tmp_path / "driver").glob("*/*") if path.name != "lock")


@pytest.mark.root
def test_what_another_process_works_on_is_no_leftover(store, add, driver, places, monkeypatch):
    image = add("i:1", BASE, TOP)
    fill, remove = snapshots._fill, driver.remove

    def meanwhile(*values):
        remove_leftovers(driver, places)
        return fill(*values)

    monkeypatch.setattr(snapshots, "_fill", meanwhile)
    unpack(store, image, driver, **places)
    calls = Spy(driver)
    driver.remove = lambda name: (remove_leftovers(calls, places), remove(name))
    assert len(unneeded.remove_unused(driver, list, lock_dir=places["lock_dir"])) == 2
    assert not calls.calls
    remove_leftovers(calls, places)
    assert calls.calls["gc"] == 1  # the control


@pytest.mark.root
def test_snapshots_that_are_no_layers_are_not_touched(driver, places):
    driver.prepare("key", None)
    driver.commit("somebodys", "key")
    assert unneeded.remove_unused(driver, list, lock_dir=places["lock_dir"]) == []
    assert committed(driver) == {"somebodys"}
    with pytest.raises(NotFound):
        driver.stat("key")
