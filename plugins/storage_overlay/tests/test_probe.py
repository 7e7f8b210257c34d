from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugrun_storage_overlay import plugrun_storage_drivers
from plugrun_storage_overlay.probe import probe

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root


@contextlib.contextmanager
def mount(target: Path, *arguments: str) -> Iterator[Path]:
    subprocess.run(["mount", *arguments, str(target)], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", str(target)], check=True)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "place"
    place.mkdir()
    return place


def test_works_here_and_leaves_no_trace(tmp_path: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    (spec,) = plugrun_storage_drivers()
    assert spec.probe(tmp_path) is None
    assert spec.probe(tmp_path / "not/there/yet") is None
    assert list(tmp_path.iterdir()) == []
    assert Path("/proc/self/mountinfo").read_text() == before


def test_overlay_cannot_be_stacked(tmp_path: Path, place: Path) -> None:
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    with mount(place, "-t", "overlay", "-o", options, "overlay"):
        assert "is on overlay itself" in str(probe(place / "state"))


def test_attributes_are_needed(place: Path) -> None:
    with mount(place, "-t", "ramfs", "ramfs"):
        assert "keeps no trusted.* attributes" in str(probe(place))
    with mount(place, "-t", "tmpfs", "tmpfs"):
        assert probe(place) is None, "positive control"


@pytest.mark.parametrize("types", [True, False])
def test_entry_types_are_needed(tmp_path: Path, place: Path, types: bool) -> None:
    image = tmp_path / "disk"
    with image.open("wb") as stream:
        stream.truncate(8 * 2**20)
    feature = "filetype" if types else "^filetype"
    subprocess.run(["mkfs.ext4", "-q", "-O", feature, str(image)], check=True)
    with mount(place, "-o", "loop", str(image)):
        reason = probe(place)
    assert reason is None if types else "does not tell the type" in str(reason)


def test_kernel_without_overlay(tmp_path: Path) -> None:
    fake = tmp_path / "filesystems"
    fake.write_text("nodev\tproc\n\text4\nnodev\toverlayish\n")
    with mount(Path("/proc/filesystems"), "--bind", str(fake)):
        assert "the kernel has no overlay file system" in str(probe(tmp_path))


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        (["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"], "CAP_SYS_ADMIN"),
        (["unshare", "--user", "--map-root-user"], "user namespace"),
        ([], "None"),
    ],
)
def test_rights_are_needed(tmp_path: Path, prefix: list[str], reason: str) -> None:
    code = "import sys, pathlib; from plugrun_storage_overlay.probe import probe; print(probe(pathlib.Path('/')))"
    command = [*prefix, sys.executable, "-c", code]
    assert reason in subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_probe_leaks_no_descriptor(tmp_path: Path) -> None:
    probe(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    probe(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
