"""The conformance kit passes correct drivers, and catches each kind of broken one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import broken_optional
import broken_quota
import broken_storage
from fakes import VethNetwork, devices, enter, ip
from kit_runs import Broken, failures, in_memory
from limited_copies import LimitedCopies
from plugrun.api import Attachment, NamespacePlan, NetResult, NetworkDriver, StorageDriver
from plugrun.testing import NetworkContract, StorageContract

if TYPE_CHECKING:
    from collections.abc import Iterator

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


class TestCorrectNetwork(NetworkContract):
    """A driver that really makes links passes, so the cases can be met."""

    def open(self, state: Path) -> NetworkDriver:
        return VethNetwork(state)


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


# --- Broken network drivers ------------------------------------------------------------------------------------------


class ChangesItsMind(VethNetwork):
    def namespace(self, target: str | None) -> NamespacePlan:
        return ()  # type: ignore[return-value]


class NoPrefix(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        result = super().setup(at)
        return NetResult(tuple(address.partition("/")[0] for address in result.addresses), result.data)


class NotJSON(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        result = super().setup(at)
        return NetResult(result.addresses, {"device": ("a", "tuple")})


class ClaimsAddress(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        result = super().setup(at)
        enter(at, "ip", "addr", "flush", "dev", "eth0")
        return result


class SeesNoDrift(VethNetwork):
    def check(self, at: Attachment, prev: NetResult) -> None:
        pass


class RemembersInMemory(VethNetwork):
    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.mine: set[str] = set()

    def setup(self, at: Attachment) -> NetResult:
        self.mine.add(at.container_id)
        return super().setup(at)

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        if at.container_id in self.mine:
            super().teardown(at, prev)


class SameAddress(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        super().setup(at)
        return NetResult(("10.99.0.2/24",))


class LeaksDescriptors(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        return super().setup(at)


class NeedsNamespace(VethNetwork):
    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        enter(at, "true")
        super().teardown(at, prev)


class SkipsWithoutNamespace(VethNetwork):
    """netavark#1451."""

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        if at.netns is not None:
            super().teardown(at, prev)

    def setup(self, at: Attachment) -> NetResult:
        result = super().setup(at)
        if "fakebridge" not in devices():
            ip("link", "add", "fakebridge", "type", "bridge")
        return result


class NeedsResult(VethNetwork):
    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        if prev is not None:
            super().teardown(at, prev)


class OnlyOnce(VethNetwork):
    def delete(self, device: str) -> None:
        ip("link", "del", device)


class LeaksOnFailure(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        ip("link", "add", f"left{at.container_id[-8:]}", "type", "bridge")
        return super().setup(at)


class RaisesAnything(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        enter(at, "true")
        return super().setup(at)


class SetupOnce(VethNetwork):
    def setup(self, at: Attachment) -> NetResult:
        marker = self.state / at.container_id
        marker.touch(exist_ok=False)
        return super().setup(at)


class CollectsAll(VethNetwork):
    def gc(self, valid: frozenset[str]) -> None:
        super().gc(frozenset())


class CollectsNothing(VethNetwork):
    def gc(self, valid: frozenset[str]) -> None:
        pass


THERE = {"netns": "there", "prev": "stored"}
NETWORK: list[tuple[type, str, dict[str, Any]]] = [
    (ChangesItsMind, "test_namespace_is_a_plan", {}),
    (NoPrefix, "test_setup_answers_what_it_did", {}),
    (NotJSON, "test_setup_answers_what_it_did", {}),
    (ClaimsAddress, "test_setup_answers_what_it_did", {}),
    (SeesNoDrift, "test_check_notices_drift", {}),
    (ClaimsAddress, "test_check_passes_after_setup", {}),
    (RemembersInMemory, "test_teardown_needs_nothing", THERE),
    (SameAddress, "test_containers_do_not_share_addresses", {}),
    (LeaksDescriptors, "test_setup_stays_in_its_own_namespace", {}),
    (NeedsNamespace, "test_teardown_needs_nothing", {"netns": "none", "prev": "stored"}),
    (SkipsWithoutNamespace, "test_teardown_needs_nothing", {"netns": "none", "prev": "stored"}),
    (NeedsResult, "test_teardown_needs_nothing", {"netns": "there", "prev": "lost"}),
    (OnlyOnce, "test_teardown_needs_nothing", THERE),
    (OnlyOnce, "test_teardown_of_what_never_was", {}),
    (LeaksOnFailure, "test_teardown_after_a_failed_setup", {}),
    (RaisesAnything, "test_teardown_after_a_failed_setup", {}),
    (SetupOnce, "test_setup_again_after_teardown", {}),
    (CollectsAll, "test_gc_spares_the_valid", {}),
    (CollectsNothing, "test_gc_spares_the_valid", {}),
]


@pytest.mark.parametrize(("broken", "case", "arguments"), NETWORK, ids=lambda value: getattr(value, "__name__", None))
def test_kit_catches_broken_network(tmp_path: Path, broken: type, case: str, arguments: dict[str, Any]) -> None:
    class Kit(NetworkContract):
        def open(self, state: Path) -> NetworkDriver:
            driver: NetworkDriver = broken(state)
            return driver

    state = tmp_path / "state"
    state.mkdir()
    before = devices()
    driver, kit = VethNetwork(state), Kit()
    attaching = type(kit).attach.__wrapped__(kit, driver, tmp_path)  # type: ignore[attr-defined]
    values: dict[str, Any] = {
        "state": state,
        "tmp_path": tmp_path,
        "driver": broken(state),
        "attach": next(attaching),
    }
    try:
        assert caught(kit, case, {**values, **arguments})
    finally:
        next(attaching, None)
        for device in devices() - before:
            VethNetwork(state).delete(device)


def caught(kit: object, case: str, values: dict[str, Any]) -> bool:
    """Run one case; whether it failed, as a test runner would see it."""
    function = getattr(type(kit), case)
    names = function.__code__.co_varnames[1 : function.__code__.co_argcount]
    try:
        function(kit, **{name: values[name] for name in names})
    except pytest.skip.Exception as skipped:
        raise AssertionError(f"{case} was skipped: {skipped}") from None
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - a test runner counts any of them
        return True
    return False
