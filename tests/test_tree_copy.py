"""A file that becomes something else between two looks at it: what it leads to is not copied."""

from __future__ import annotations

import os

import pytest

from plugrun import tree_copy
from plugrun.rootfd import RootDir

pytestmark = pytest.mark.root


@pytest.fixture
def swapped(tmp_path, monkeypatch):
    """Copy a tree in which ``f`` is replaced as soon as it was found to be a file."""
    source, target = tmp_path / "source", tmp_path / "target"
    for directory in (source, target):
        directory.mkdir()
    (source / "f").write_text("own")
    (tmp_path / "secret").write_text("secret of the host")

    def run(replace):
        real = os.stat

        def look(path, *arguments, **options):
            found = real(path, *arguments, **options)
            if path == b"f":
                (source / "f").unlink()
                replace(source / "f")
            return found

        monkeypatch.setattr(tree_copy.os, "stat", look)
        with RootDir.at(source) as here, RootDir.at(target) as there:
            tree_copy.copy_tree(here.fd, there.fd)

    return run, target / "f"


def test_a_file_is_copied(swapped):
    run, copied = swapped
    run(lambda path: path.write_text("new"))
    assert copied.read_text() == "new"


@pytest.mark.parametrize("becomes", ["link", "fifo", "device"])
def test_what_a_file_has_become_is_not(swapped, tmp_path, becomes):
    run, copied = swapped
    make = {
        "link": lambda path: path.symlink_to(tmp_path / "secret"),
        "fifo": os.mkfifo,
        "device": lambda path: os.mknod(path, 0o20666, os.makedev(1, 5)),
    }
    with pytest.raises(OSError, match=r"Too many levels of symbolic links|Stale file handle"):
        run(make[becomes])
    assert not copied.exists()
