"""Cases: the plan, setting up, and noticing drift."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from plugrun import namespaces
from plugrun.api import Attachment, Drift, Host, InvalidArgument, Join, NetResult, NetworkDriver, New, PlugrunError
from plugrun.testing.network_base import Containers, NetworkCases, addresses, bare, in_netns, stored
from plugrun.testing.network_view import foreign_rules, steady, unchanged

_CYCLES = 20


class EndpointCases(NetworkCases):
    """One container, and two.

    :cvar bad_targets: targets that make no sense to the driver.
    """

    bad_targets: ClassVar[tuple[str | None, ...]] = ()

    # --- The plan -------------------------------------------------------------------------------------------------

    def test_namespace_is_a_plan(self, driver: NetworkDriver) -> None:
        """The plan is one of the three, and does not change."""
        assert isinstance(driver, NetworkDriver)
        plan = driver.namespace(self.target)
        assert isinstance(plan, (New, Host, Join))
        assert driver.namespace(self.target) == plan

    def test_namespace_refuses_bad_targets(self, driver: NetworkDriver) -> None:
        """What makes no sense is an invalid argument that quotes it."""
        for target in self.bad_targets:
            with pytest.raises(InvalidArgument) as refused:
                driver.namespace(target)
            assert repr(target) in str(refused.value)

    # --- Setup --------------------------------------------------------------------------------------------------------

    def test_setup_answers_what_it_did(self, driver: NetworkDriver, attach: Containers) -> None:
        """Addresses have a prefix and are on the container's interfaces; the rest survives JSON."""
        at = attach(1)
        result = driver.setup(at)
        assert stored(result) == result._replace(data=dict(result.data))
        for address in result.addresses:
            assert "/" in address
            ipaddress.ip_interface(address)
        if result.addresses:
            assert set(result.addresses) <= addresses(at)
        if result.interface:
            (link,) = json.loads(in_netns(at, "ip", "-json", "link", "show", "dev", result.interface))
            assert "UP" in link["flags"]
            assert result.mac in {"", link["address"]}
        for gateway in result.gateways:
            family = "-6" if ":" in gateway else "-4"
            routes = json.loads(in_netns(at, "ip", "-json", family, "route", "show", "default"))
            assert gateway in {route.get("gateway") for route in routes}
        driver.teardown(at, result)

    def test_setup_leaves_rules_of_others(self, driver: NetworkDriver, attach: Containers) -> None:
        """Whatever a driver does, a table that is not its own is listed byte for byte as it was."""
        before = foreign_rules()
        if not before:
            pytest.skip("there is no nft here")
        at = attach(1)
        result = driver.setup(at)
        assert foreign_rules() == before
        driver.teardown(at, result)
        assert foreign_rules() == before
        self.emptied(driver, attach)
        assert foreign_rules() == before

    def test_setup_stays_in_its_own_namespace(self, driver: NetworkDriver, attach: Containers) -> None:
        """The caller is still where it was, and repeated use leaks no descriptor and no thread: pyroute2#448."""
        at = attach(1)
        with open("/proc/thread-self/ns/net", "rb") as home:  # held, so that no other namespace gets its number
            for _ in range(2):
                driver.teardown(at, driver.setup(at))
            before = _own()
            for _ in range(_CYCLES):
                result = driver.setup(at)
                driver.check(at, result)
                driver.teardown(at, result)
            assert _own() == before, f"open files and threads are more than {before}: {_own()}"
            assert os.path.samestat(os.stat("/proc/thread-self/ns/net"), os.fstat(home.fileno()))

    def test_containers_do_not_share_addresses(self, driver: NetworkDriver, attach: Containers) -> None:
        """Two at once have different addresses."""
        ats = [attach(number) for number in (1, 2)]
        results = [driver.setup(at) for at in ats]
        assert not set(results[0].addresses) & set(results[1].addresses)
        for at, result in zip(ats, results, strict=True):
            driver.teardown(at, result)

    def test_setup_again_after_teardown(self, driver: NetworkDriver, attach: Containers) -> None:
        """A container that is started again gets a working endpoint."""
        at = attach(1)
        for _ in range(2):
            result = driver.setup(at)
            driver.check(at, stored(result))
            driver.teardown(at, result)

    # --- Wishes -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", ["ip", "ip6", "mac"])
    def test_wish_is_granted_or_refused(self, driver: NetworkDriver, attach: Containers, kind: str) -> None:
        """An address that was asked for is the one that the container gets, or setup says that it cannot be."""
        at, wish = self.wished(driver, attach, kind)
        try:
            result = driver.setup(at)
        except PlugrunError as refusal:
            assert wish in str(refusal)  # noqa: PT017 - either answer is right
            driver.teardown(at, None)
            return
        assert wish in answered(result, kind)
        driver.check(at, stored(result))
        driver.teardown(at, result)

    @pytest.mark.parametrize("kind", ["ip", "ip6"])
    def test_address_in_use_is_refused(self, driver: NetworkDriver, attach: Containers, kind: str) -> None:
        """The second container that asks for an address is told which, and the first one keeps it."""
        at, wish = self.wished(driver, attach, kind)
        try:
            result = driver.setup(at)
        except PlugrunError:
            driver.teardown(at, None)
            pytest.skip("the driver grants no such wish")
        late = attach(2, **{kind: wish})
        with pytest.raises(PlugrunError) as refused:
            driver.setup(late)
        assert wish in str(refused.value)
        driver.teardown(late, None)
        driver.check(at, stored(result))
        driver.teardown(at, result)

    def wished(self, driver: NetworkDriver, attach: Containers, kind: str) -> tuple[Attachment, str]:
        """Return an attachment with a wish that can be granted: what another container had and gave back."""
        first = attach(1)
        given = driver.setup(first)
        had = answered(given, kind)
        driver.teardown(first, given)
        if not had:
            pytest.skip("the driver gives none")
        return attach(3, **{kind: had[0]}), had[0]

    # --- Drift --------------------------------------------------------------------------------------------------------

    def test_check_passes_after_setup(self, driver: NetworkDriver, state: Path, attach: Containers) -> None:
        """Nothing has drifted, for a driver opened later too."""
        at = attach(1)
        result = stored(driver.setup(at))
        driver.check(at, result)
        self.reopened(state).check(at, result)
        driver.teardown(at, result)

    def test_check_notices_drift(self, driver: NetworkDriver, attach: Containers) -> None:
        """Lost addresses and a lost namespace are noticed by a driver that made them or asked for it."""
        at = attach(1)
        result = stored(driver.setup(at))
        if at.netns is None:
            pytest.skip("the driver has nothing that could drift")
        if result.addresses:
            device = json.loads(in_netns(at, "ip", "-json", "addr", "show", "to", result.addresses[0]))[0]["ifname"]
            in_netns(at, "ip", "addr", "del", result.addresses[0], "dev", device)
            with pytest.raises(Drift):
                driver.check(at, result)
        namespaces.delete(Path(at.netns))
        for gone in (at, at._replace(netns=None)):
            with pytest.raises(Drift):
                driver.check(gone, result)
        driver.teardown(at._replace(netns=None), result)

    def test_check_changes_nothing(self, driver: NetworkDriver, attach: Containers) -> None:
        """It looks and reports: neither what is right nor what is wrong is touched."""
        at = attach(1)
        result = stored(driver.setup(at))
        before = steady()
        driver.check(at, result)
        unchanged(before, "after check()")
        if result.interface and at.netns is not None:
            in_netns(at, "ip", "link", "del", result.interface)
            before = steady()
            with pytest.raises(Drift):
                driver.check(at, result)
            unchanged(before, "after check()")
        driver.teardown(at, result)


def answered(result: NetResult, kind: str) -> list[str]:
    """Return what a container got of a kind that it can ask for."""
    if kind == "mac":
        return [result.mac] if result.mac else []
    return bare(result.addresses, version=4 if kind == "ip" else 6)


def _own() -> tuple[list[str], int]:
    """Return what belongs to this process: its open files, and how many threads."""
    files = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            files.append(os.readlink(f"/proc/self/fd/{number}"))
    return sorted(files), threading.active_count()
