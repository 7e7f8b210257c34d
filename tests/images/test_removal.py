"""Removing trees: any depth, few descriptors, nothing outside, and what is to be kept stays."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugrun.errors import FailedPrecondition
from plugrun.images.removal import identity, remove_tree


@pytest.fixture
def place(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_a_tree_and_its_links_go_and_their_targets_stay(tmp_path: Path, place: int):
    (tmp_path / "host").mkdir()
    (tmp_path / "host/secret").touch()
    (tmp_path / "t/sub").mkdir(parents=True)
    (tmp_path / "t/sub/link").symlink_to(tmp_path / "host")
    (tmp_path / "t/file").touch()
    os.mkfifo(tmp_path / "t/pipe")
    remove_tree(place, b"t")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["host", "secret"]


@pytest.mark.parametrize("kind", ["file", "link", "missing"])
def test_what_is_no_directory(tmp_path: Path, place: int, kind: str):
    if kind == "file":
        (tmp_path / "t").touch()
    elif kind == "link":
        (tmp_path / "t").symlink_to("/")
    remove_tree(place, b"t")
    assert not os.listdir(tmp_path)


def test_a_deep_tree_needs_few_descriptors(tmp_path: Path, place: int):
    depth = 1100  # more than Python recurses, and more than the descriptors of most processes
    below = os.dup(place)
    for _ in range(depth):
        os.mkdir(b"d", dir_fd=below)
        next_ = os.open(b"d", os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = next_
    os.close(below)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 5, hard))
    try:
        remove_tree(place, b"d")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not os.listdir(tmp_path)


def test_kept_entries_stay_with_their_directories(tmp_path: Path, place: int):
    for name in ("t/own", "t/lower"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "keep").touch()
        (tmp_path / name / "go").touch()
    (tmp_path / "t/gone/sub").mkdir(parents=True)
    own = identity((tmp_path / "t").stat())
    os.utime(tmp_path / "t/own", (5, 5))
    remove_tree(place, b"t", lambda where, name: name == b"keep" or (where, name) == (own, b"own"))
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["t", "t/lower", "t/lower/keep", "t/own", "t/own/keep"]
    assert (tmp_path / "t/own").stat().st_mtime == 5


def test_a_directory_moved_meanwhile_does_not_lead_elsewhere(tmp_path: Path, place: int):
    (tmp_path / "t/sub/inner").mkdir(parents=True)
    (tmp_path / "host").mkdir()
    (tmp_path / "host/inner").mkdir()
    sub = identity((tmp_path / "t/sub").stat())

    def move(where: tuple[int, int], name: bytes) -> bool:
        if where == sub and name == b"inner" and (tmp_path / "t/sub").exists():
            (tmp_path / "t/sub").rename(tmp_path / "host/sub")
        return False

    with pytest.raises(FailedPrecondition, match="moved"):
        remove_tree(place, b"t", move)
    assert (tmp_path / "host/inner").is_dir()


def test_no_descriptor_is_left_open(tmp_path: Path, place: int):
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "t/sub").mkdir(parents=True)
    remove_tree(place, b"t")
    assert len(os.listdir("/proc/self/fd")) == before
