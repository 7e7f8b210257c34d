"""Layers written from changes: unpacked on what the tree was, they make of it what it is."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from contextlib import contextmanager
from itertools import pairwise

import pytest

from fixtures.tools import needs_umoci, tool
from images import nasty
from plugrun.changes import compare
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
