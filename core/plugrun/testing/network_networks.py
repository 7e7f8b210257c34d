"""Cases: networks (:class:`plugrun.api.SupportsNetworks`), and who reaches whom on them."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Protocol, runtime_checkable

import pytest

from plugrun.api import (
    Attachment,
    FailedPrecondition,
    InvalidArgument,
    NetResult,
    NetworkDraft,
    NetworkDriver,
    PlugrunError,
    Subnet,
    SupportsNetworks,
)
from plugrun.testing.network_base import Containers, NetworkCases, bare, in_netns, stored, stored_network
from plugrun.testing.network_host import HOST_IP, PEER_IP, ThrowAwayHost, ip_batch
from plugrun.testing.network_reach import answering, heard, unheard
from plugrun.testing.network_view import settled, unchanged, view

_PORT = 7777
_SMALL = "10.99.0.0/29"  # six addresses, one of them the gateway


@runtime_checkable
class NetworksDriver(NetworkDriver, SupportsNetworks, Protocol):
    """A network driver whose containers meet on networks."""


class NetworksCases(NetworkCases):
    """Skipped for drivers that do not declare it; who is reached, also where ``features`` do not promise it."""

    @pytest.fixture
    def networks(self, driver: NetworkDriver) -> NetworksDriver:
        """Return the driver, if it can do this."""
        if not isinstance(driver, NetworksDriver):
            pytest.skip("the driver does not declare SupportsNetworks")
        return driver

    # --- Drafts ---------------------------------------------------------------------------------------------------

    def test_network_is_complete_and_changes_nothing(self, networks: NetworksDriver, attach: Containers) -> None:
        """What the draft left open is settled, nothing is made yet, and JSON can carry the answer."""
        before = view()
        made = networks.make_network(NetworkDraft("1" * 64, "net"), ())
        unchanged(before, "after make_network()")
        assert stored_network(made) == made._replace(options=dict(made.options), data=dict(made.data))
        assert (made.id, made.name) == ("1" * 64, "net")
        for subnet in made.subnets:
            space = ipaddress.ip_network(subnet.subnet)
            assert subnet.gateway is None or ipaddress.ip_address(subnet.gateway) in space
        networks.remove_network(made)
        settled(before, "after a network came and went that nobody used")
        assert attach(1).network is not None

    def test_networks_do_not_overlap(self, networks: NetworksDriver, attach: Containers) -> None:
        """Of several that the driver chooses, and the host's own, no two have an address in common, or an interface."""
        made = [attach.network() for _ in range(4)]
        spaces = [ipaddress.ip_network(subnet.subnet) for network in made for subnet in network.subnets]
        spaces += [ipaddress.ip_network(f"{HOST_IP}/24", strict=False)]
        for number, space in enumerate(spaces):
            for other in spaces[:number]:
                assert space.version != other.version or not space.overlaps(other), f"{space} overlaps {other}"
        named = [network.interface for network in made if network.interface]
        assert len(set(named)) == len(named), named
        assert isinstance(networks, NetworksDriver)

    @pytest.mark.parametrize(
        "subnet",
        [Subnet("10.99.0.0/33"), Subnet("10.99.0.1/24"), Subnet("nonsense"), Subnet("10.99.0.0/24", "10.98.0.1")],
        ids=lambda subnet: str(subnet.gateway or subnet.subnet),
    )
    def test_bad_subnet_is_refused(self, networks: NetworksDriver, subnet: Subnet) -> None:
        """It can never be right; the message quotes what is wrong. One that is right is taken."""
        self.skip_without_drafts(networks)
        with pytest.raises(InvalidArgument) as refused:
            networks.make_network(NetworkDraft("1" * 64, "net", (subnet,)), ())
        assert (subnet.gateway or subnet.subnet) in str(refused.value)

    def test_overlapping_subnet_is_refused(self, networks: NetworksDriver, attach: Containers) -> None:
        """One that another network has, or a route of the host leads to, needs that to go first."""
        self.skip_without_drafts(networks)
        attach.network(subnets=(Subnet(_SMALL),))
        for taken in (_SMALL, "10.99.0.0/16", "192.0.2.0/25"):
            with pytest.raises(FailedPrecondition) as refused:
                attach.network(subnets=(Subnet(taken),))
            assert taken in str(refused.value)
        attach.network(subnets=(Subnet("10.98.0.0/24"),))

    def skip_without_drafts(self, networks: NetworksDriver) -> None:
        """Skip a case for drivers whose networks have no subnets, or that do not let users choose them."""
        try:
            made = networks.make_network(NetworkDraft("2" * 64, "control", (Subnet(_SMALL),)), ())
        except PlugrunError as refusal:
            pytest.skip(f"the driver takes no subnet: {refusal}")
        assert [subnet.subnet for subnet in made.subnets] == [_SMALL]

    # --- Addresses ------------------------------------------------------------------------------------------------

    def test_full_network_is_refused_and_recovers(self, networks: NetworksDriver, attach: Containers) -> None:
        """One container too many gets a clear error and nothing else; the address of one that left is given again."""
        self.skip_without_drafts(networks)
        network = attach.network("tiny", subnets=(Subnet(_SMALL),))
        results: list[NetResult] = []
        ats = [attach(number, network=network) for number in range(1, 8)]
        with pytest.raises(PlugrunError) as refused:
            results.extend(networks.setup(at) for at in ats)
        assert len(results) == 5, f"{len(results)} containers fit into {_SMALL} beside its gateway"
        assert _SMALL in str(refused.value) or "tiny" in str(refused.value)
        networks.teardown(ats[5], None)
        networks.teardown(ats[2], results[2])
        again = networks.setup(ats[6])
        for at, result in zip([*ats[:2], *ats[3:5], ats[6]], [*results[:2], *results[3:5], again], strict=True):
            networks.check(at, stored(result))
            networks.teardown(at, result)

    def test_addresses_are_of_the_network(self, networks: NetworksDriver, attach: Containers) -> None:
        """Inside of a subnet, or of its ``ip_range``, and not the gateway's."""
        self.skip_without_drafts(networks)
        network = attach.network(subnets=(Subnet("10.99.0.0/24", "10.99.0.9", "10.99.0.8/29"),))
        result = networks.setup(attach(1, network=network))
        (address,) = bare(result.addresses)
        assert ipaddress.ip_address(address) in ipaddress.ip_network("10.99.0.8/29")
        assert address != "10.99.0.9"
        networks.teardown(attach(1, network=network), result)

    @pytest.mark.parametrize("wish", ["10.1.2.3", "10.99.0.1", "10.99.0.0", "10.99.0.7"])
    def test_address_that_cannot_be_is_refused(self, networks: NetworksDriver, attach: Containers, wish: str) -> None:
        """Outside, the gateway's, or no host's at all: refused with the address, and nothing of it is left."""
        self.skip_without_drafts(networks)
        with self.nothing_left(networks, attach):
            network = attach.network(subnets=(Subnet(_SMALL, "10.99.0.1"),))
            at = attach(1, network=network, ip=wish)
            with pytest.raises(PlugrunError) as refused:
                networks.setup(at)
            assert wish in str(refused.value)
            networks.teardown(at, None)
            at = attach(2, network=network, ip="10.99.0.4")
            result = networks.setup(at)
            assert bare(result.addresses) == ["10.99.0.4"]
            networks.teardown(at, result)
            networks.remove_network(network)

    # --- Several networks -----------------------------------------------------------------------------------------

    def test_container_on_two_networks(self, networks: NetworksDriver, attach: Containers) -> None:
        """It has ``eth0`` and ``eth1``, the default route of the first, and each can go without the other."""
        with self.nothing_left(networks, attach):
            one = attach(1)
            network = attach.network()
            two = attach(1, network=network, number=1)
            results = [stored(networks.setup(at)) for at in (two, one)][::-1]
            assert [result.interface for result in results] == ["eth0", "eth1"]
            routes = json.loads(in_netns(one, "ip", "-json", "-4", "route", "show", "default"))
            if routes and results[0].gateways:
                first = min(routes, key=lambda route: int(route.get("metric", 0)))
                assert first["dev"] == "eth0", routes
            for at, result in zip((one, two), results, strict=True):
                networks.check(at, result)
            networks.teardown(one, results[0])
            networks.check(two, results[1])
            assert "eth0" not in in_netns(two, "ip", "-brief", "link")
            networks.teardown(two, results[1])
            networks.remove_network(network)

    def test_removed_network_leaves_nothing(self, networks: NetworksDriver, attach: Containers, state: Path) -> None:
        """What it had on the host goes, twice, after a restart too; another network is not touched."""
        kept = attach(1)
        result = stored(networks.setup(kept))
        before = view()
        network = attach.network()
        at = attach(2, network=network)
        networks.teardown(at, networks.setup(at))
        for _ in range(2):
            self.removing(state).remove_network(network)
        settled(before, "from the time before the network that was removed")
        networks.check(kept, result)
        networks.teardown(kept, result)

    def removing(self, state: Path) -> NetworksDriver:
        """Open the driver once more."""
        again = self.reopened(state)
        assert isinstance(again, NetworksDriver)
        return again

    def test_lost_interface_comes_back(self, networks: NetworksDriver, attach: Containers) -> None:
        """When somebody removed what the network is on the host, the next container has it made again."""
        at = attach(1)
        network = at.network
        if network is None or not network.interface:
            pytest.skip("the network is no interface on the host")
        networks.teardown(at, networks.setup(at))
        if f'"{network.interface}"' in ip_batch(["link show"]):
            ip_batch([f"link del {network.interface}"])
        result = networks.setup(at)
        networks.check(at, stored(result))
        networks.teardown(at, result)

    @staticmethod
    def two(networks: NetworksDriver, attach: Containers, *, same: bool) -> tuple[list[Attachment], list[NetResult]]:
        """Set up two containers, on one network or on two."""
        ats = [attach(1)]
        ats.append(attach(2) if same else attach(2, network=attach.network()))
        return ats, [networks.setup(at) for at in ats]

    # --- Who reaches whom -----------------------------------------------------------------------------------------

    def test_containers_meet(self, networks: NetworksDriver, attach: Containers) -> None:
        """Feature ``meet``: two on one network reach each other at their addresses."""
        self.skip_unless("meet")
        ats, results = self.two(networks, attach, same=True)
        for address in (one.partition("/")[0] for one in results[0].addresses):
            with answering(ats[0].netns, _PORT, b"one"):
                assert heard(ats[1].netns, address, _PORT) == b"one", address

    def test_networks_are_isolated(self, networks: NetworksDriver, attach: Containers) -> None:
        """Feature ``isolated``: a container is not reached from another network; from its own it is."""
        self.skip_unless("isolated")
        ats, results = self.two(networks, attach, same=False)
        beside = attach(3)
        networks.setup(beside)
        for address in (one.partition("/")[0] for one in results[0].addresses):
            with answering(ats[0].netns, _PORT, b"one"):
                assert heard(beside.netns, address, _PORT) == b"one", address
                assert unheard(ats[1].netns, address, _PORT), address

    def test_containers_reach_out(self, networks: NetworksDriver, attach: Containers, host: ThrowAwayHost) -> None:
        """Feature ``reach-out``: they reach what the host reaches, but for those on an internal network."""
        self.skip_unless("reach-out")
        at = attach(1)
        networks.setup(at)
        inner = attach(2, network=attach.network(internal=True))
        networks.setup(inner)
        with answering(host.peer, _PORT, b"peer"):
            assert heard(at.netns, PEER_IP, _PORT) == b"peer"
            assert unheard(inner.netns, PEER_IP, _PORT)

    def test_containers_reach_the_host(self, networks: NetworksDriver, attach: Containers) -> None:
        """Feature ``reach-host``: at the gateway's address, and at the host's own."""
        self.skip_unless("reach-host")
        at = attach(1)
        result = networks.setup(at)
        with answering(None, _PORT, b"host"):
            for address in (*result.gateways, HOST_IP):
                assert heard(at.netns, address, _PORT) == b"host", address
