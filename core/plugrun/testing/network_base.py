"""What the network cases share: a throw-away host, a driver on it, networks and containers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from plugrun import namespaces
from plugrun.api import (
    Attachment,
    Host,
    NetResult,
    Network,
    NetworkDraft,
    NetworkDriver,
    PortMapping,
    SupportsNetworks,
)
from plugrun.testing.network_host import ThrowAwayHost, throw_away_host
from plugrun.testing.network_view import View, add_foreign_rules, settled, steady, view

_FIRST = 0xFFF  # the number of the container that comes and goes before all others


class Containers:
    """Makes what the engine makes before it calls a driver: namespaces, and the networks that containers are on."""

    def __init__(self, driver: NetworkDriver, target: str | None, place: Path) -> None:
        self.driver = driver
        self.target = target
        self.place = place
        self.networks: list[Network] = []
        self.pins: list[Path] = []

    def __call__(self, number: int, /, **changes: Any) -> Attachment:
        """Return the attachment of a container, in the namespace that is its own, with some fields changed.

        Its network is the first one of this test, if the driver has any.
        """
        netns = None
        if not isinstance(self.driver.namespace(self.target), Host):
            pin = self.place / f"netns{number}"
            if pin not in self.pins:
                namespaces.create(pin)
                self.pins.append(pin)
            netns = str(pin)
        at = Attachment(identity("container", number), f"host{number}", netns, self.target, name=f"web{number}")
        if isinstance(self.driver, SupportsNetworks) and "network" not in changes:
            changes["network"] = self.networks[0] if self.networks else self.network()
        return at._replace(**changes)

    def network(self, name: str = "", **draft: Any) -> Network:
        """Make one more network of the driver's, as the engine does: it knows all others, and keeps it as JSON."""
        assert isinstance(self.driver, SupportsNetworks)
        number = len(self.networks) + 1
        wanted = NetworkDraft(identity("network", number), name or f"net{number}", **draft)
        self.networks.append(stored_network(self.driver.make_network(wanted, tuple(self.networks))))
        return self.networks[-1]

    def end(self) -> None:
        """Let the namespaces go."""
        for pin in self.pins:
            namespaces.delete(pin)


class NetworkCases:
    """Base of every group of cases.

    :cvar target: what follows the driver's name in ``--net``, if it takes something.
    :cvar features: words for what a driver promises; see :class:`plugrun.testing.NetworkContract`.
    """

    target: ClassVar[str | None] = None
    features: ClassVar[frozenset[str]] = frozenset()

    def open(self, state: Path) -> NetworkDriver:
        """Open the driver on a state directory, which exists and may hold what an earlier one left. Required."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def host(self, tmp_path: Path) -> Iterator[ThrowAwayHost]:
        """Be on a host of the test's own, on which there are foreign rules too."""
        place = tmp_path / "host"
        place.mkdir()
        with throw_away_host(place) as host:
            add_foreign_rules()
            yield host

    @pytest.fixture
    def state(self, tmp_path: Path) -> Path:
        """Return an empty state directory, mode 0700."""
        state = tmp_path / "state"
        state.mkdir(mode=0o700)
        return state

    @pytest.fixture
    def driver(self, host: ThrowAwayHost, state: Path) -> Iterator[NetworkDriver]:  # noqa: ARG002 - the host comes first
        """Return a driver on the empty state directory; it is closed at the end, twice."""
        self.again: list[NetworkDriver] = []
        yield self.reopened(state)
        for driver in self.again * 2:
            driver.close()

    def reopened(self, state: Path) -> NetworkDriver:
        """Open the driver, as another command does; it is closed with the test's own."""
        self.again.append(self.open(state))
        return self.again[-1]

    @pytest.fixture
    def attach(self, driver: NetworkDriver, tmp_path: Path) -> Iterator[Containers]:
        """Return a function that makes the attachment of a container, as the engine does by the driver's plan."""
        containers = Containers(driver, self.target, tmp_path)
        yield containers
        containers.end()

    def skip_without(self, driver: NetworkDriver, protocol: type) -> None:
        """Skip a case for drivers that do not declare an optional protocol."""
        if not isinstance(driver, protocol):
            pytest.skip(f"the driver does not declare {protocol.__name__}")

    def skip_unless(self, feature: str) -> None:
        """Skip a case for drivers that do not promise something."""
        if feature not in self.features:
            pytest.skip(f"the driver does not declare the feature {feature!r}")

    @contextlib.contextmanager
    def nothing_left(self, driver: NetworkDriver, attach: Containers) -> Iterator[None]:
        """See that the host is afterwards as it was.

        First as one container leaves it, whose network may keep what it needs; and as it was before that one, once
        there is neither a container nor a network any more.
        """
        pristine = view()
        warm = self.warmed(driver, attach)
        yield
        settled(warm, "from what a container leaves that came and went before")
        self.emptied(driver, attach)
        settled(pristine, "from the time before the first container, after gc() with no valid one")

    @staticmethod
    def warmed(driver: NetworkDriver, attach: Containers) -> View:
        """Let a container come and go; return how the host looks then."""
        at = attach(_FIRST)
        driver.teardown(at, driver.setup(at))
        return steady()

    @staticmethod
    def emptied(driver: NetworkDriver, attach: Containers) -> None:
        """Have the driver remove all that it may have left."""
        for network in attach.networks:
            assert isinstance(driver, SupportsNetworks)
            driver.remove_network(network)
        driver.gc(frozenset())


def identity(kind: str, number: int) -> str:
    """Return an id such as the core gives: 64 hexadecimal digits, of which a few at the beginning or end tell it."""
    return hashlib.sha256(f"{kind} {number}".encode()).hexdigest()


def stored(result: NetResult) -> NetResult:
    """Return a result as it comes back from the engine's database."""
    return parsed(dumped(result))


def dumped(result: NetResult) -> str:
    """Return a result as the engine keeps it."""
    return json.dumps(result._asdict() | {"data": dict(result.data)})


def parsed(text: str) -> NetResult:
    """Return what :func:`dumped` was given."""
    fields: dict[str, Any] = json.loads(text)
    ports = tuple(PortMapping(*port) for port in fields.pop("ports"))
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return NetResult(ports=ports, **given)


def stored_network(network: Network) -> Network:
    """Return a network as it comes back from the engine's database."""
    options, data = json.loads(json.dumps([dict(network.options), dict(network.data)]))
    return network._replace(options=options, data=data)


def bare(addresses: Sequence[str], *, version: int = 4) -> list[str]:
    """Return the addresses of one family, without prefix."""
    return [one.partition("/")[0] for one in addresses if (":" in one) == (version == 6)]


def addresses(at: Attachment) -> set[str]:
    """Return the addresses, with prefix, of the interfaces in an attachment's namespace."""
    return {
        f"{address['local']}/{address['prefixlen']}"
        for interface in json.loads(in_netns(at, "ip", "-json", "addr"))
        for address in interface["addr_info"]
    }


def in_netns(at: Attachment, *command: str) -> str:
    """Run a program in an attachment's namespace and return its output."""
    assert at.netns is not None
    return subprocess.run(["nsenter", f"--net={at.netns}", *command], check=True, capture_output=True, text=True).stdout
