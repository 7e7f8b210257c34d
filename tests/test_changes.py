"""Changes between two trees: the same wherever one looks for them, and what docker diff would show."""

from __future__ import annotations

import gc
import io
import os
import shutil
import stat
import subprocess
from contextlib import ExitStack, contextmanager

import pytest

from images import nasty
from mutations import Mutator
from plugrun import mounts
from plugrun.api import Changed
from plugrun.changes import compare
from plugrun.errors import FailedPrecondition
from plugrun.images import layer_tar
from plugrun.images.unpack import Whiteouts, unpack_layer
from plugrun_storage_overlay.driver import OverlayDriver
from trees import differences, survey

pytestmark = pytest.mark.root


@pytest.fixture
def two(tmp_path):
    """Two equal trees."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    for number in (nasty.link_groups(), nasty.metadata(), nasty.names(), nasty.sparse(), nasty.lower()):
        unpack(number, old)
    subprocess.run(["cp", "-a", "--sparse=always", old, new], check=True)
    return old, new


def unpack(data, root):
    fd = os.open(root, os.O_PATH)
    try:
        unpack_layer(io.BytesIO(data), fd, whiteouts=Whiteouts.APPLY)
    finally:
        os.close(fd)


def listed(old, new, places=None, **options):
    one, other = os.open(old, os.O_PATH), os.open(new, os.O_PATH)
    try:
        return [f"{kind} {os.fsdecode(path)}" for kind, path in compare(one, other, places, **options)]
    finally:
        os.close(one)
        os.close(other)


def test_equal_trees(two):
    assert listed(*two) == []
    assert listed(*two, [Changed(b"", whole=True)]) == []


def change_content(new):
    before = (new / "kept/stays").stat()
    (new / "kept/stays").write_bytes(b"STAYS")
    os.utime(new / "kept/stays", ns=(before.st_atime_ns, before.st_mtime_ns))


def change_in_the_middle_of_a_hole(new):
    path = new / "sparse/1.0"
    before = path.stat()
    with path.open("r+b") as stream:
        stream.seek(500_000)
        stream.write(b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_link(new):
    before = (new / "meta/link").lstat()
    (new / "meta/link").unlink()
    (new / "meta/link").symlink_to("/absolute/but/MISSING")
    os.chown(new / "meta/link", 99, 98, follow_symlinks=False)
    os.utime(new / "meta/link", ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)
    restore(new / "meta", new.parent / "old/meta")


def restore(path, like):
    os.utime(path, ns=(0, like.stat().st_mtime_ns))


def other_device(new):
    (new / "meta/null").unlink()
    os.mknod(new / "meta/null", 0o20666, os.makedev(1, 5))
    restore(new / "meta/null", new.parent / "old/meta/null")
    os.chmod(new / "meta/null", 0o666)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (change_content, ["C ", "C kept", "C kept/stays"]),
        (change_in_the_middle_of_a_hole, ["C ", "C sparse", "C sparse/1.0"]),
        (replace_link, ["C ", "C meta", "C meta/link"]),
        (other_device, ["C ", "C meta", "C meta/null"]),
        (lambda new: (new / "kept/stays").chmod(0o640), ["C ", "C kept", "C kept/stays"]),
        (lambda new: os.chown(new / "kept/stays", 0, 1), ["C ", "C kept", "C kept/stays"]),
        (lambda new: os.utime(new / "kept", (1, 1)), ["C ", "C kept"]),
        (lambda new: os.utime(new, (1, 1)), ["C "]),
        (lambda new: new.chmod(0o711), ["C "]),
        (lambda new: os.setxattr(new / "kept/stays", "user.x", b"1"), ["C ", "C kept", "C kept/stays"]),
        (lambda new: os.setxattr(new / "attributes", "user.lower", b"2"), ["C ", "C attributes"]),
        (lambda new: os.removexattr(new / "capability", "security.capability"), ["C ", "C capability"]),
        (lambda new: os.setxattr(new / "kept/stays", "trusted.x", b"1"), []),
        (lambda new: shutil.rmtree(new / "remade"), ["C ", "D remade"]),
        (lambda new: (new / "kept/stays").unlink(), ["C ", "C kept", "D kept/stays"]),
        (lambda new: (new / "linked-2").unlink(), ["C ", "D linked-2"]),
        (
            lambda new: os.link(new / "kept/stays", new / "another"),
            ["C ", "A another", "C kept", "C kept/stays"],
        ),
        (lambda new: (new / "linked-2").chmod(0o700), ["C ", "C linked-1", "C linked-2", "C linked-3"]),
        (lambda new: os.rename(new / "remade", new / "moved"), ["C ", "A moved", "A moved/lower", "D remade"]),
        (
            lambda new: (shutil.rmtree(new / "remade"), (new / "remade").write_bytes(b"")),
            ["C ", "C remade"],
        ),
        (
            lambda new: (
                (new / "file-to-dir").unlink(),
                (new / "file-to-dir").mkdir(),
                (new / "file-to-dir/x").mkdir(),
            ),
            ["C ", "C file-to-dir", "A file-to-dir/x"],
        ),
    ],
)
def test_one_change(two, change, expected):
    change(two[1])
    assert listed(*two) == expected
    assert listed(*two, [Changed(b"", whole=True)]) == expected


def test_the_order_is_by_component(two):
    for name in ("kept-too", "kept/x", "kept.d"):
        (two[1] / name).touch()
    assert listed(*two) == ["C ", "C kept", "A kept/x", "A kept-too", "A kept.d"]


def test_only_places_are_looked_at(two):
    (two[1] / "kept/stays").chmod(0)
    (two[1] / "swaps/x").chmod(0)
    assert listed(*two, [Changed(b"kept/stays")]) == ["C ", "C kept", "C kept/stays"]
    assert listed(*two, [Changed(b"swaps", whole=True), Changed(b"gone/missing")]) == ["C ", "C swaps", "C swaps/x"]
    assert listed(*two, []) == []


def test_a_driver_that_names_one_name_of_a_file_is_not_trusted(two):
    os.link(two[1] / "kept/stays", two[1] / "another")
    assert listed(*two, [Changed(b"another")]) == ["C ", "A another", "C kept", "C kept/stays"]


def test_mount_points_that_the_engine_made(two):
    made = {b"etc/hosts", b"new", b"kept/hosts", b"kept/stays"}
    (two[1] / "kept/hosts").touch()
    (two[1] / "new").mkdir()
    assert listed(*two, made=made) == []
    assert listed(*two) == ["C ", "C kept", "A kept/hosts", "A new"]
    (two[1] / "new/inside").touch()
    (two[1] / "kept/hosts").write_bytes(b"data")
    (two[1] / "kept/stays").chmod(0)
    found = ["C ", "C kept", "A kept/hosts", "C kept/stays", "A new", "A new/inside"]
    assert listed(*two, made=made) == found


def nest(root, depth):
    fd = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def test_deep_trees(two):
    gc.collect()  # what other tests have left open must not be closed meanwhile
    before = len(os.listdir("/proc/self/fd"))
    nest(two[1] / "kept", 2000)
    assert len(listed(*two)) == 2002
    nest(two[0] / "kept", 2000)
    two[1].chmod(0o700)
    assert listed(*two)[0] == "C "
    nest(two[1] / "opaque", 3000)
    with pytest.raises(FailedPrecondition, match="nested too deeply"):
        listed(*two)
    subprocess.run(["rm", "-rf", two[1], two[0]], check=True)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_socket_is_a_change(two):
    os.mknod(two[1] / "socket", 0o600 | stat.S_IFSOCK)
    assert listed(*two) == ["C ", "A socket"]


# --- On real overlays -------------------------------------------------------------------------------------------------


@contextmanager
def mounted(found, point):
    point.mkdir()
    mounts.mount_all(found, str(point))
    try:
        yield point
    finally:
        mounts.unmount(str(point))
        point.rmdir()


@pytest.fixture
def driver(tmp_path):
    """An overlay driver with a stack of nasty layers, and a container on it."""
    (tmp_path / "state").mkdir()
    made = OverlayDriver(tmp_path / "state")
    parent = None
    for number, layer in enumerate(nasty.LAYERS):
        with mounted(made.prepare("key", parent), tmp_path / "layer") as point:
            unpack(layer, point)
        parent = f"layer{number}"
        made.commit(parent, "key")
    made.prepare("web", parent)
    return made


@pytest.mark.parametrize("seed", range(12))
def test_what_overlay_answers_is_what_looking_everywhere_finds_and_a_layer_carries_it(driver, tmp_path, seed):
    parent = driver.stat("web").parent
    with ExitStack() as stack:
        own = stack.enter_context(mounted(driver.mounts("web"), tmp_path / "own"))
        before = stack.enter_context(mounted(driver.view("before", parent), tmp_path / "before"))
        assert listed(before, own) == []
        Mutator(own, seed).run(60)
        everywhere = listed(before, own)
        assert len(everywhere) > 10
        assert listed(before, own, driver.changes("web")) == everywhere
        driver.prepare("copy", parent)
        copy = stack.enter_context(mounted(driver.mounts("copy"), tmp_path / "copy"))
        one, other, layer = os.open(before, os.O_PATH), os.open(own, os.O_PATH), bytearray()
        layer_tar.write(other, compare(one, other), layer.extend)
        unpack(bytes(layer), copy)
        assert not differences(survey(copy), survey(own))
        os.close(one)
        os.close(other)


def test_a_container_without_image(driver, tmp_path):
    driver.prepare("bare", None)
    driver.view("nothing", None)
    with (
        mounted(driver.mounts("bare"), tmp_path / "own") as own,
        mounted(driver.mounts("nothing"), tmp_path / "b") as no,
    ):
        (own / "x").mkdir()
        (own / "x/y").touch()
        os.utime(own, ns=(0, no.stat().st_mtime_ns))
        assert listed(no, own, driver.changes("bare")) == listed(no, own) == ["C ", "A x", "A x/y"]
