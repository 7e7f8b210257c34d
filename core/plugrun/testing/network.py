"""The contract of network drivers, as tests. They need root in a network namespace of their own."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from plugrun import namespaces
from plugrun.api import (
    Attachment,
    Drift,
    Host,
    InvalidArgument,
    Join,
    NetResult,
    NetworkDriver,
    New,
    PlugrunError,
)

_CYCLES = 20


class NetworkContract:
    """Subclass it in a test module, implement ``open(state)``, and pytest runs every case against your driver.

    :cvar target: what follows the driver's name in ``--net``, if it takes something.
    :cvar bad_targets: targets that make no sense to the driver.
    """

    target: ClassVar[str | None] = None
    bad_targets: ClassVar[tuple[str | None, ...]] = ()

    def open(self, state: Path) -> NetworkDriver:
        """Open the driver on a state directory, which exists and may hold what an earlier one left. Required."""
        raise NotImplementedError

    @pytest.fixture
    def state(self, tmp_path: Path) -> Path:
        """Return an empty state directory, mode 0700."""
        state = tmp_path / "state"
        state.mkdir(mode=0o700)
        return state

    @pytest.fixture
    def driver(self, state: Path) -> NetworkDriver:
        """Return a driver on the empty state directory."""
        return self.open(state)

    @pytest.fixture
    def attach(self, driver: NetworkDriver, tmp_path: Path) -> Iterator[Callable[[int], Attachment]]:
        """Return a function that makes the attachment of a container, as the engine does by the driver's plan."""
        pins: list[Path] = []

        def make(number: int) -> Attachment:
            netns = None
            if not isinstance(driver.namespace(self.target), Host):
                pins.append(tmp_path / f"netns{number}")
                namespaces.create(pins[-1])
                netns = str(pins[-1])
            return Attachment(f"{number:064x}", f"host{number}", netns, self.target)

        yield make
        for pin in pins:
            namespaces.delete(pin)

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

    # --- Setup and check ------------------------------------------------------------------------------------------

    def test_setup_answers_what_it_did(self, driver: NetworkDriver, attach: Callable[[int], Attachment]) -> None:
        """Addresses have a prefix and are on the container's interfaces; the rest survives JSON."""
        at = attach(1)
        result = driver.setup(at)
        assert stored(result) == NetResult(result.addresses, dict(result.data))
        for address in result.addresses:
            assert "/" in address
            ipaddress.ip_interface(address)
        if result.addresses:
            assert set(result.addresses) <= addresses(at)
        driver.teardown(at, result)

    def test_check_passes_after_setup(
        self, driver: NetworkDriver, state: Path, attach: Callable[[int], Attachment]
    ) -> None:
        """Nothing has drifted, for a driver opened later too."""
        at = attach(1)
        result = stored(driver.setup(at))
        driver.check(at, result)
        self.open(state).check(at, result)
        driver.teardown(at, result)

    def test_check_notices_drift(self, driver: NetworkDriver, attach: Callable[[int], Attachment]) -> None:
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

    def test_containers_do_not_share_addresses(
        self, driver: NetworkDriver, attach: Callable[[int], Attachment]
    ) -> None:
        """Two at once have different addresses."""
        ats = [attach(number) for number in (1, 2)]
        results = [driver.setup(at) for at in ats]
        assert not set(results[0].addresses) & set(results[1].addresses)
        for at, result in zip(ats, results, strict=True):
            driver.teardown(at, result)

    def test_setup_stays_in_its_own_namespace(self, driver: NetworkDriver, attach: Callable[[int], Attachment]) -> None:
        """The caller is still where it was, and repeated use leaks no descriptor and no thread: pyroute2#448."""
        at = attach(1)
        driver.teardown(at, driver.setup(at))
        before = (
            os.stat("/proc/thread-self/ns/net").st_ino,
            len(os.listdir("/proc/self/fd")),
            threading.active_count(),
        )
        for _ in range(_CYCLES):
            driver.teardown(at, driver.setup(at))
        after = (os.stat("/proc/thread-self/ns/net").st_ino, len(os.listdir("/proc/self/fd")), threading.active_count())
        assert after == before

    # --- Teardown: always possible ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("netns", ["there", "unpinned", "none"])
    @pytest.mark.parametrize("prev", ["stored", "lost"])
    def test_teardown_needs_nothing(
        self, driver: NetworkDriver, state: Path, attach: Callable[[int], Attachment], netns: str, prev: str
    ) -> None:
        """It works without the namespace (CNI#204, netavark#1451), without the result, twice, and after a restart."""
        before = host()
        at = attach(1)
        result = stored(driver.setup(at))
        if netns != "there" and at.netns is not None:
            namespaces.delete(Path(at.netns))
        later = at._replace(netns=None) if netns == "none" else at
        again = self.open(state)
        for _ in range(2):
            again.teardown(later, result if prev == "stored" else None)
        assert host() == before

    def test_teardown_of_what_never_was(self, driver: NetworkDriver, attach: Callable[[int], Attachment]) -> None:
        """A setup that did not even begin is torn down like any other (CNI#775)."""
        before = host()
        driver.teardown(attach(1), None)
        driver.teardown(Attachment("f" * 64, "ghost", None, self.target), None)
        assert host() == before

    def test_teardown_after_a_failed_setup(self, driver: NetworkDriver, tmp_path: Path) -> None:
        """A setup that cannot work fails as an engine error, if it fails, and leaves nothing once torn down."""
        before = host()
        at = Attachment("e" * 64, "web", str(tmp_path / "no-such-namespace"), self.target)
        with contextlib.suppress(PlugrunError):
            driver.setup(at)
        driver.teardown(at, None)
        assert host() == before

    def test_setup_again_after_teardown(self, driver: NetworkDriver, attach: Callable[[int], Attachment]) -> None:
        """A container that is started again gets a working endpoint."""
        at = attach(1)
        for _ in range(2):
            result = driver.setup(at)
            driver.check(at, stored(result))
            driver.teardown(at, result)

    # --- Collecting ---------------------------------------------------------------------------------------------------

    def test_gc_spares_the_valid(self, driver: NetworkDriver, attach: Callable[[int], Attachment]) -> None:
        """What is in the set works on; what is not is gone, twice, and can still be torn down."""
        before = host()
        kept, lost = attach(1), attach(2)
        results = {at: stored(driver.setup(at)) for at in (kept, lost)}
        for _ in range(2):
            driver.gc(frozenset({kept.container_id}))
            driver.check(kept, results[kept])
        driver.teardown(lost, results[lost])
        driver.gc(frozenset())
        assert host() == before
        driver.teardown(kept, results[kept])


def stored(result: NetResult) -> NetResult:
    """Return a result as it comes back from the engine's database."""
    data = json.loads(json.dumps({"addresses": result.addresses, "data": dict(result.data)}))
    return NetResult(tuple(data["addresses"]), data["data"])


def host() -> tuple[list[str], str]:
    """Return what a driver may have left in the namespace of the engine: interfaces and routes."""
    # not /sys/class/net, which shows the namespace that was current when it was mounted
    interfaces = Path("/proc/net/dev").read_text().splitlines()[2:]
    return sorted(line.partition(":")[0].strip() for line in interfaces), Path("/proc/net/route").read_text()


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
