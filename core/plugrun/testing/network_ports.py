"""Cases: published ports (:class:`plugrun.api.SupportsPorts`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import pytest

from plugrun.api import (
    Attachment,
    FailedPrecondition,
    InvalidArgument,
    NetResult,
    NetworkDriver,
    PortMapping,
    SupportsPorts,
)
from plugrun.testing.network_base import Containers, NetworkCases, stored
from plugrun.testing.network_host import HOST_IP, ThrowAwayHost
from plugrun.testing.network_reach import answering, free_port, heard, occupied, unheard
from plugrun.testing.network_view import steady, unchanged


@runtime_checkable
class PortsDriver(NetworkDriver, SupportsPorts, Protocol):
    """A network driver that publishes ports."""


class PortCases(NetworkCases):
    """Skipped for drivers that do not declare it.

    A published port is asked for from the neighbour and, where the host's own programs come in, from the host.
    """

    @pytest.fixture
    def publishing(self, driver: NetworkDriver) -> PortsDriver:
        """Return the driver, if it can do this."""
        if not isinstance(driver, PortsDriver):
            pytest.skip("the driver does not declare SupportsPorts")
        return driver

    @contextlib.contextmanager
    def published(
        self, driver: PortsDriver, attach: Containers, *ports: PortMapping, number: int = 1
    ) -> Iterator[tuple[Attachment, NetResult]]:
        """Have a container with ports, set up and checked; it is torn down at the end, whatever happened."""
        at = attach(number, ports=ports)
        result = None
        try:
            result = stored(driver.setup(at))
            driver.check(at, result)
            yield at, result
        finally:
            driver.teardown(at, result)

    # --- Reached --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("protocol", ["tcp", "udp"])
    def test_port_is_reached(
        self, publishing: PortsDriver, attach: Containers, host: ThrowAwayHost, protocol: str
    ) -> None:
        """At the host's address, from outside and from the host; not any more once the container is gone."""
        port, udp = free_port(), protocol == "udp"
        with self.published(publishing, attach, PortMapping(80, port, protocol)) as (at, result):
            assert result.ports == (PortMapping(80, port, protocol),)
            with answering(at.netns, 80, b"web", udp=udp):
                assert heard(host.peer, HOST_IP, port, udp=udp) == b"web"
                assert heard(None, HOST_IP, port, udp=udp) == b"web"
                publishing.teardown(at, result)
                assert unheard(host.peer, HOST_IP, port, udp=udp)

    def test_range_is_reached(self, publishing: PortsDriver, attach: Containers, host: ThrowAwayHost) -> None:
        """Each port of several in a row leads to the one at its place in the container's row."""
        first = free_port(size=3)
        with self.published(publishing, attach, PortMapping(80, first, size=3)) as (at, result):
            assert result.ports == (PortMapping(80, first, size=3),)
            for offset in range(3):
                word = f"port{80 + offset}".encode()
                with answering(at.netns, 80 + offset, word):
                    assert heard(host.peer, HOST_IP, first + offset) == word

    def test_port_of_one_address(self, publishing: PortsDriver, attach: Containers, host: ThrowAwayHost) -> None:
        """Published at one address of the host it is not there at another one."""
        port = free_port()
        with (
            self.published(publishing, attach, PortMapping(80, port, host_address="127.0.0.1")) as (at, _),
            answering(at.netns, 80, b"local"),
            self.published(publishing, attach, PortMapping(80, port, host_address=HOST_IP), number=2) as (other, _),
            answering(other.netns, 80, b"web"),
        ):
            assert heard(host.peer, HOST_IP, port) == b"web"

    # --- Settled ------------------------------------------------------------------------------------------------------

    def test_port_can_be_left_to_the_driver(
        self, publishing: PortsDriver, attach: Containers, host: ThrowAwayHost
    ) -> None:
        """Host port 0 becomes one that is free, another one each time."""
        wanted = (PortMapping(80), PortMapping(81), PortMapping(80, protocol="udp"))
        with (
            self.published(publishing, attach, *wanted) as (at, result),
            self.published(publishing, attach, *wanted, number=2) as (_, other),
        ):
            for ports in (result.ports, other.ports):
                assert [port._replace(host_port=0) for port in ports] == list(wanted)
            settled = [(port.protocol, port.host_port) for port in result.ports + other.ports]
            assert len(set(settled)) == len(settled), settled
            assert all(number for _, number in settled)
            with answering(at.netns, 81, b"web"):
                assert heard(host.peer, HOST_IP, result.ports[1].host_port) == b"web"

    # --- Refused ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("protocol", ["tcp", "udp"])
    def test_port_of_a_listener_is_refused(self, publishing: PortsDriver, attach: Containers, protocol: str) -> None:
        """Setup says which port, and nothing is left; once the listener ends it works."""
        port, udp = free_port(), protocol == "udp"
        with self.nothing_left(publishing, attach):
            at = attach(1, ports=(PortMapping(80, port, protocol),))
            with occupied(port, udp=udp), pytest.raises(FailedPrecondition) as refused:
                publishing.setup(at)
            assert str(port) in str(refused.value)
            publishing.teardown(at, None)
            with self.published(publishing, attach, PortMapping(80, port, protocol)):
                pass

    def test_port_of_another_container_is_refused(
        self, publishing: PortsDriver, attach: Containers, host: ThrowAwayHost
    ) -> None:
        """Also inside of a range; the first one keeps it, and when that is gone it is free."""
        port = free_port(size=3) + 1
        late = attach(2, ports=(PortMapping(80, port - 1, size=3),))
        with self.published(publishing, attach, PortMapping(80, port)) as (at, result), answering(at.netns, 80, b"one"):
            with pytest.raises(FailedPrecondition) as refused:
                publishing.setup(late)
            assert str(port) in str(refused.value) or str(port - 1) in str(refused.value)
            publishing.teardown(late, None)
            publishing.check(at, result)
            assert heard(host.peer, HOST_IP, port) == b"one"
        with self.published(publishing, attach, *late.ports, number=2):
            pass

    def test_port_given_twice_is_refused(self, publishing: PortsDriver, attach: Containers) -> None:
        """In one container, whether it says so at once or the second time."""
        port = free_port()
        with self.nothing_left(publishing, attach):
            at = attach(1, ports=(PortMapping(80, port), PortMapping(81, port)))
            with pytest.raises((InvalidArgument, FailedPrecondition)) as refused:
                publishing.setup(at)
            assert str(port) in str(refused.value)
            publishing.teardown(at, None)

    # --- Published while it runs --------------------------------------------------------------------------------------

    def test_publish_means_exactly_these(
        self, publishing: PortsDriver, attach: Containers, host: ThrowAwayHost, state: Path
    ) -> None:
        """What is new is reached, what is not named any more is not, what stays is not touched."""
        first = free_port(size=3)
        a, b, c = (PortMapping(80 + number, first + number) for number in range(3))
        with self.published(publishing, attach, a, b) as (at, result), contextlib.ExitStack() as servers:
            for port in (80, 81, 82):
                servers.enter_context(answering(at.netns, port, f"port{port}".encode()))
            again = self.reopened(state)
            assert isinstance(again, PortsDriver)
            later = stored(again.publish(at._replace(ports=(b, c)), result))
            assert later == result._replace(ports=(b, c))
            again.check(at, later)
            assert unheard(host.peer, HOST_IP, a.host_port)
            assert heard(host.peer, HOST_IP, b.host_port) == b"port81"
            assert heard(host.peer, HOST_IP, c.host_port) == b"port82"
            none = publishing.publish(at._replace(ports=()), later)
            assert none.ports == ()
            assert unheard(host.peer, HOST_IP, c.host_port)
            with self.published(publishing, attach, a, b, c, number=2):
                pass

    def test_publish_twice_changes_nothing(self, publishing: PortsDriver, attach: Containers) -> None:
        """The same ports again, their listeners being the driver's own, are the same ports."""
        with self.published(publishing, attach, PortMapping(80, free_port()), PortMapping(81)) as (at, result):
            before = steady()
            assert stored(publishing.publish(at._replace(ports=result.ports), result)) == result
            unchanged(before, "after publishing the same again")

    @pytest.mark.parametrize("owner", ["host", "container"])
    def test_refused_publish_changes_nothing(
        self, publishing: PortsDriver, attach: Containers, host: ThrowAwayHost, owner: str
    ) -> None:
        """One port of several in use, by a listener of the host or by another container: all is as it was."""
        first = free_port(size=3)
        old, new, taken = (PortMapping(80, first + number) for number in range(3))
        with contextlib.ExitStack() as stack:
            at, result = stack.enter_context(self.published(publishing, attach, old))
            if owner == "host":
                stack.enter_context(occupied(taken.host_port))
            else:
                stack.enter_context(self.published(publishing, attach, taken, number=2))
            stack.enter_context(answering(at.netns, 80, b"old"))
            before = steady()
            with pytest.raises(FailedPrecondition) as refused:
                publishing.publish(at._replace(ports=(new, taken)), result)
            assert str(taken.host_port) in str(refused.value)
            unchanged(before, "after a publish that was refused")
            publishing.check(at, result)
            assert heard(host.peer, HOST_IP, old.host_port) == b"old"
            assert unheard(host.peer, HOST_IP, new.host_port)
            with self.published(publishing, attach, new, number=3):
                pass  # what was refused is not kept for anybody
