from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugrun.testing import StorageContract
from plugrun_storage_btrfs import plugrun_storage_drivers

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures.storage import FileSystem
    from plugrun.api import StorageDriver


@pytest.mark.root
class TestContract(StorageContract):
    """The conformance kit on the btrfs driver, opened through its declaration."""

    features = frozenset({"precise-changes", "rename-lower-dir"})

    @pytest.fixture
    def state(self, tmp_path: Path, file_system: FileSystem) -> Path:
        state = file_system("btrfs", tmp_path / "btrfs") / "state"
        state.mkdir(mode=0o700)
        return state

    def open(self, state: Path) -> StorageDriver:
        (spec,) = plugrun_storage_drivers()
        return spec.factory(state, None)
