"""The ``bridge`` driver: what happens in which order. Each step is in a module of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plugrun.api import (
    Attachment,
    DriverError,
    InvalidArgument,
    NetResult,
    Network,
    NetworkDraft,
    New,
    PacketPath,
    PlugrunError,
)
from plugrun_net_bridge import endpoints, inside, ipam, locks, naming
from plugrun_net_bridge.bridges import Bridges
from plugrun_net_bridge.rtnetlink import Rtnetlink
from plugrun_net_bridge.rules import Rules
from plugrun_net_bridge.store import Endpoint, Store

if TYPE_CHECKING:
    from plugrun_net_bridge.dns import Resolver
    from plugrun_net_bridge.links import Link

_TRIES = 5


class BridgeDriver:
    """Containers on bridges of the host, each bridge a network of its own.

    :param state_dir: the driver's own; what is in it is void after a reboot.
    """

    def __init__(self, state_dir: Path) -> None:
        self._lock = state_dir / "bridges.lock"
        self._names = state_dir / "dns"
        self._store = Store(state_dir / "state.db")
        # in the names of what is on the host, so that two engines there do not take each other's for their own
        self._instance = f"{naming.digest(os.fsencode(os.path.realpath(state_dir))):08x}"
        self._rules = Rules(self._store, state_dir, self._instance)
        self._bridges = Bridges(self._store, self._rules, self._instance)

    def namespace(self, target: str | None) -> New:
        """Give every container a namespace of its own; a target names a network, which the core looks up."""
        if target == "":
            raise InvalidArgument(
                "the network '' has no name", hint="write --net NAME, or --net bridge for the default"
            )
        return New()

    # --- Endpoints ------------------------------------------------------------------------------------------------

    def setup(self, at: Attachment) -> NetResult:
        """Connect a container to a network, and make what that needs on the host if it is not there."""
        network = _network(at)
        with (
            _explained(f"connect container {at.name or at.container_id[:12]!r} to network {network.name!r}"),
            inside.opened(at.netns) as netns,
            Rtnetlink() as link,
            self._bridge(link, network) as bridge,
        ):
            self._rules.ensure()
            endpoint = self._lease(link, at, network)
            alias = self._bridges.alias(network.id, at.container_id)
            endpoints.make(link, endpoint, network, bridge, netns=netns, alias=alias)
            endpoints.let_reach_itself(link, endpoint)
            self._rules.publish(endpoint)
            nameservers, unnamed = self._nameservers(at, endpoint, network)
            return NetResult(
                addresses=endpoints.addresses(endpoint, network),
                ports=endpoint.ports,
                nameservers=nameservers,
                unnamed=unnamed,
                interface=endpoints.interface(endpoint),
                mac=endpoint.mac,
                gateways=endpoints.gateways(network),
            )

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:  # noqa: ARG002 - the store knows it all
        """Disconnect a container from a network; from all of them, if the attachment names none."""
        who = f"container {at.name or at.container_id[:12]!r}"
        with locks.shared(self._lock), Rtnetlink() as link, _explained(f"disconnect {who}"):
            named = at.network is None or not at.network.default
            for endpoint in self._recorded(at):
                self._release(link, endpoint, leaving=at.leaving, named=named)
            if not at.leaving:
                self._bridges.remove_port(link, at.container_id, at.number)  # if no record of it was left

    def check(self, at: Attachment, prev: NetResult) -> None:
        """Compare an endpoint with what was set up."""
        from plugrun_net_bridge.checks import Checks

        Checks(self._store, self._bridges, self._rules).check(at, _network(at), prev)

    def gc(self, valid: frozenset[str]) -> None:
        """Remove every endpoint of other containers, and what only they needed; with no valid one, all there is."""
        from plugrun_net_bridge.collecting import Collector

        collector = Collector(self._store, self._bridges, self._rules, self._instance)
        with locks.alone(self._lock), Rtnetlink() as link, _explained("remove what containers have left"):
            for endpoint in self._store.all():
                if endpoint.container_id not in valid:
                    self._release(link, endpoint, leaving=False)
            collector.orphans(link, valid)
            if self._names.is_dir():
                self._resolver().gc(valid)
            if valid:
                collector.unused(link)
            else:
                collector.everything(link)

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    # --- Networks -------------------------------------------------------------------------------------------------

    def make_network(self, draft: NetworkDraft, others: Sequence[Network]) -> Network:
        """Check a draft and settle what it leaves open: subnets, gateways, the bridge's name."""
        from plugrun_net_bridge import drafts

        with _explained("read the routes of the host"):
            return drafts.settle(self._store, draft, others)

    def remove_network(self, network: Network) -> None:
        """Remove a network's bridge and rules."""
        from plugrun_net_bridge.collecting import Collector

        collector = Collector(self._store, self._bridges, self._rules, self._instance)
        with locks.alone(self._lock), Rtnetlink() as link, _explained(f"remove network {network.name!r}"):
            collector.network(link, network)

    def reload(self, *, force: bool = False) -> bool:
        """Bring back rules and bridges that are missing."""
        if not self._store.exists():
            return False
        from plugrun_net_bridge.reloading import reload

        with Rtnetlink() as link, _explained("restore the networks"):
            with locks.shared(self._lock):  # as a rule nobody has to wait for this
                networks = self._store.networks()
                changed = bool(networks) and self._rules.ensure()
                if not force and all(self._bridges.intact(link, one) is not None for one in networks):
                    return changed
            with locks.alone(self._lock):
                return reload(self._store, self._bridges, self._rules, link, force=force) or changed

    # --- Ports ----------------------------------------------------------------------------------------------------

    def publish(self, at: Attachment, prev: NetResult) -> NetResult:
        """Have exactly these ports of an endpoint published."""
        from plugrun_net_bridge import publishing

        with locks.shared(self._lock), Rtnetlink() as link, _explained("publish ports"):
            self._rules.ensure()
            endpoint = publishing.change(self._store, self._rules, self._instance, at, _network(at))
            endpoints.let_reach_itself(link, endpoint)
            return prev._replace(ports=endpoint.ports)

    def explain(self, at: Attachment, prev: NetResult) -> Sequence[PacketPath]:
        """Say which way packets go."""
        from plugrun_net_bridge.explain import explain

        return explain(self._rules.table, _network(at), at, prev)

    # --- Steps ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _bridge(self, link: Rtnetlink, network: Network) -> Iterator[Link]:
        """Have the bridge of a network there for the duration of a block."""
        for _ in range(_TRIES):
            with locks.shared(self._lock):
                found = self._bridges.intact(link, network)
                if found is not None:
                    yield found
                    return
            with locks.alone(self._lock), _explained(f"make the bridge of network {network.name!r}"):
                self._bridges.make(link, network)
        raise DriverError(f"the bridge {network.interface!r} of network {network.name!r} vanishes again and again")

    def _lease(self, link: Rtnetlink, at: Attachment, network: Network) -> Endpoint:
        """Choose addresses and ports, and record them."""
        former = self._store.find(at.container_id, network.id)
        if former is not None:  # of a life that a crash has ended
            self._release(link, former, leaving=False)
        with self._store.transaction():
            endpoint = ipam.lease(self._store, at, network)
            if not at.ports:
                return endpoint
            from plugrun_net_bridge import publishing

            with_ports = publishing.past_strays(
                self._store, self._instance, endpoint, lambda: publishing.settle(self._store, network, at)
            )
            endpoint = endpoint._replace(ports=with_ports)
            self._store.set_ports(endpoint)
        endpoint = publishing.past_strays(
            self._store, self._instance, endpoint, lambda: publishing.hold(endpoint, self._instance)
        )
        self._store.set_ports(endpoint)
        return endpoint

    def _recorded(self, at: Attachment) -> list[Endpoint]:
        if not self._store.exists():
            return []
        if at.network is None:
            return self._store.of_container(at.container_id)
        found = self._store.find(at.container_id, at.network.id)
        return [] if found is None else [found]

    def _release(self, link: Rtnetlink, endpoint: Endpoint, *, leaving: bool, named: bool = True) -> None:
        """Undo an endpoint: all that can be, and its record goes only when all is.

        :param named: whether a resolver may know it.
        """
        cut = endpoints.mute if leaving else endpoints.unmake
        steps: list[Callable[[], None]] = [
            lambda: self._rules.unpublish(endpoint),
            lambda: _let_go(endpoint),
            lambda: self._forget_name(endpoint) if named else None,
            lambda: cut(link, endpoint.container_id, endpoint.number),
        ]
        failures: list[Exception] = []
        for step in steps:
            try:
                step()
            except (PlugrunError, OSError) as error:
                failures.append(error)
        if failures:
            raise failures[0]
        self._store.forget(endpoint.container_id, endpoint.network_id)

    # --- Names ----------------------------------------------------------------------------------------------------

    def _nameservers(self, at: Attachment, endpoint: Endpoint, network: Network) -> tuple[tuple[str, ...], str]:
        """Have a container on a user's network found by its names; return who answers, or why nobody does."""
        if network.default:
            return (), ""
        from plugrun_net_bridge.dns import Entry

        listen = tuple(one.gateway for one in network.subnets if one.gateway is not None)
        names = tuple(dict.fromkeys(name for name in (at.name, *at.aliases, at.container_id[:12]) if name))
        entry = Entry(at.container_id, endpoint.ip, endpoint.ip6, names)
        resolver = self._resolver()
        if not resolver.add(network, listen, entry):
            return (), resolver.reason
        self._rules.serve(network)
        return listen, ""

    def _forget_name(self, endpoint: Endpoint) -> None:
        if self._names.is_dir():
            self._resolver().remove(endpoint.network_id, endpoint.container_id)

    def _resolver(self) -> Resolver:
        from plugrun_net_bridge.dns import Resolver

        return Resolver(self._names)


def _let_go(endpoint: Endpoint) -> None:
    if endpoint.holder_pid:
        from plugrun_net_bridge import publishing

        publishing.let_go(endpoint)


def _network(at: Attachment) -> Network:
    if at.network is None:
        raise InvalidArgument(
            f"container {at.name or at.container_id[:12]!r} is to be on a bridge, and no network is named"
        )
    return at.network


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DriverError(f"cannot {what}: {error.strerror or error}") from error
