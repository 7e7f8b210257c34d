from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plugrun.api import FailedPrecondition, PortMapping, Unavailable
from plugrun_net_bridge import holder
from plugrun_net_bridge.holder import LIMIT, NOBODY, Holder, hold, holders, is_alive, release

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("alone")]

Held = Callable[..., Holder]


@pytest.fixture
def held() -> Iterator[Held]:
    """Hold ports until the end of the test."""
    running = []

    def start(*ports: PortMapping, old: Holder = NOBODY, owner: str = "test") -> Holder:
        running.append(hold(ports, old, owner))
        return running[-1]

    yield start
    for one in running:
        release(one)


def mapping(host: int, size: int = 1, address: str = "", protocol: str = "tcp") -> PortMapping:
    return PortMapping(80, host, protocol, address, size)


def can_bind(address: str, port: int, kind: int = socket.SOCK_STREAM) -> bool:
    """Whether a program that is as eager as servers are gets a port."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            one.bind((address, port))
        except OSError:
            return False
        return True


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "::", "::1"])
def test_no_program_gets_a_port_that_is_held(held: Held, address: str) -> None:
    assert can_bind(address, 8080)
    one = held(mapping(8080, 2))
    assert not can_bind(address, 8080)
    assert not can_bind(address, 8081)
    assert can_bind(address, 8082)
    assert can_bind(address, 8080, socket.SOCK_DGRAM)
    release(one)
    assert can_bind(address, 8080)


def test_udp_is_held_too(held: Held) -> None:
    held(mapping(8080, protocol="udp"))
    assert not can_bind("127.0.0.1", 8080, socket.SOCK_DGRAM)
    assert can_bind("127.0.0.1", 8080)


@pytest.mark.parametrize(("address", "other"), [("127.0.0.1", "127.0.0.2"), ("::1", "0.0.0.0"), ("0.0.0.0", "::1")])
def test_other_addresses_stay_free(held: Held, address: str, other: str) -> None:
    held(mapping(8080, address=address))
    assert not can_bind(address, 8080)
    assert can_bind(other, 8080)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "::1"])
def test_a_program_at_one_kind_of_address_is_noticed(held: Held, address: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as one:
        if ":" in address:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((address, 8080))
        with pytest.raises(FailedPrecondition, match="port 8080/tcp"):
            held(mapping(8080))


def test_without_ipv6_those_of_ipv4_are_held(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    class Socket(socket.socket):
        def __init__(self, family: int = -1, *rest: int, fileno: int | None = None) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "no IPv6")
            super().__init__(family, *rest, fileno=fileno)

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", Socket)
        old = held(mapping(8080))
        held(mapping(8080), old=old)
    release(old)
    assert not can_bind("0.0.0.0", 8080)
    assert can_bind("::1", 8080)


def test_whoever_connects_is_refused(held: Held) -> None:
    held(mapping(8080))
    for address in ("127.0.0.1", "::1"):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, 8080))


def test_a_used_port_is_refused_and_nothing_is_held(held: Held) -> None:
    with socket.create_server(("127.0.0.1", 8081)):
        with pytest.raises(FailedPrecondition, match=r"port 8081/tcp of the host is in use"):
            held(mapping(8080), mapping(8081))
        assert can_bind("127.0.0.1", 8080)


def test_a_port_that_only_ended_connections_of_a_server_have_can_be_held(held: Held) -> None:
    with socket.create_server(("127.0.0.1", 8081)) as server:
        client = socket.create_connection(("127.0.0.1", 8081))
        accepted, _ = server.accept()
        accepted.close()  # this end waits for stray packets now
        client.close()
    with socket.socket() as plain, pytest.raises(OSError, match="in use"):
        plain.bind(("0.0.0.0", 8081))
    held(mapping(8081))
    with socket.socket() as eager:
        eager.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            start_listening(eager, 8081)


def start_listening(one: socket.socket, port: int) -> None:
    one.bind(("0.0.0.0", port))
    one.listen()


def wait_for_sleep(one: Holder) -> None:
    """Wait until the program runs and has all its libraries."""
    deadline = time.monotonic() + 10
    while "pause" not in Path(f"/proc/{one.pid}/wchan").read_text():
        assert time.monotonic() < deadline
    assert Path(f"/proc/{one.pid}/comm").read_text() == "sleep\n"


def test_is_a_small_process_with_nothing_else_of_ours(held: Held, tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as ours:
        os.set_inheritable(ours.fileno(), True)
        one = held(mapping(8080))
    wait_for_sleep(one)
    assert os.readlink(f"/proc/{one.pid}/cwd") == "/"
    assert os.getsid(one.pid) != os.getsid(0)
    files = [os.readlink(f"/proc/{one.pid}/fd/{number}") for number in os.listdir(f"/proc/{one.pid}/fd")]
    assert sorted(name.partition(":")[0] for name in files) == ["/dev/null"] * 3 + ["socket"]
    assert int(Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()[1]) != os.getpid()


def test_it_works_where_the_standard_files_are_closed(tmp_path: Path) -> None:
    script = (
        "import os; from plugrun.api import PortMapping; from plugrun_net_bridge.holder import *; os.closerange(0, 3);"
        "one = hold([PortMapping(80, 8080)]); files = {os.readlink(f'/proc/{one.pid}/fd/{number}').partition(':')[0]"
        " for number in os.listdir(f'/proc/{one.pid}/fd')}; count = len(os.listdir(f'/proc/{one.pid}/fd'));"
        f"release(one); open({str(tmp_path / 'out')!r}, 'w').write(f'{{count}} {{sorted(files)}}')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert (tmp_path / "out").read_text() == "4 ['/dev/null', 'socket']"


def test_survives_whoever_started_it(held: Held) -> None:
    script = (
        "from plugrun.api import PortMapping; from plugrun_net_bridge.holder import *;"
        "print(*hold([PortMapping(80, 8080)], owner='gone'))"
    )
    pid, start = map(int, subprocess.check_output([sys.executable, "-c", script], text=True).split())
    one = Holder(pid, start)
    assert is_alive(one)
    assert ("gone", one) in set(holders())
    release(one)
    assert not is_alive(one)


def test_is_found_by_its_owner(held: Held) -> None:
    one = held(mapping(8080), owner="container")
    assert [found for owner, found in holders() if owner == "container"] == [one]
    release(one)
    assert not [found for owner, found in holders() if owner == "container"]


def test_releasing_twice_is_fine_and_never_hits_another_process(held: Held) -> None:
    one = held(mapping(8080))
    release(one._replace(start=one.start + 1))
    assert is_alive(one)
    release(one)
    release(one)
    release(NOBODY)
    bystander = subprocess.Popen(["sleep", "infinity"])
    try:
        release(Holder(bystander.pid, 1))
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_another_takes_over_without_a_gap(held: Held) -> None:
    old = held(mapping(8080, 3), mapping(9000, protocol="udp", address="127.0.0.1"))
    new = held(mapping(8081, 2), mapping(9000, protocol="udp", address="127.0.0.1"), mapping(8090), old=old)
    assert not can_bind("0.0.0.0", 8081)
    release(old)
    assert can_bind("0.0.0.0", 8080)
    for port in (8081, 8082, 8090):
        assert not can_bind("0.0.0.0", port)
    assert not can_bind("127.0.0.1", 9000, socket.SOCK_DGRAM)
    release(new)
    assert can_bind("0.0.0.0", 8081)


def test_takes_over_sockets_and_no_other_files(held: Held, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 8080)) as server, open(tmp_path / "library", "wb") as library:
        files = [library.fileno(), server.fileno()]
        process = subprocess.Popen(["sleep", "infinity"], pass_fds=files, stdin=subprocess.DEVNULL)
    try:
        start = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
        held(mapping(8080, address="127.0.0.1"), old=Holder(process.pid, start))
    finally:
        process.kill()
        process.wait()
    assert not can_bind("127.0.0.1", 8080)


def test_taking_over_from_one_that_has_ended_holds_anew(held: Held) -> None:
    old = held(mapping(8080))
    os.kill(old.pid, signal.SIGKILL)
    release(old)
    held(mapping(8080), old=old)
    assert not can_bind("0.0.0.0", 8080)


def test_a_failed_take_over_leaves_the_old_one(held: Held) -> None:
    old = held(mapping(8080))
    with socket.create_server(("0.0.0.0", 8081)), pytest.raises(FailedPrecondition, match="8081/tcp"):
        held(mapping(8080), mapping(8081), old=old)
    assert is_alive(old)
    assert not can_bind("0.0.0.0", 8080)


def test_so_many_are_held_and_no_more(held: Held) -> None:
    assert hold([mapping(1000, LIMIT + 1)]) == NOBODY
    held(mapping(1000, LIMIT + 1), mapping(8080), mapping(9000, LIMIT), mapping(8081, LIMIT - 1))
    assert can_bind("0.0.0.0", 1000)
    assert not can_bind("0.0.0.0", 8080)
    assert can_bind("0.0.0.0", 9000)
    assert not can_bind("0.0.0.0", 8081)


def test_a_protocol_that_the_kernel_has_not_is_not_held() -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        assert hold([mapping(8080, protocol="sctp")]) == NOBODY


def test_no_files_are_left_open(held: Held) -> None:
    before = os.listdir("/proc/self/fd")
    old = held(mapping(8080))
    release(held(mapping(8080), old=old))
    release(old)
    with socket.create_server(("0.0.0.0", 8081)):
        count = len(os.listdir("/proc/self/fd"))
        with pytest.raises(FailedPrecondition):
            hold([mapping(8080), mapping(8081)])
        assert len(os.listdir("/proc/self/fd")) == count
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_without_sleep_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(holder, "_DIRECTORIES", [str(tmp_path)])
    with pytest.raises(Unavailable, match="no process to hold ports") as refused:
        hold([mapping(8080)])
    assert "coreutils" in str(refused.value.hint)
