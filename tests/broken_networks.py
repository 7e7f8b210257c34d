"""Network drivers with one fault each in what drivers may do besides, or in what a crash leaves behind."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from kit_runs import Drivers
from plain_bridge import PlainBridge, delete, endpoint, ip, veth
from plain_rules import nft, set_rules
from plugrun.api import Attachment, Hop, InvalidArgument, NetResult, Network, NetworkDraft, PacketPath, PortMapping
from plugrun.testing.network_faults import FaultCases
from plugrun.testing.network_networks import NetworksCases
from plugrun.testing.network_ports import PortCases
from plugrun.testing.network_rules import ExplainCases, ReloadCases

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.root
BROKEN = Drivers(globals())
FEATURES = frozenset({"meet", "isolated", "reach-host", "reach-out"})

NETWORKS, PORTS, RULES, FAULTS = (NetworksCases,), (PortCases,), (ReloadCases, ExplainCases), (FaultCases,)


def caught_by(*cases: str, groups: tuple[type, ...], only: str = ""):
    return BROKEN.caught_by(*cases, groups=groups, only=only, features=FEATURES)


# --- Networks -----------------------------------------------------------------------------------------------------


@caught_by("test_networks_do_not_overlap", "test_overlapping_subnet_is_refused", groups=NETWORKS, only="overlap|bad")
class ForgetsOthers(PlainBridge):
    """The networks that there are, are not looked at."""

    def make_network(self, draft: NetworkDraft, others: Sequence[Network]) -> Network:
        return super().make_network(draft, ())


@caught_by("test_network_is_complete_and_changes_nothing", groups=NETWORKS, only="complete|removed")
class MakesNetworksAtOnce(PlainBridge):
    """``make_network`` makes the bridge."""

    def make_network(self, draft: NetworkDraft, others: Sequence[Network]) -> Network:
        network = super().make_network(draft, others)
        with contextlib.suppress(Exception):
            self.make_bridge(network)
        return network


@caught_by("test_bad_subnet_is_refused", groups=NETWORKS, only="overlap|bad")
class QuotesNothing(PlainBridge):
    """A refusal does not say which value is wrong."""

    def make_network(self, draft: NetworkDraft, others: Sequence[Network]) -> Network:
        try:
            return super().make_network(draft, others)
        except InvalidArgument:
            raise InvalidArgument("the subnet makes no sense") from None


@caught_by("test_removed_network_leaves_nothing", groups=NETWORKS, only="removed|complete")
class KeepsRemovedNetworks(PlainBridge):
    """``remove_network`` leaves it to ``gc``."""

    def remove_network(self, network: Network) -> None:
        pass


@caught_by("test_lost_interface_comes_back", groups=NETWORKS, only="lost|removed")
class MakesBridgesOnce(PlainBridge):
    """A bridge that was made once is taken to be there."""

    def make_bridge(self, network: Network) -> None:
        marker = self.state / network.interface
        if not marker.exists():
            super().make_bridge(network)
            marker.touch()

    def remove_network(self, network: Network) -> None:
        super().remove_network(network)
        (self.state / network.interface).unlink(missing_ok=True)


@caught_by("test_full_network_is_refused_and_recovers", groups=NETWORKS, only="full|cannot_be")
class LosesAddresses(PlainBridge):
    """An address that was given once is never given again."""

    def pick(self, at: Attachment, subnet, used: set[str]) -> str:
        given = self.state / "given"
        before = set(given.read_text().split()) if given.exists() else set()
        address = super().pick(at, subnet, used | before)
        given.write_text(" ".join({*before, address}))
        return address


@caught_by("test_addresses_are_of_the_network", groups=NETWORKS, only="of_the|full")
class IgnoresRanges(PlainBridge):
    """``ip_range`` is not looked at."""

    def pick(self, at: Attachment, subnet, used: set[str]) -> str:
        return super().pick(at, subnet._replace(ip_range=None), used)


@caught_by("test_container_on_two_networks", groups=NETWORKS, only="two|meet")
class OneEndpoint(PlainBridge):
    """Whatever goes, all endpoints of the container go."""

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        for number in range(2):
            super().teardown(at._replace(number=number), prev)


@caught_by("test_networks_are_isolated", groups=NETWORKS, only="isolated|meet|reach")
class ConnectsNetworks(PlainBridge):
    """Bridges of different networks reach each other."""

    def setup(self, at: Attachment) -> NetResult:
        result = super().setup(at)
        nft(rules="flush chain inet plain forward")
        return result


@caught_by("test_containers_reach_out", groups=NETWORKS, only="isolated|meet|reach")
class NoWayOut(PlainBridge):
    """What containers send outwards bears an address that nobody out there knows."""

    def setup(self, at: Attachment) -> NetResult:
        result = super().setup(at)
        nft(rules="flush chain inet plain postrouting")
        return result


# --- Ports --------------------------------------------------------------------------------------------------------


@caught_by(
    "test_port_is_reached",
    "test_range_is_reached",
    "test_port_of_one_address",
    "test_port_can_be_left_to_the_driver",
    groups=PORTS,
    only="reached|one_address|left_to",
)
class PublishesNothing(PlainBridge):
    """Ports are answered, and there are no rules for them."""

    def setup(self, at: Attachment) -> NetResult:
        result = super().setup(at)
        nft(rules="flush chain inet plain prerouting")
        return result


@caught_by("test_refused_publish_changes_nothing", groups=PORTS, only="publish")
class PublishesInPart(PlainBridge):
    """``publish`` takes one port after the other, and keeps those before the one that is refused."""

    def publish(self, at: Attachment, prev: NetResult) -> NetResult:
        for count in range(len(at.ports) + 1):
            prev = super().publish(at._replace(ports=at.ports[:count]), prev)
        return prev


@caught_by("test_publish_means_exactly_these", groups=PORTS, only="publish")
class PublishesMore(PlainBridge):
    """``publish`` adds to what is published."""

    def publish(self, at: Attachment, prev: NetResult) -> NetResult:
        more = tuple(port for port in at.ports if port not in prev.ports)
        return super().publish(at._replace(ports=prev.ports + more), prev)


@caught_by("test_port_of_a_listener_is_refused", "test_refused_publish_changes_nothing", groups=PORTS, only="refused")
class IgnoresListeners(PlainBridge):
    """What else listens on the host is not looked at."""

    def free(self, port: PortMapping) -> bool:
        return True


@caught_by("test_port_can_be_left_to_the_driver", groups=PORTS, only="left_to|is_reached")
class LeavesPortsOpen(PlainBridge):
    """Host port 0 is answered as it was asked for."""

    def setup(self, at: Attachment) -> NetResult:
        return super().setup(at)._replace(ports=at.ports)


# --- Rules, explanations ------------------------------------------------------------------------------------------


@caught_by("test_reload_brings_rules_back", "test_reload_of_what_is_there_does_nothing", groups=RULES, only="reload")
class SeesNothingMissing(PlainBridge):
    """``reload`` never finds anything missing."""

    def reload(self, *, force: bool = False) -> bool:
        return False


@caught_by("test_reload_of_what_is_there_does_nothing", groups=RULES, only="reload")
class AlwaysReloads(PlainBridge):
    """``reload`` always says that something was missing."""

    def reload(self, *, force: bool = False) -> bool:
        super().reload(force=True)
        return True


@caught_by("test_explain_reads_the_live_system", groups=RULES, only="explain")
class ExplainsWhatShouldBe(PlainBridge):
    """The answer is made of the stored result."""

    def explain(self, at: Attachment, prev: NetResult) -> Sequence[PacketPath]:
        return [PacketPath("out", (Hop(prev.interface, f"{prev.addresses} {prev.ports}"),))]


@caught_by("test_explain_describes_ways", groups=RULES, only="explain")
class ExplainsNothing(PlainBridge):
    """Of all that matters nothing is told."""

    def explain(self, at: Attachment, prev: NetResult) -> Sequence[PacketPath]:
        return [
            PacketPath("out", (Hop(hop.place, "there" if "no " in hop.detail else "gone"),))
            for path in super().explain(at, prev)
            for hop in path.hops[:1]
        ]


# --- Crashes ------------------------------------------------------------------------------------------------------


@caught_by("test_setup_killed_at_any_step", "test_setup_refused_at_any_step", groups=FAULTS, only="setup")
class RecordsLast(PlainBridge):
    """What is made is written down when all is made, under a name of its own; who died before has left it."""

    def setup(self, at: Attachment) -> NetResult:
        ip("link", "add", f"tmp{veth(at)[-6:]}", "type", "bridge")
        result = super().setup(at)
        (self.state / f"done-{veth(at)}").touch()
        return result

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        super().teardown(at, prev)
        self.forget(veth(at))

    def gc(self, valid: frozenset[str]) -> None:
        super().gc(valid)
        wanted = {veth(Attachment(container, "", None)) for container in valid}
        for done in self.state.glob("done-*"):
            if done.name.removeprefix("done-") not in wanted:
                self.forget(done.name.removeprefix("done-"))

    def forget(self, name: str) -> None:
        done = self.state / f"done-{name}"
        if done.exists():
            delete(f"tmp{name[-6:]}")
            done.unlink()


@caught_by("test_teardown_killed_at_any_step", "test_teardown_refused_at_any_step", groups=FAULTS, only="teardown_")
class ForgetsFirst(PlainBridge):
    """Teardown forgets the lease, and then removes what it said; begun again, it knows of nothing."""

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        with self.leases() as leases:
            known = leases.pop(endpoint(at), None)
            self.save(leases)
            if known:
                delete(veth(at))
            set_rules(leases)
