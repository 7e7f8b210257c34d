from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugrun.api import Unavailable
from plugrun.manager import load
from plugrun_storage_btrfs import plugrun_storage_drivers
from plugrun_storage_btrfs.probe import probe

if TYPE_CHECKING:
    from fixtures.storage import FileSystem

POOL = "plugrun storage create btrfs --size 20G"
CODE = "import sys, pathlib; from plugrun_storage_btrfs.probe import probe; print(probe(pathlib.Path(sys.argv[1])))"


@pytest.mark.root
def test_works_on_btrfs_and_leaves_no_trace(tmp_path: Path, file_system: FileSystem) -> None:
    place = file_system("btrfs", tmp_path / "btrfs")
    (spec,) = plugrun_storage_drivers()
    descriptors = len(os.listdir("/proc/self/fd"))
    assert spec.probe(place) is None
    assert spec.probe(place / "not/there/yet") is None
    assert list(place.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.root
def test_elsewhere_it_names_the_pool(tmp_path: Path, file_system: FileSystem) -> None:
    place = file_system("ext4", tmp_path / "ext4", size=64 * 2**20)
    reason = str(probe(place / "state"))
    assert f"{place} is not on btrfs" in reason
    assert POOL in reason
    (spec,) = plugrun_storage_drivers()
    with pytest.raises(Unavailable, match="is not on btrfs") as refused:
        spec.factory(place, None)
    assert POOL in str(refused.value.hint)
    assert sorted(os.listdir(place)) == ["lost+found"]


@pytest.mark.root
@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (None, "btrfsutil is not installed"),
        ("raise ImportError('undefined symbol: btrfs_util_subvolume_is_valid')", "does not load (undefined symbol"),
    ],
)
def test_the_binding_is_needed(tmp_path: Path, module: str | None, reason: str) -> None:
    """One sentence says what to install, and the other plugins work as ever."""
    if module is None:
        blocked = "import sys; sys.modules['btrfsutil'] = None; "
    else:
        (tmp_path / "btrfsutil.py").write_text(module)
        blocked = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    answer = subprocess.run(
        [sys.executable, "-c", blocked + CODE, str(tmp_path)], check=True, capture_output=True, text=True
    ).stdout
    assert reason in answer
    assert "pip install" in answer
    assert answer.count("\n") == 1
    code = blocked + "from plugrun.manager import load; print(sorted(load().storage), load().rejected)"
    listed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert listed.startswith("['btrfs', 'overlay']")


@pytest.mark.root
@pytest.mark.parametrize("prefix", [["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"], []])
def test_rights_are_needed(prefix: list[str]) -> None:
    command = [*prefix, sys.executable, "-c", CODE, "/"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert ("CAP_SYS_ADMIN" in answer) == bool(prefix)


@pytest.mark.root
def test_kernel_without_btrfs(tmp_path: Path) -> None:
    fake = tmp_path / "filesystems"
    fake.write_text("nodev\tproc\n\text4\n\tbtrfsish\n")
    subprocess.run(["mount", "--bind", str(fake), "/proc/filesystems"], check=True)
    try:
        assert "the kernel has no btrfs" in str(probe(tmp_path))
    finally:
        subprocess.run(["umount", "/proc/filesystems"], check=True)


def test_declaring_it_is_cheap() -> None:
    code = (
        "import sys, plugrun_storage_btrfs as one; list(one.plugrun_storage_drivers());"
        "print({name for name in sys.modules if name.startswith(('btrfsutil', 'plugrun_storage_btrfs.'))})"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


def test_is_declared() -> None:
    declared = load().storage["btrfs"]
    assert declared.dist == "plugrun-storage-btrfs"
