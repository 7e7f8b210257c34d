"""The network conformance kit passes correct drivers, and catches each kind of broken one."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import broken_network
import broken_networks
from kit_runs import Broken, failures
from plain_bridge import PlainBridge
from plugrun.testing import NetworkContract

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from plugrun.api import NetworkDriver

pytestmark = pytest.mark.root


class TestCorrectNetwork(NetworkContract):
    """A driver that does all that can be asked passes, so the cases can be met."""

    features = frozenset({"meet", "reach-host", "reach-out", "isolated"})
    bad_targets = ("web", "")

    def open(self, state: Path) -> NetworkDriver:
        return PlainBridge(state)


MODULES = (broken_network, broken_networks)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[ModuleType], dict[str, set[str]]]:
    """Return which cases of the kit each broken driver of a module failed: one run of pytest over all of them."""

    @functools.cache
    def failed_of(module: ModuleType) -> dict[str, set[str]]:
        return failures([Path(module.__file__ or "")], tmp_path_factory.mktemp("kit"))

    return failed_of


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("module", "broken"),
    [pytest.param(module, broken, id=str(broken)) for module in MODULES for broken in module.BROKEN.all],
)
def test_kit_catches_broken_network(
    failed: Callable[[ModuleType], dict[str, set[str]]], module: ModuleType, broken: Broken
) -> None:
    """By exactly the cases that are about its fault."""
    assert failed(module)[str(broken)] == broken.cases
