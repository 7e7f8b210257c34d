from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import pytest

from plugrun.api import FailedPrecondition, PortMapping
from plugrun_net_bridge import ports
from plugrun_net_bridge.ports import settle

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("alone")]


def mapping(host: int = 0, size: int = 1, address: str = "", protocol: str = "tcp") -> PortMapping:
    return PortMapping(80, host, protocol, address, size)


def listening(address: str, port: int, kind: str = "tcp", *, only6: bool = True) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only6)
    made.bind((address, port))
    if kind == "tcp":
        made.listen()
    return made


def test_gives_what_is_asked_for() -> None:
    wanted = (mapping(8080), mapping(9000, 10), mapping(8080, protocol="udp"), mapping(8080, protocol="sctp"))
    assert settle(wanted, []) == wanted
    assert settle([], []) == ()


OVERLAPS = [
    ("", "0.0.0.0", True),
    ("", "::", True),
    ("", "127.0.0.1", True),
    ("", "::1", True),
    ("0.0.0.0", "127.0.0.1", True),
    ("127.0.0.1", "0.0.0.0", True),
    ("127.0.0.1", "127.0.0.1", True),
    ("::", "::1", True),
    ("127.0.0.1", "127.0.0.2", False),
    ("0.0.0.0", "::", False),
    ("127.0.0.1", "::", False),
    ("::", "127.0.0.1", False),
]


@pytest.mark.parametrize(("one", "other", "overlap"), [row for row in OVERLAPS if "::1" not in row])
def test_addresses_that_have_one_in_common_conflict(one: str, other: str, overlap: bool) -> None:
    first, second = mapping(8080, address=one), mapping(8080, address=other)
    if overlap:
        with pytest.raises(FailedPrecondition, match="given twice"):
            settle([first, second], [])
        with pytest.raises(FailedPrecondition, match="published by another container"):
            settle([first], [second])
    else:
        assert settle([first, second], []) == (first, second)
        assert settle([first], [second]) == (first,)


@pytest.mark.parametrize(("one", "other", "overlap"), OVERLAPS)
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_program_of_the_host_conflicts_likewise(one: str, other: str, overlap: bool, kind: str) -> None:
    with listening(other, 8080, kind):
        if overlap:
            with pytest.raises(FailedPrecondition, match=rf"port \S*8080/{kind} of the host is in use") as refused:
                settle([mapping(8080, address=one, protocol=kind)], [])
            assert f"ss -l{kind[0]}np" in str(refused.value.hint)
        else:
            settle([mapping(8080, address=one, protocol=kind)], [])
        settle([mapping(8080, address=one, protocol="udp" if kind == "tcp" else "tcp")], [])


def test_a_program_at_all_addresses_of_both_kinds_has_those_of_ipv4_too() -> None:
    with listening("::", 8080, only6=False), pytest.raises(FailedPrecondition):
        settle([mapping(8080, address="127.0.0.1")], [])


def test_a_program_at_an_ipv4_address_through_an_ipv6_socket_is_seen() -> None:
    with listening("::ffff:127.0.0.1", 8080, only6=False):
        with pytest.raises(FailedPrecondition):
            settle([mapping(8080, address="127.0.0.1")], [])
        settle([mapping(8080, address="::")], [])


@pytest.mark.parametrize(
    ("other", "overlap"),
    [
        ((8079, 1), False),
        ((8079, 2), True),
        ((8085, 1), True),
        ((8089, 5), True),
        ((8090, 5), False),
        ((8000, 500), True),
    ],
)
def test_rows_conflict_where_they_overlap(other: tuple[int, int], overlap: bool) -> None:
    wanted, taken = mapping(8080, 10), mapping(*other)
    if overlap:
        with pytest.raises(
            FailedPrecondition, match=f"port {max(8080, other[0])}/tcp .* published by another container"
        ):
            settle([wanted], [taken])
        with pytest.raises(FailedPrecondition, match=f"port {max(8080, other[0])}/tcp of the host is given twice"):
            settle([taken, wanted], [])
    else:
        settle([wanted], [taken])
        settle([taken, wanted], [])


def test_one_used_port_within_many_is_named() -> None:
    with (
        listening("127.0.0.1", 12345),
        pytest.raises(FailedPrecondition, match=r"port 12345/tcp of the host is in use"),
    ):
        settle([mapping(10000, 10000)], [])


def test_containers_may_overlap_among_themselves() -> None:
    """However they came to: it is not this container's business."""
    settle([mapping(8080), mapping(9500)], [mapping(9000), mapping(9000)])


def test_an_address_that_the_host_has_not_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match=r"192\.0\.2\.9 is no address of this host"):
        settle([mapping(8080, address="192.0.2.9")], [])
    with pytest.raises(FailedPrecondition, match=r"2001:db8::9 is no address of this host"):
        settle([mapping(8080, address="2001:db8::9")], [])
    settle([mapping(8080, address="127.0.0.9")], [])


def test_ipv6_loopback_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match="cannot be published at ::1"):
        settle([mapping(8080, address="::1")], [])


def chosen_from(first: int, last: int, reserved: str = "\n") -> None:
    Path(ports._RANGE).write_text(f"{first} {last}")
    Path(ports._RESERVED).write_text(reserved)


def test_chooses_free_ports_in_a_row() -> None:
    chosen_from(40000, 40011, "40003-40004,40008")
    with listening("127.0.0.1", 40000):  # left are 1 and 2, 5 to 7, and 9 to 11
        two, three = settle([mapping(size=2), mapping(size=3)], [mapping(40009, 3)])
    assert two.host_port == 40001
    assert three.host_port == 40005


def test_chooses_any_of_the_free_ones() -> None:
    chosen_from(40000, 40003)
    found = {settle([mapping()], [mapping(40001)])[0].host_port for _ in range(200)}
    assert found == {40000, 40002, 40003}
    found = {settle([mapping(size=2)], [])[0].host_port for _ in range(200)}
    assert found == {40000, 40001, 40002}


def test_chooses_beside_those_asked_for() -> None:
    chosen_from(40000, 40002)
    settled = settle([mapping(), mapping(40001), mapping()], [])
    assert {one.host_port for one in settled} == {40000, 40001, 40002}
    assert settled[1].host_port == 40001


def test_chooses_none_twice() -> None:
    chosen_from(40000, 40009)
    assert {one.host_port for one in settle([mapping()] * 10, [])} == set(range(40000, 40010))


def test_every_port_of_an_image_that_exposes_all_is_chosen_in_no_time() -> None:
    chosen_from(10000, 60000)
    begun = time.process_time()
    settled = settle([mapping()] * 20000, [])
    assert time.process_time() - begun < 10  # half an hour, when each was looked for anew
    assert len({one.host_port for one in settled}) == 20000


def test_rows_that_are_chosen_share_no_port() -> None:
    chosen_from(40000, 40011)
    for _ in range(20):
        with contextlib.suppress(FailedPrecondition):  # the first may be in the middle
            one, other = settle([mapping(size=5)] * 2, [])
            assert abs(one.host_port - other.host_port) >= 5


def test_a_port_within_a_row_does_not_end_it() -> None:
    chosen_from(40000, 40010)
    for _ in range(20):
        assert settle([mapping()], [mapping(40000, 10), mapping(40002)])[0].host_port == 40010


def test_the_same_number_is_free_at_other_addresses_and_for_other_protocols() -> None:
    chosen_from(40000, 40000)
    assert settle([mapping(address="127.0.0.1")], [mapping(40000, address="127.0.0.2")])[0].host_port == 40000
    assert settle([mapping()], [mapping(40000, protocol="udp")])[0].host_port == 40000


def test_none_is_left() -> None:
    chosen_from(40000, 40009)
    with pytest.raises(FailedPrecondition, match=r"no port from 40000 to 40009 is free for port 80/tcp"):
        settle([mapping()], [mapping(40000, 10)])
    with pytest.raises(FailedPrecondition, match=r"no port 6 in a row from 40000 to 40009"):
        settle([mapping(size=6)], [mapping(40005)])
