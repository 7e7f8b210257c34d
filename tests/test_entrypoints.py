"""Installed entry points are found as importlib.metadata finds them, and only where others cannot put them."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from plugrun import entrypoints
from sites import GOOD, GROUP, found, fresh_site, install

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from plugrun.manager import Plugins, Rejected


@pytest.fixture(autouse=True)
def forgiving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLUGRUN_STRICT", raising=False)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from fresh_site(tmp_path, monkeypatch)


def only(plugins: Plugins) -> Rejected:
    (rejected,) = plugins.rejected
    return rejected


def test_entry_points_are_those_of_importlib_metadata() -> None:
    for group in ("plugrun", "console_scripts", "pytest11"):
        theirs = {(one.name, one.value, one.dist.name, one.dist.version) for one in metadata.entry_points(group=group)}
        ours = {(one.name, one.value, one.dist, one.version) for one in entrypoints.find(group)}
        assert ours == theirs
        assert ours


def test_entry_points_are_sorted(site: Path) -> None:
    install(site, "acme-b", {"b": "acme_b"})
    install(site, "acme-a", {"c": "acme_a", "a": "acme_a"})
    assert [one.name for one in entrypoints.find(GROUP)] == ["a", "b", "c"]


def test_first_installation_on_the_path_counts(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = tmp_path / "later"
    later.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(later), "", str(tmp_path / "missing"), __file__])
    install(site, "acme-a", {"a": "acme_a"}, version="2.0")
    install(later, "Acme.A", {"a": "acme_a"}, version="1.0")
    assert [one.version for one in entrypoints.find(GROUP)] == ["2.0"]


def test_current_directory_is_no_place_for_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "acme-a", {"a": "acme_a"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", *sys.path])
    assert entrypoints.find(GROUP) == []
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert len(entrypoints.find(GROUP)) == 1, "positive control: it would be found there"


def test_identity_falls_back_on_the_directory(site: Path) -> None:
    install(site, "acme-a", {"a": "acme_a:one.two [extra]"})
    next(site.glob("*.dist-info/METADATA")).unlink()
    (one,) = entrypoints.find(GROUP)
    assert (one.dist, one.version, one.value) == ("acme_a", "1.0", "acme_a:one.two")


def test_objects_and_modules_can_be_entry_points(site: Path) -> None:
    source = GOOD.replace("\n", "\n    ").replace("def plugrun_storage_drivers()", "def plugrun_storage_drivers(self)")
    install(site, "acme-a", {"a": "acme_a:Holder.one"}, f"class Acme:{source}\nclass Holder:\n    one = Acme()\n")
    plugins = found()
    assert (plugins.storage["good"].dist, plugins.storage["good"].plugin, plugins.rejected) == ("acme-a", "a", ())


@pytest.mark.parametrize(("mode", "uid"), [(0o777, 0), (0o755, 12345)])
@pytest.mark.parametrize("place", [".", "acme_a-1.0.dist-info"])
def test_plugin_that_others_can_change_is_not_imported(site: Path, mode: int, uid: int, place: str) -> None:
    install(site, "acme-a", {"a": "acme_a"}, GOOD + "open(__file__ + '.ran', 'w').close()\n")
    if uid and os.geteuid() != 0:
        pytest.skip("needs root to give a directory away")
    (site / place).chmod(mode)
    if uid:
        os.chown(site / place, uid, uid)
    assert "can be changed by other users" in only(found()).reason
    assert not (site / "acme_a.py.ran").exists()
    (site / place).chmod(0o755)
    os.chown(site / place, os.geteuid(), -1)
    assert set(found().storage) == {"good"}, "positive control"
