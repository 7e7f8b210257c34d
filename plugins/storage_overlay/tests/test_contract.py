from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugrun.testing import StorageContract
from plugrun_storage_overlay import plugrun_storage_drivers

if TYPE_CHECKING:
    from pathlib import Path

    from plugrun.api import StorageDriver


@pytest.mark.root
class TestContract(StorageContract):
    """The conformance kit on the overlay driver, opened through its declaration."""

    features = frozenset({"precise-changes"})

    def open(self, state: Path) -> StorageDriver:
        (spec,) = plugrun_storage_drivers()
        return spec.factory(state, None)
