"""Where things are kept, and that only root may look."""

from __future__ import annotations

import os

import pytest

from plugrun import paths
from plugrun.errors import InvalidArgument, Unavailable


@pytest.mark.parametrize("bad", ["relative", "/a:b", "/a,b", "/a\\b", "/a\nb"])
def test_a_directory_that_mount_options_cannot_carry_is_refused(bad):
    with pytest.raises(InvalidArgument, match="cannot be a state directory"):
        paths.resolve(bad, "/run/x")


def test_arguments_win_over_the_environment(monkeypatch):
    monkeypatch.setenv("PLUGRUN_ROOT", "/env/root")
    monkeypatch.delenv("PLUGRUN_RUNROOT", raising=False)
    assert str(paths.resolve(None, None).root) == "/env/root"
    assert str(paths.resolve("/arg", None).root) == "/arg"
    assert str(paths.resolve(None, None).run_root) == paths.DEFAULT_RUN_ROOT


@pytest.mark.root
def test_directories_are_private_whatever_the_umask(tmp_path):
    previous = os.umask(0)
    try:
        where = paths.resolve(str(tmp_path / "deep" / "root"), str(tmp_path / "run"))
        where.ensure()
        where.ensure()
    finally:
        os.umask(previous)
    for directory in (where.root, where.run_root, where.root / "storage", where.run_root / "netns"):
        assert directory.stat().st_mode & 0o777 == 0o700, directory


@pytest.mark.root
def test_a_file_where_a_directory_is_wanted_is_named(tmp_path):
    (tmp_path / "root").write_text("")
    with pytest.raises(Unavailable, match=r"cannot use .*/root as state directory: Not a directory"):
        paths.resolve(str(tmp_path / "root"), str(tmp_path / "run")).ensure()


@pytest.mark.root
@pytest.mark.parametrize("place", ["/proc/nope", "/proc/nope/deep"])
def test_a_place_where_nothing_can_be_made_is_named(tmp_path, place):
    with pytest.raises(Unavailable, match=r"cannot use /proc/nope.* as state directory: No such file or directory"):
        paths.resolve(place, str(tmp_path / "run")).ensure()


def test_without_root_rights_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match="needs root rights"):
        paths.resolve(str(tmp_path / "root"), str(tmp_path / "run")).ensure()
