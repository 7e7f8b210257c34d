"""Network drivers with one fault each in what every driver must do; ``test_network_kit.py`` runs the kit on them."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path

import pytest

from kit_runs import Drivers
from plain_bridge import PlainBridge, delete, devices, enter, ip, veth
from plain_rules import nft
from plugrun import linux
from plugrun.api import Attachment, DriverError, NamespacePlan, NetResult
from plugrun.testing.network_base import identity
from plugrun.testing.network_endpoints import EndpointCases
from plugrun.testing.network_races import RaceCases
from plugrun.testing.network_teardown import TeardownCases

pytestmark = pytest.mark.root
BROKEN = Drivers(globals())
caught_by = BROKEN.caught_by
NEVER = threading.Event()

ENDPOINT, TEARDOWN, RACE = (EndpointCases,), (TeardownCases,), (RaceCases,)


# --- The plan, and what setup answers -----------------------------------------------------------------------------


@caught_by("test_namespace_is_a_plan", groups=ENDPOINT, only="namespace_is")
class NoPlan(PlainBridge):
    """The plan is something else."""

    def namespace(self, target: str | None) -> NamespacePlan:
        return ()  # type: ignore[return-value]


@caught_by("test_setup_answers_what_it_did", groups=ENDPOINT, only="answers|check_changes")
class NoPrefix(PlainBridge):
    """Addresses without prefix."""

    def setup(self, at: Attachment) -> NetResult:
        result = super().setup(at)
        return result._replace(addresses=tuple(address.partition("/")[0] for address in result.addresses))

    def check(self, at: Attachment, prev: NetResult) -> None:
        super().check(at, prev._replace(addresses=tuple(f"{address}/24" for address in prev.addresses)))


@caught_by("test_setup_answers_what_it_did", groups=ENDPOINT, only="answers|check_passes")
class NotJSON(PlainBridge):
    """Data that JSON changes."""

    def setup(self, at: Attachment) -> NetResult:
        return super().setup(at)._replace(data={"device": ("a", "tuple")})


@caught_by(
    "test_setup_answers_what_it_did",
    "test_check_passes_after_setup",
    "test_setup_again_after_teardown",
    groups=ENDPOINT,
    only="answers|check_passes|again",
)
class ClaimsAddress(PlainBridge):
    """The address is answered, and not there."""

    def setup(self, at: Attachment) -> NetResult:
        result = super().setup(at)
        enter(at, "ip", "addr", "flush", "dev", "eth0")
        return result


@caught_by("test_setup_answers_what_it_did", groups=ENDPOINT, only="answers|check_passes")
class ClaimsGateway(PlainBridge):
    """A default route is answered, and not there."""

    def setup(self, at: Attachment) -> NetResult:
        result = super().setup(at)
        enter(at, "ip", "route", "del", "default")
        return result


@caught_by("test_setup_leaves_rules_of_others", groups=ENDPOINT, only="rules|answers")
class FlushesRules(PlainBridge):
    """Rules are made after ``nft flush ruleset``, as firewalls' scripts do."""

    def setup(self, at: Attachment) -> NetResult:
        os.system("nft flush ruleset")
        return super().setup(at)


@caught_by("test_setup_stays_in_its_own_namespace", groups=ENDPOINT, only="stays|answers")
class LeaksDescriptors(PlainBridge):
    """pyroute2#448."""

    def setup(self, at: Attachment) -> NetResult:
        os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        return super().setup(at)


@caught_by("test_setup_stays_in_its_own_namespace", groups=ENDPOINT, only="stays|answers")
class LeaksThreads(PlainBridge):
    """A thread is started for each container, and never ends."""

    def setup(self, at: Attachment) -> NetResult:
        threading.Thread(target=NEVER.wait, daemon=True).start()
        return super().setup(at)


@caught_by("test_setup_stays_in_its_own_namespace", groups=ENDPOINT, only="stays")
class StaysInside(PlainBridge):
    """The caller ends up in another namespace after teardown."""

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        super().teardown(at, prev)
        linux.unshare(linux.CLONE_NEWNET)


@caught_by(
    "test_containers_do_not_share_addresses",
    "test_address_in_use_is_refused",
    groups=ENDPOINT,
    only="share|in_use|again",
)
class SameAddress(PlainBridge):
    """Nobody remembers which addresses are given."""

    def pick(self, at: Attachment, subnet, used: set[str]) -> str:
        return super().pick(at, subnet, set())


@caught_by("test_wish_is_granted_or_refused", groups=ENDPOINT, only="wish|answers")
class IgnoresWishes(PlainBridge):
    """The address that was asked for is not the one given."""

    def setup(self, at: Attachment) -> NetResult:
        return super().setup(at._replace(ip=None, mac=None))

    def pick(self, at: Attachment, subnet, used: set[str]) -> str:
        return super().pick(
            at, subnet, {*used, str(at.number), "10.77.0.2"} if at.container_id == identity("container", 3) else used
        )


# --- Drift --------------------------------------------------------------------------------------------------------


@caught_by("test_check_notices_drift", "test_check_changes_nothing", groups=ENDPOINT, only="check")
class SeesNoDrift(PlainBridge):
    """``check`` never finds anything."""

    def check(self, at: Attachment, prev: NetResult) -> None:
        pass


@caught_by(
    "test_check_passes_after_setup",
    "test_check_changes_nothing",
    "test_setup_again_after_teardown",
    groups=ENDPOINT,
    only="check|again",
)
class SeesDrift(PlainBridge):
    """``check`` always finds something."""

    def check(self, at: Attachment, prev: NetResult) -> None:
        super().check(at, prev._replace(interface="eth7"))


@caught_by("test_check_changes_nothing", groups=ENDPOINT, only="check")
class RepairsInCheck(PlainBridge):
    """``check`` makes things on the host."""

    def check(self, at: Attachment, prev: NetResult) -> None:
        with contextlib.suppress(DriverError):
            ip("link", "add", "repaired", "type", "bridge")
        super().check(at, prev)


# --- Teardown -----------------------------------------------------------------------------------------------------


@caught_by("test_teardown_needs_nothing", groups=TEARDOWN, only="needs|never")
class LeaksInterfaces(PlainBridge):
    """Teardown forgets the interface."""

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        super().teardown(at._replace(leaving=True, netns=at.netns or "gone"), prev)


@caught_by("test_teardown_needs_nothing", "test_teardown_of_what_never_was", groups=TEARDOWN, only="needs|never|leave")
class NeedsNamespace(PlainBridge):
    """Teardown goes into the namespace."""

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        enter(at, "true")
        super().teardown(at, prev)


@caught_by("test_teardown_needs_nothing", groups=TEARDOWN, only="needs|never|leave")
class SkipsWithoutNamespace(PlainBridge):
    """netavark#1451."""

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        if at.netns is not None:
            super().teardown(at, prev)


@caught_by("test_teardown_needs_nothing", groups=TEARDOWN, only="needs|order|comes_back")
class NeedsResult(PlainBridge):
    """Teardown does nothing without the stored result."""

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        if prev is not None:
            super().teardown(at, prev)


@caught_by("test_teardown_needs_nothing", groups=TEARDOWN, only="needs")
class RemembersInMemory(PlainBridge):
    """Teardown knows only what this very driver set up."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.mine: set[str] = set()

    def setup(self, at: Attachment) -> NetResult:
        self.mine.add(at.container_id)
        return super().setup(at)

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        if at.container_id in self.mine:
            super().teardown(at, prev)


@caught_by(
    "test_teardown_needs_nothing",
    "test_teardown_of_what_never_was",
    "test_teardown_after_a_failed_setup",
    groups=TEARDOWN,
    only="needs|never|failed|leave",
)
class OnlyOnce(PlainBridge):
    """The second teardown finds nothing to delete, and raises."""

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        if not at.leaving:
            ip("link", "del", veth(at))
        super().teardown(at, prev)


@caught_by("test_teardown_after_a_failed_setup", groups=TEARDOWN, only="failed|needs")
class LeaksOnFailure(PlainBridge):
    """A setup that fails leaves what teardown does not know of."""

    def setup(self, at: Attachment) -> NetResult:
        try:
            return super().setup(at)
        except DriverError:
            ip("link", "add", f"left{at.container_id[-8:]}", "type", "bridge")
            raise


@caught_by("test_teardown_after_a_failed_setup", groups=TEARDOWN, only="failed|needs")
class RaisesAnything(PlainBridge):
    """A setup that fails raises what no engine knows."""

    def setup(self, at: Attachment) -> NetResult:
        os.stat(str(at.netns))
        return super().setup(at)


@caught_by("test_teardown_may_leave_things_to_the_namespace", groups=TEARDOWN, only="leave|needs")
class LeavesTooMuch(PlainBridge):
    """With ``leaving`` nothing at all is done, as if rules and leases ended with the namespace."""

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        if not at.leaving:
            super().teardown(at, prev)


@caught_by("test_containers_end_in_any_order", groups=TEARDOWN, only="order|comes_back")
class ForgetsTheOthers(PlainBridge):
    """Teardown of one removes the interfaces of all."""

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        super().teardown(at, prev)
        for device in devices():
            if device.startswith("pv"):
                delete(device)


# --- Collecting ---------------------------------------------------------------------------------------------------


@caught_by(
    "test_gc_spares_the_valid",
    "test_gc_works_from_names_alone",
    "test_containers_end_in_any_order",
    groups=TEARDOWN,
    only="gc|order",
)
class CollectsAll(PlainBridge):
    """``gc`` removes valid ones too."""

    def gc(self, valid: frozenset[str]) -> None:
        super().gc(frozenset())


@caught_by("test_gc_spares_the_valid", "test_gc_works_from_names_alone", groups=TEARDOWN, only="gc")
class CollectsNothing(PlainBridge):
    """``gc`` removes only what the networks need."""

    def gc(self, valid: frozenset[str]) -> None:
        if not valid:
            super().gc(valid)


@caught_by("test_gc_spares_the_valid", "test_gc_works_from_names_alone", groups=TEARDOWN, only="gc")
class KeepsRules(PlainBridge):
    """What the driver made for all networks together is never removed."""

    def setup(self, at: Attachment) -> NetResult:
        nft(rules="table inet plain_shared {}")
        return super().setup(at)


@caught_by("test_gc_of_nothing", groups=TEARDOWN, only="gc_of")
class CollectsUnknown(PlainBridge):
    """``gc`` trusts that it knows every valid id."""

    def gc(self, valid: frozenset[str]) -> None:
        with self.leases() as leases:
            for container in valid:
                leases[f"{container}/0"]
        super().gc(valid)


# --- Several at once ----------------------------------------------------------------------------------------------


@caught_by(
    "test_processes_do_not_disturb_each_other",
    "test_threads_do_not_disturb_each_other",
    "test_gc_beside_setups",
    groups=RACE,
)
class TakesNoLock(PlainBridge):
    """The leases are read and written without a lock."""

    @contextlib.contextmanager
    def leases(self):
        path = self.state / "leases"
        try:
            leases = json.loads(path.read_text())
        except (OSError, ValueError):
            leases = {}
        yield leases
