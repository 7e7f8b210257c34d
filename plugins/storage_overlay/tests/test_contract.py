from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from plugrun.testing import StorageContract
from plugrun.testing.storage_clone import CloneCases
from plugrun.testing.storage_quota import QuotaCases
from plugrun_storage_overlay import plugrun_storage_drivers

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures.storage import FileSystem
    from plugrun.api import StorageDriver


def open_declared(state: Path) -> StorageDriver:
    (spec,) = plugrun_storage_drivers()
    return spec.factory(state, None)


@pytest.mark.root
class TestContract(StorageContract):
    """The conformance kit on the overlay driver, opened through its declaration."""

    features = frozenset({"precise-changes"})

    def open(self, state: Path) -> StorageDriver:
        return open_declared(state)


@pytest.mark.root
class TestOnXfs(QuotaCases, CloneCases):
    """What the driver does otherwise where the file system limits projects (and shares extents)."""

    @pytest.fixture
    def state(self, tmp_path: Path, file_system: FileSystem) -> Path:
        try:
            place = file_system("xfs", tmp_path / "xfs", options="prjquota")
        except subprocess.CalledProcessError:  # a kernel without CONFIG_XFS_QUOTA; then the driver says so
            place = file_system("xfs", tmp_path / "xfs")
        state = place / "state"
        state.mkdir(mode=0o700)
        return state

    def open(self, state: Path) -> StorageDriver:
        return open_declared(state)
