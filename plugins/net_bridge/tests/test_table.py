from __future__ import annotations

import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from plugrun.api import DriverError, FailedPrecondition, PortMapping
from plugrun_net_bridge import live, nft
from plugrun_net_bridge.elements import of_all
from plugrun_net_bridge.netlink import DUMP, NETFILTER, Changed, Netlink
from plugrun_net_bridge.table import NetworkRules, Published, Table, Wanted

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("alone")]

NETWORK = NetworkRules("br0", ("10.0.0.0/20", "fd00::/64"), internal=False)
INSIDE = NetworkRules("br1", ("10.0.16.0/20",), internal=True)


def published(host: int, container: int = 80, size: int = 1, address: str = "", protocol: str = "tcp") -> Published:
    return Published(PortMapping(container, host, protocol, address, size), "10.0.0.2", "fd00::2")


KINDS = [
    published(8080),
    published(8081, address="192.0.2.1"),
    published(8082, address="2001:DB8:0::1"),
    published(8083, address="0.0.0.0"),
    published(8084, address="::"),
    published(9000, 9000, 100),
    published(9200, 9200, 100, "192.0.2.1", "udp"),
    published(9400, 9400, 100, "2001:db8::1", "sctp"),
    published(9600, 9700, 3),
]


class Store:
    """What the rules are to know, and a table that asks."""

    def __init__(self, memory: Path) -> None:
        self.networks = [NETWORK, INSIDE]
        self.published: list[Published] = []
        self.asked = 0
        self.table = Table("plugrun", memory, self.wanted)

    def wanted(self) -> Wanted:
        self.asked += 1
        return Wanted(tuple(self.networks), tuple(self.published), former6=("eth0",))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "note")


def listing(what: str = "table inet plugrun") -> str:
    return nft.run(f"list {what}")


def test_is_made_and_then_found_intact(store: Store) -> None:
    assert store.table.ensure()
    assert '"br0" . 10.0.0.0/20' in listing()
    store.asked = 0
    assert not store.table.ensure()
    assert store.asked == 0


def test_another_process_finds_it_intact(store: Store, tmp_path: Path) -> None:
    store.table.ensure()
    assert not Store(tmp_path / "note").table.ensure()


def test_without_its_note_it_is_made_anew(store: Store, tmp_path: Path) -> None:
    store.table.ensure()
    for content in ("", "nonsense", None):
        if content is None:
            (tmp_path / "note").unlink()
        else:
            (tmp_path / "note").write_text(content)
        assert store.table.ensure()
        assert not store.table.ensure()


def test_a_note_of_another_boot_or_namespace_counts_for_nothing(store: Store, tmp_path: Path) -> None:
    store.table.ensure()
    note = tmp_path / "note"
    before, _, rest = note.read_text().partition("/")
    for other in (f"{'0' * len(before)}/{rest}", f"{before}/0{rest}"):
        note.write_text(other)
        assert store.table.ensure()


@pytest.mark.parametrize(
    "damage",
    [
        "flush ruleset",
        "delete table inet plugrun",
        "flush table inet plugrun",
        "flush chain inet plugrun passing",
        "insert rule inet plugrun passing accept",
        "add chain inet plugrun another { type filter hook forward priority -1; policy drop; }",
        "chain inet plugrun passing { policy drop; }",
        "add table inet plugrun { flags dormant; }",
        "flush set inet plugrun internal",
        "flush map inet plugrun ports4",
        "flush map inet plugrun ranges6",
        "delete element inet plugrun ports4 { tcp . 8080 }",
        "delete element inet plugrun subnets4 { 10.0.0.0/20 }",
        "delete element inet plugrun own6 { br0 . fd00::/64 }",
        "add element inet plugrun bridges { eth0 }",
        "add element inet plugrun ports4 { tcp . 1 : 10.0.0.9 . 1 }",
    ],
)
def test_notices_damage_and_mends_it(store: Store, damage: str) -> None:
    store.published = list(KINDS)
    store.table.ensure()
    before = listing()
    subprocess.run(["nft", damage], check=True)
    assert listing("ruleset") != before
    assert store.table.ensure()
    assert listing() == before
    assert not store.table.ensure()


def test_notices_rules_made_anew_by_somebody_else(store: Store) -> None:
    store.table.ensure()
    rule = "iifname @internal drop"
    handle = next(line for line in nft_with_handles() if rule in line).rpartition(" ")[2]
    subprocess.run(["nft", f"replace rule inet plugrun passing handle {handle} iifname @internal accept"], check=True)
    assert store.table.ensure()
    assert rule in listing()


def nft_with_handles() -> list[str]:
    return subprocess.check_output(["nft", "-a", "list", "chain", "inet", "plugrun", "passing"], text=True).splitlines()


def test_leaves_the_tables_of_others_alone(store: Store) -> None:
    others = (
        "table ip docker { chain c { type filter hook forward priority 0; policy drop; ip saddr 10.0.0.2 accept; }; }"
    )
    subprocess.run(["nft", others], check=True)
    before = listing("table ip docker")
    store.published = list(KINDS)
    store.table.ensure()
    store.table.rebuild()
    store.table.change(KINDS, [published(1)])
    store.table.remove_network(NETWORK)
    assert listing("table ip docker") == before
    store.table.remove()
    assert listing("ruleset") == before


def test_a_change_by_others_costs_one_look(store: Store) -> None:
    store.table.ensure()
    subprocess.run(["nft", "add table ip other"], check=True)
    store.asked = 0
    assert not store.table.ensure()
    assert store.asked == 1
    assert not store.table.ensure()
    assert store.asked == 1


def test_others_that_change_rules_while_it_is_made_are_no_obstacle(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*_: object) -> None:
        raise Changed

    with monkeypatch.context() as patch:
        patch.setattr(live.Live, "fingerprint", changed)
        assert store.table.ensure()
    assert "chain publish" in listing()
    store.table.ensure()
    assert not store.table.ensure()


def test_a_list_that_changed_is_read_to_its_end() -> None:
    """Else the kernel answers the next question for a list with EBUSY."""
    here, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, kernel, Netlink(NETFILTER) as asking:
        os.dup2(here.fileno(), asking._descriptor)
        for kind, flags in ((20, 0x12), (20, 0x2), (3, 0x2)):
            kernel.send(struct.pack("=IHHIIi", 20, kind, flags, 1, 0, 0))
        with pytest.raises(Changed):
            list(asking.ask(20, b"", DUMP))
        here.setblocking(False)
        with pytest.raises(BlockingIOError):
            here.recv(1)


def test_is_built_in_one_transaction(store: Store) -> None:
    store.published = list(KINDS)
    store.table.ensure()
    before = live.opened().generation()
    store.table.rebuild()
    assert live.opened().generation() == before + 1


def test_ports_are_changed_in_one_transaction(store: Store) -> None:
    store.table.ensure()
    store.table.change([], KINDS)
    before = live.opened().generation()
    store.table.change(KINDS[:5], [published(8080, 81), published(1)])
    assert live.opened().generation() == before + 1
    store.asked = 0
    assert not store.table.ensure()
    assert store.asked == 0


@pytest.mark.parametrize("one", KINDS, ids=str)
def test_publishes(store: Store, one: Published) -> None:
    store.table.ensure()
    assert not store.table.holds(one)
    store.table.change([], [one])
    assert store.table.holds(one)
    assert not store.table.holds(one._replace(ip="10.0.0.3", ip6="fd00::3"))
    store.table.change([one], [])
    assert not store.table.holds(one)


@pytest.mark.parametrize("one", KINDS, ids=str)
def test_the_kernel_has_what_the_text_says(store: Store, one: Published) -> None:
    """One way to the maps is text for the library, and the other is bytes for the kernel."""
    store.table.ensure()
    store.table.change([], [one])
    by_bytes = listing()
    store.published = [one]
    store.table.rebuild()
    assert listing() == by_bytes
    for element in of_all(Wanted((), (one,))):
        assert str(element) in by_bytes


def test_a_port_moves_from_one_container_to_another(store: Store) -> None:
    store.table.change([], [published(8080)])
    other = published(8080)._replace(ip="10.0.0.3")
    store.table.change([published(8080)], [other])
    assert store.table.holds(other)


def test_what_is_gone_or_there_already_is_fine(store: Store) -> None:
    store.table.change([], [published(1)])
    store.published = [published(1)]
    store.table.change([published(2), published(3)], [published(1), published(4)])
    assert store.table.holds(published(1))
    assert store.table.holds(published(4))


def test_what_a_crash_has_left_gives_way(store: Store) -> None:
    store.table.change([], [published(8080)._replace(ip="10.0.0.99")])
    store.table.change([], [published(8080)])
    assert store.table.holds(published(8080))


def test_a_change_after_a_flush_brings_everything_back(store: Store) -> None:
    store.published = [published(1)]
    store.table.ensure()
    subprocess.run(["nft", "flush ruleset"], check=True)
    store.table.change([], [published(2)])
    assert store.table.holds(published(1))
    assert store.table.holds(published(2))


def test_a_change_by_others_just_before_is_no_obstacle(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.table.ensure()
    change, times = store.table._change, []

    def change_after_somebody(*what: object) -> None:
        if not times:
            times.append(1)
            subprocess.run(["nft", "insert rule inet plugrun passing accept"], check=True)
        change(*what)

    monkeypatch.setattr(store.table, "_change", change_after_somebody)
    store.table.change([], [published(1)])
    assert store.table.holds(published(1))
    assert not store.table.ensure()
    assert "\taccept" not in listing("chain inet plugrun passing")


def test_many_ports_at_once(store: Store) -> None:
    many = [published(20000 + number) for number in range(3000)]
    store.table.ensure()
    store.table.change([], many)
    assert all(store.table.holds(one) for one in many[::100])
    assert live.opened().counts("plugrun")["ports4"] == len(many)
    store.table.change(many, [])
    assert live.opened().counts("plugrun")["ports4"] == 0


def test_networks_come_and_go(store: Store) -> None:
    store.networks = []
    store.table.ensure()
    empty = listing()
    for network in (NETWORK, INSIDE):
        store.table.add_network(network)
        store.table.add_network(network)
    both = listing()
    store.networks = [NETWORK, INSIDE]
    store.table.rebuild()
    assert listing() == both
    for network in (NETWORK, INSIDE, NETWORK):
        store.table.remove_network(network)
    assert listing() == empty
    store.networks = []
    assert not store.table.ensure()


def test_subnets_at_the_ends_of_all_addresses_are_counted_right(store: Store) -> None:
    store.networks = [NETWORK._replace(subnets=("0.0.0.0/24", "10.0.0.0/20", "10.0.16.0/20", "255.255.255.0/24"))]
    store.table.ensure()
    subprocess.run(["nft", "add table ip other"], check=True)
    assert not store.table.ensure()


def test_a_network_is_removed_whole_whatever_it_is_said_to_be(store: Store) -> None:
    store.networks = []
    store.table.ensure()
    empty = listing()
    store.table.add_network(INSIDE)
    store.table.remove_network(INSIDE._replace(internal=False))
    assert listing() == empty


def test_removing_it_twice_is_fine(store: Store) -> None:
    store.table.ensure()
    store.table.remove()
    store.table.remove()
    assert listing("ruleset") == ""
    assert store.table.ensure()


def test_a_port_that_would_be_reachable_nowhere_is_refused(store: Store) -> None:
    store.table.ensure()
    with pytest.raises(
        FailedPrecondition, match=r"port 1/tcp cannot be published at ::1: .* no IPv6 address"
    ) as refused:
        store.table.change([], [Published(PortMapping(80, 1, host_address="::1"), "10.0.0.2", None)])
    assert "--ipv6" in str(refused.value.hint)
    with pytest.raises(FailedPrecondition, match=r"no IPv4 address"):
        store.table.change([], [Published(PortMapping(80, 1, host_address="127.0.0.1"), None, "fd00::2")])


def test_a_port_that_would_be_reachable_nowhere_is_removed_as_any(store: Store) -> None:
    """Its container was recorded before it was refused; tearing it down must not fail for that."""
    lost = Published(PortMapping(80, 1, host_address="::1"), "10.0.0.2", None)
    store.published.append(lost)
    store.table.ensure()
    store.table.change([lost], [])


def test_what_nftables_says_is_one_line() -> None:
    with pytest.raises(DriverError, match=r"^nftables: [^\n]+$"):
        nft.run("add element inet nothing nowhere { 1 }")


def test_no_files_are_left_open(store: Store) -> None:
    store.table.ensure()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(20):
        store.table.change([], [published(number + 1)])
        store.table.rebuild()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
