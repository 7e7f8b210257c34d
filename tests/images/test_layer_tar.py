"""Layers written from changes: unpacked on what the tree was, they make of it what it is."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
from contextlib import contextmanager
from itertools import pairwise

import pytest

from fixtures.tools import needs_umoci, tool
from images import nasty
from plugrun.changes import Change, Kind, compare
from plugrun.errors import FailedPrecondition
from plugrun.images import layer_tar, tree_tar
from plugrun.images.tar import read_entries
from plugrun.images.unpack import Whiteouts, unpack_layer
from trees import Difference, differences, survey

pytestmark = pytest.mark.root


@contextmanager
def opened(*trees):
    fds = [os.open(tree, os.O_PATH | os.O_DIRECTORY) for tree in trees]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def unpack(data, root):
    with opened(root) as (fd,):
        unpack_layer(io.BytesIO(data), fd, whiteouts=Whiteouts.APPLY)


def copy(tree, target):
    subprocess.run(["cp", "-a", "--sparse=always", tree, target], check=True)


def layer_between(parent, own):
    written = bytearray()
    with opened(parent, own) as (old, new):
        layer_tar.write(new, compare(old, new), written.extend)
    return bytes(written)


@pytest.fixture
def trees(tmp_path):
    """What every pair of successive nasty layers makes."""
    here = tmp_path / "0"
    here.mkdir(mode=0o755)
    made = [here]
    for number, layer in enumerate(nasty.LAYERS, 1):
        following = tmp_path / str(number)
        copy(made[-1], following)
        unpack(layer, following)
        made.append(following)
    return made


def test_every_nasty_step_comes_back(trees, tmp_path):
    for before, after in pairwise(trees):
        target = tmp_path / "target"
        copy(before, target)
        unpack(layer_between(before, after), target)
        assert not differences(survey(target), survey(after))
        shutil.rmtree(target)


def test_and_every_nasty_step_back(trees, tmp_path):
    for before, after in pairwise(reversed(trees)):
        target = tmp_path / "target"
        copy(before, target)
        unpack(layer_between(before, after), target)
        assert not differences(survey(target), survey(after))
        shutil.rmtree(target)


def test_everything_at_once_and_sparse_files_stay_sparse(trees, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    data = layer_between(trees[0], trees[-1])
    unpack(data, target)
    assert not differences(survey(target), survey(trees[-1]))
    assert len(data) < 1 << 20
    for name in ("1.0", "scattered", "hole"):
        blocks = [(tree / "sparse" / name).stat().st_blocks for tree in (target, trees[-1])]
        assert blocks[0] <= blocks[1] + 8
    with opened(trees[-1]) as (fd,):
        whole = bytearray()
        tree_tar.write(fd, whole.extend)
    assert {entry.name.rstrip(b"/") for entry in read_entries(io.BytesIO(data))} == {
        entry.name.rstrip(b"/") for entry in read_entries(io.BytesIO(bytes(whole)))
    }


@needs_umoci
def test_umoci_unpacks_the_same(trees, tmp_path):
    layout = tmp_path / "layout"
    tool("umoci", "init", "--layout", layout)
    tool("umoci", "new", "--image", f"{layout}:v1")
    for number, (before, after) in enumerate(pairwise(trees)):
        (tmp_path / "layer.tar").write_bytes(layer_between(before, after))
        tool("umoci", "raw", "add-layer", "--image", f"{layout}:v1", tmp_path / "layer.tar")
        if number in {4, len(trees) - 2}:
            tool("umoci", "unpack", "--image", f"{layout}:v1", tmp_path / f"bundle{number}")
            unpacked = survey(tmp_path / f"bundle{number}" / "rootfs")
            lost = (b"meta/empty-value", "xattrs", {}, {b"user.empty": b""})  # to Go's tar, no value is no record
            assert set(map(repr, differences(unpacked, survey(after)))) <= {repr(Difference(*lost))}


def test_gnu_tar_unpacks_the_same(trees, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    with opened(trees[-1]) as (fd,), (tmp_path / "all.tar").open("wb") as out:
        tree_tar.write(fd, out.write)
    everything = ["--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
    subprocess.run(["tar", "-xpf", tmp_path / "all.tar", "-C", target, *everything], check=True)
    assert not differences(survey(target), survey(trees[-1]))


# --- Hostile trees ----------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path):
    """Two trees, the older one empty."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    return old, new


def written(tree, *paths, kind=Kind.ADDED, before=lambda: None):
    """Write a layer of some paths, doing something after its first bytes."""
    data = bytearray()
    with opened(tree) as (fd,):
        changes = (Change(kind, path) for path in paths)
        layer_tar.write(fd, _then(changes, before), data.extend)
    return bytes(data)


def _then(changes, act):
    for number, change in enumerate(changes):
        if number == 1:
            act()
        yield change


def names_in(data):
    return [entry.name for entry in read_entries(io.BytesIO(data))]


@pytest.mark.parametrize("name", [b".wh.x", b".wh..wh..opq", b".wh.", b"d/.wh.x/y"])
@pytest.mark.parametrize("kind", list(Kind))
def test_names_of_whiteouts_are_refused(pair, name, kind):
    path = os.path.join(os.fsencode(pair[1]), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    with pytest.raises(FailedPrecondition, match="cannot be in an image"):
        written(pair[1], name, kind=kind)
    assert name in names_in(whole(pair[1]))  # an export may hold it


def test_a_removed_name_that_would_hide_a_whole_directory(pair):
    with pytest.raises(FailedPrecondition):
        written(pair[1], b".wh..opq", kind=Kind.DELETED)


def test_overlays_own_mark_is_refused(pair):
    os.mknod(pair[1] / "mark", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    with pytest.raises(FailedPrecondition, match="0:0"):
        written(pair[1], b"mark")


def whole(tree):
    data = bytearray()
    with opened(tree) as (fd,):
        tree_tar.write(fd, data.extend)
    return bytes(data)


def test_the_longest_name_can_be_removed(pair):
    old, new = pair
    (old / ("n" * 255)).touch()
    (old / "stays").touch()
    (new / "stays").touch()
    subprocess.run(["cp", "-a", old / "stays", new], check=True)
    unpack(layer_between(old, new), old)
    assert os.listdir(old) == ["stays"]


def test_sockets_are_left_out(pair):
    os.mknod(pair[1] / "socket", 0o600 | stat.S_IFSOCK)
    assert names_in(written(pair[1], b"", b"socket")) == [b"./"]


@pytest.mark.parametrize("length", [2_000_000, 20_000], ids=["large", "small"])
@pytest.mark.parametrize("size", [0, 10, 100_000, 5_000_000])
def test_a_file_that_changes_its_length_has_that_of_its_header(pair, length, size, monkeypatch):
    (pair[1] / "f").write_bytes(b"x" * length)
    segments = tree_tar._segments

    def cut(fd, found):
        os.truncate(pair[1] / "f", size)
        return segments(fd, found) and None

    monkeypatch.setattr(tree_tar, "_segments", cut)
    entries = read_entries(io.BytesIO(written(pair[1], b"f", b"")))
    (data,) = (b"".join(bytes(chunk) for _, chunk in entry.chunks()) for entry in entries if entry.name == b"f")
    assert data == b"x" * min(size, length) + bytes(max(length - size, 0))


@pytest.mark.parametrize("becomes", ["link", "device", "gone", "directory link"])
def test_what_is_swapped_meanwhile_leads_nowhere(pair, tmp_path, becomes, monkeypatch):
    (tmp_path / "secret").write_text("secret of the host")
    (tmp_path / "host").mkdir()
    (tmp_path / "host/f").write_text("secret of the host")
    (pair[1] / "d").mkdir()
    (pair[1] / "d/f").write_text("own")
    (pair[1] / "a").touch()
    status = tree_tar.descent.status

    def swap(directory, name):
        found = status(directory, name)
        if name == b"f" and becomes != "directory link":
            (pair[1] / "d/f").unlink()
            if becomes == "link":
                (pair[1] / "d/f").symlink_to(tmp_path / "secret")
            elif becomes == "device":
                os.mknod(pair[1] / "d/f", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        return found

    def swap_directory():
        if becomes == "directory link":
            shutil.rmtree(pair[1] / "d")
            (pair[1] / "d").symlink_to(tmp_path / "host")

    monkeypatch.setattr(tree_tar.descent, "status", swap)
    data = written(pair[1], b"a", b"d/f", before=swap_directory)
    assert b"secret" not in data
    assert b"d/f" not in names_in(data)


def test_extremes_come_back(pair, tmp_path):
    old, new = pair
    for number, time in enumerate([-1, -1_000_000_001, 0, 1, 1 << 60, 8**11 * 10**9]):
        (new / str(number)).touch()
        os.chown(new / str(number), 0xFFFFFFFE, 0o7777777 + number)
        os.utime(new / str(number), ns=(0, time))
    os.setxattr(new / "0", "user.a=b%c", b"\0\n=")
    os.setxattr(new / "0", "user.=", b"")
    with (new / "large").open("wb") as stream:
        stream.seek(9 << 30)
        stream.write(b"end")
    with (new / "scattered").open("wb") as stream:
        for place in range(3000):
            stream.seek(place * 8192)
            stream.write(b"x")
    data = layer_between(old, new)
    assert len(data) < 20 << 20
    unpack(data, tmp_path / "old")
    assert (old / "large").stat().st_blocks < 100
    assert (old / "large").stat().st_size == (9 << 30) + 3
    os.unlink(old / "large")
    os.unlink(new / "large")
    found = differences(survey(old), survey(new))
    assert [one for one in found if one.name != b"."] == []
