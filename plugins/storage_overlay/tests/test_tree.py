from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import pytest

from plugrun_storage_overlay.tree import delete, measure


@pytest.fixture
def trash(tmp_path: Path) -> Path:
    trash = tmp_path / "trash"
    trash.mkdir()
    return trash


def remove(trash: Path, name: str = "x@1") -> None:
    descriptor = os.open(trash, os.O_PATH | os.O_DIRECTORY)
    try:
        delete(descriptor, name)
    finally:
        os.close(descriptor)


def test_delete_everything_and_nothing_else(trash: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("x")
    (trash / "other").mkdir()
    for number in range(3):
        (trash / f"x@1/d{number}/e/f").mkdir(parents=True)
        (trash / f"x@1/d{number}/file").write_text("x")
        (trash / f"x@1/d{number}/link").symlink_to(tmp_path / "outside")
    (trash / "x@1/up").symlink_to(tmp_path)
    os.mkfifo(trash / "x@1/pipe")
    remove(trash)
    assert [path.name for path in trash.iterdir()] == ["other"]
    assert (tmp_path / "outside").exists()


def test_delete_what_is_not_a_directory(trash: Path, tmp_path: Path) -> None:
    (trash / "x@1").symlink_to(tmp_path)
    remove(trash)
    (trash / "x@1").write_text("x")
    remove(trash)
    remove(trash)  # absent
    assert tmp_path.is_dir()
    assert list(trash.iterdir()) == []


def test_delete_steps_over_names_left_by_a_crash(trash: Path) -> None:
    (trash / "x@1.0/full").mkdir(parents=True)
    (trash / "x@1/d/e").mkdir(parents=True)
    remove(trash)
    assert [path.name for path in trash.iterdir()] == ["x@1.0"]


def test_delete_needs_few_descriptors_and_no_stack(trash: Path) -> None:
    deepen(trash / "x@1", 3000)
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, old[1]))
    try:
        remove(trash)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    assert list(trash.iterdir()) == []


def test_delete_a_wide_directory(trash: Path) -> None:
    (trash / "x@1").mkdir()
    for number in range(5000):
        (trash / f"x@1/{number}").touch()
    remove(trash)
    assert list(trash.iterdir()) == []


def test_two_may_delete_the_same(trash: Path) -> None:
    for number in range(200):
        (trash / f"x@1/d{number}/e/f").mkdir(parents=True)
        (trash / f"x@1/d{number}/file").touch()
    failures: list[OSError] = []

    def work() -> None:
        try:
            remove(trash)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(trash.iterdir()) == []


def test_measure_counts_hard_links_once_and_follows_nothing(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "f").write_bytes(b"x" * 2**16)
    (top / "d/twin").hardlink_to(top / "f")
    (tmp_path / "outside").write_bytes(b"x" * 2**20)
    (top / "link").symlink_to("../outside")
    size, inodes = measure(str(top))
    assert 2**16 <= size < 2**17
    assert inodes == 3


def test_measure_stops_counting_where_descriptors_end(tmp_path: Path) -> None:
    top = tmp_path / "top"
    deepen(top, 1000)
    descriptors = len(os.listdir("/proc/self/fd"))
    _, inodes = measure(str(top))
    assert inodes == 200
    assert len(os.listdir("/proc/self/fd")) == descriptors
    top.rename(tmp_path / "trash@1")
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    delete(descriptor, "trash@1")
    os.close(descriptor)


def deepen(top: Path, levels: int) -> None:
    top.mkdir()
    here = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
