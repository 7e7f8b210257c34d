"""The storage conformance kit passes correct drivers, and catches each kind of broken one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import broken_optional
import broken_quota
import broken_storage
from kit_runs import Broken, failures, in_memory
from limited_copies import LimitedCopies
from plugrun.testing import StorageContract

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plugrun.api import StorageDriver

pytestmark = pytest.mark.root


class TestCorrectStorage(StorageContract):
    """Copies pass, so the cases ask nothing that only one driver does."""

    features = frozenset({"rename-lower-dir"})

    @pytest.fixture
    def state(self) -> Iterator[Path]:
        with in_memory() as place:
            yield place

    def open(self, state: Path) -> StorageDriver:
        return LimitedCopies(state)


# --- Broken storage drivers ------------------------------------------------------------------------------------------


MODULES = (broken_storage, broken_optional, broken_quota)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return which cases of the kit each broken driver failed: one run of pytest over all of them."""
    modules = [Path(module.__file__ or "") for module in MODULES]
    return failures(modules, tmp_path_factory.mktemp("kit"))


@pytest.mark.parametrize("broken", [broken for module in MODULES for broken in module.BROKEN.all], ids=str)
def test_kit_catches_broken_storage(failed: dict[str, set[str]], broken: Broken) -> None:
    """By exactly the cases that are about its fault."""
    assert failed[str(broken)] == broken.cases
