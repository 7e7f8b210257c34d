from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridged import NEVER, SOON, Bridged
from plugrun.api import PortMapping
from plugrun_net_bridge import conntrack
from plugrun_net_bridge import table as tables
from plugrun_net_bridge.live import opened
from plugrun_net_bridge.table import NetworkRules, Published, Table, Wanted

pytestmark = pytest.mark.root

NETWORKS = (NetworkRules("br0", ("10.64.0.0/24", "fd64::/64"), internal=False),)
WEB = Published(PortMapping(80, 8080, "udp"), "10.64.0.2", "fd64::2")
RANGE = Published(PortMapping(80, 80, "udp", "", 10), "10.64.0.2", "fd64::2")
ADDRESSES = ["192.0.2.1", "2001:db8::1"]


@pytest.fixture(scope="module")
def net() -> Iterator[Bridged]:
    net = Bridged("c-")
    yield net
    net.close()


@pytest.fixture
def table(net: Bridged, tmp_path: Path) -> Iterator[Table]:
    table = Table("flows", tmp_path / "note", lambda: Wanted(NETWORKS, ()))
    with net.inside("host"):
        table.ensure()
        yield table
        table.remove()


class Flow:
    """A client at the neighbour that goes on sending from one port, and a server in a container."""

    def __init__(self, net: Bridged, address: str, port: int, container: str = "web") -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with net.inside("lan"):
            self.client = socket.socket(family, socket.SOCK_DGRAM)
        self.client.connect((address, port))
        self.server = net.server(container, "::" if ":" in address else "0.0.0.0", 80, "udp")

    def arrives(self, wait: float) -> bool:
        with contextlib.suppress(ConnectionRefusedError):  # the answer to the one before
            self.client.send(b"?")
        with contextlib.suppress(ConnectionRefusedError):
            self.client.send(b"?")
        self.server.settimeout(wait)
        try:
            arrived = self.server.recv(1) == b"?"
            self.server.settimeout(NEVER)
            with contextlib.suppress(TimeoutError):
                self.server.recv(1)
        except TimeoutError:
            return False
        return arrived

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture(params=[True, False], ids=["ending", "not ending"])
def ending(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether flows are ended, or are not, to see what happens then."""
    if not request.param:
        monkeypatch.setattr(tables, "end_flows", lambda *_: None)
    return bool(request.param)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(("published", "port"), [(WEB, 8080), (RANGE, 80)])
def test_a_flow_ends_with_the_published_port(
    net: Bridged, table: Table, ending: bool, address: str, published: Published, port: int
) -> None:
    table.change([], [published])
    with contextlib.closing(Flow(net, address, port)) as flow:
        assert flow.arrives(SOON)
        table.change([published], [])
        assert flow.arrives(NEVER if ending else SOON) != ending


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_flow_from_before_a_port_was_published_arrives(
    net: Bridged, table: Table, ending: bool, address: str
) -> None:
    with contextlib.closing(Flow(net, address, 8080)) as flow:
        assert not flow.arrives(NEVER)
        table.change([], [WEB])
        assert flow.arrives(SOON if ending else NEVER) == ending
        table.change([WEB], [])


def test_a_flow_goes_to_the_next_container_that_has_the_port(net: Bridged, table: Table) -> None:
    table.change([], [WEB])
    other = WEB._replace(ip="10.64.0.3", ip6="fd64::3")
    with contextlib.closing(Flow(net, "192.0.2.1", 8080)) as flow:
        assert flow.arrives(SOON)
        table.change([WEB], [other])
        assert not flow.arrives(NEVER)
        flow.server.close()
        flow.server = net.server("app", "0.0.0.0", 80, "udp")
        assert flow.arrives(SOON)
        table.change([other], [])


def test_other_flows_go_on(net: Bridged, table: Table) -> None:
    """Those of other ports, and those that only happen to have the same number."""
    other = Published(PortMapping(80, 9090, "udp"), "10.64.0.2", None)
    table.change([], [other, WEB])
    with net.inside("web"):
        outgoing = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with (
        contextlib.closing(Flow(net, "192.0.2.1", 9090)) as flow,
        outgoing,
        net.server("lan", "0.0.0.0", 8080, "udp") as far,
    ):
        assert flow.arrives(SOON)
        far.settimeout(SOON)
        outgoing.sendto(b"?", ("192.0.2.2", 8080))
        _, seen = far.recvfrom(1)
        table.change([WEB], [])
        table.change([], [WEB])
        far.sendto(b"!", seen)
        outgoing.settimeout(SOON)
        assert outgoing.recv(1) == b"!"
        with net.inside("host"):
            assert 9090 in {flow.port for flow in conntrack._flows(opened().netlink, socket.AF_INET)}
    table.change([other, WEB], [])
