"""Cases: rules that others removed, and explanations (:class:`plugrun.api.SupportsReload`, ``SupportsExplain``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol, runtime_checkable

import pytest

from plugrun.api import (
    Attachment,
    NetResult,
    NetworkDriver,
    PortMapping,
    SupportsExplain,
    SupportsPorts,
    SupportsReload,
)
from plugrun.testing.network_base import Containers, NetworkCases, in_netns, stored
from plugrun.testing.network_host import HOST_IP, ThrowAwayHost
from plugrun.testing.network_reach import answering, free_port, heard, unheard
from plugrun.testing.network_view import add_foreign_rules, foreign_rules, has_nft, nft, settled, steady, unchanged


@runtime_checkable
class ReloadDriver(NetworkDriver, SupportsReload, Protocol):
    """A network driver with rules that others can remove."""


@runtime_checkable
class ExplainDriver(NetworkDriver, SupportsExplain, Protocol):
    """A network driver that says which way packets go."""


class ReloadCases(NetworkCases):
    """Skipped for drivers that do not declare it, and where rules cannot be removed for want of ``nft``."""

    @pytest.fixture
    def reloading(self, driver: NetworkDriver) -> ReloadDriver:
        """Return the driver, if it can do this."""
        if not isinstance(driver, ReloadDriver):
            pytest.skip("the driver does not declare SupportsReload")
        if not has_nft():
            pytest.skip("there is no nft here")
        return driver

    def test_reload_brings_rules_back(
        self, reloading: ReloadDriver, attach: Containers, host: ThrowAwayHost, state: Path
    ) -> None:
        """After ``nft flush ruleset`` all is as it was, for a driver that is opened then, and ports are reached."""
        ports = (PortMapping(80, free_port()),) if isinstance(reloading, SupportsPorts) else ()
        at = attach(1, ports=ports)
        result = stored(reloading.setup(at))
        other = attach(2)
        beside = stored(reloading.setup(other))
        before = steady()
        nft("flush", "ruleset")
        add_foreign_rules()
        with answering(at.netns, 80, b"web"):
            for port in result.ports:
                assert unheard(host.peer, HOST_IP, port.host_port)
            again = self.reopened(state)
            assert isinstance(again, ReloadDriver)
            assert again.reload() is True
            settled(before, "after nft flush ruleset and reload()")
            for one, answer in ((at, result), (other, beside)):
                again.check(one, answer)
            for port in result.ports:
                assert heard(host.peer, HOST_IP, port.host_port) == b"web"
        for one, answer in ((at, result), (other, beside)):
            reloading.teardown(one, answer)

    def test_reload_of_what_is_there_does_nothing(self, reloading: ReloadDriver, attach: Containers) -> None:
        """It says that nothing was missing, before the first container, with one, and right after it brought rules."""
        assert reloading.reload() is False
        at = attach(1)
        result = stored(reloading.setup(at))
        before = steady()
        assert reloading.reload() is False
        unchanged(before, "after reload() of what was there")
        nft("flush", "ruleset")
        assert reloading.reload() is True
        assert reloading.reload() is False
        reloading.teardown(at, result)

    def test_forced_reload_makes_the_same_rules(self, reloading: ReloadDriver, attach: Containers) -> None:
        """Also when nothing is missing; rules of others stay as they are."""
        at = attach(1)
        result = stored(reloading.setup(at))
        before, foreign = steady(), foreign_rules()
        reloading.reload(force=True)
        settled(before, "after reload(force=True)")
        assert foreign_rules() == foreign
        reloading.check(at, result)
        reloading.teardown(at, result)


class ExplainCases(NetworkCases):
    """Skipped for drivers that do not declare it."""

    @pytest.fixture
    def explaining(self, driver: NetworkDriver) -> ExplainDriver:
        """Return the driver, if it can do this."""
        if not isinstance(driver, ExplainDriver):
            pytest.skip("the driver does not declare SupportsExplain")
        return driver

    def test_explain_describes_ways(self, explaining: ExplainDriver, attach: Containers) -> None:
        """At least one, each with a title and stations in words; the container's addresses and ports are in it."""
        ports = (PortMapping(80, free_port()),) if isinstance(explaining, SupportsPorts) else ()
        at = attach(1, ports=ports)
        result = stored(explaining.setup(at))
        before = steady()
        paths = explaining.explain(at, result)
        assert paths
        for path in paths:
            assert path.title
            assert path.hops
            assert all(isinstance(word, str) and word for hop in path.hops for word in hop)
        text = told(explaining, at, result)
        for address in result.addresses:
            assert address.partition("/")[0] in text
        for port in result.ports:
            assert str(port.host_port) in text
        unchanged(before, "after explain()")
        explaining.teardown(at, result)

    def test_explain_reads_the_live_system(self, explaining: ExplainDriver, attach: Containers) -> None:
        """An interface or rules that were removed are told, not what should be there; it raises nothing."""
        at = attach(1)
        result = stored(explaining.setup(at))
        before = told(explaining, at, result)
        assert told(explaining, at, result) == before
        if not result.interface:
            pytest.skip("the container has no interface of the driver's")
        in_netns(at, "ip", "link", "del", result.interface)
        assert told(explaining, at, result) != before
        explaining.teardown(at, result)


def told(driver: ExplainDriver, at: Attachment, result: NetResult) -> str:
    """Return an explanation as JSON."""
    return json.dumps(driver.explain(at, result))
