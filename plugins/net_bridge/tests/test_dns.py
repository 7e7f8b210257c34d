"""Real aardvark-dns, asked from real namespaces; the host's own resolver is a real server in another namespace."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plugrun.api import InvalidArgument, Network, Subnet
from plugrun_net_bridge import dns_daemon, dns_query
from plugrun_net_bridge.dns import Entry, Resolver
from plugrun_net_bridge.dns_daemon import find_program
from terminals import until

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(find_program() is None, reason="aardvark-dns is not installed"),
]

FOREIGN = "203.0.113.7"
UPSTREAM = """
import socketserver, sys
class Answer(socketserver.BaseRequestHandler):
    def handle(self):
        question, link = self.request
        labels, place = [], 12
        while question[place]:
            labels.append(question[place + 1 : place + 1 + question[place]].decode())
            place += 1 + question[place]
        print(".".join(labels), flush=True)
        found = question[place + 1 : place + 3] == b"\\0\\1"
        header = question[:2] + b"\\x81\\x80\\0\\1" + (b"\\0\\1" if found else b"\\0\\0") + bytes(4)
        record = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4" + bytes([203, 0, 113, 7])
        link.sendto(header + question[12 : place + 5] + (record if found else b""), self.client_address)
with socketserver.UDPServer(("192.0.2.53", 53), Answer) as server:
    print("ready", flush=True)
    server.serve_forever()
"""


def ip(*argv):
    subprocess.run(["ip", *argv], check=True)


def network(number, *, internal=False):
    subnets = (Subnet(f"10.9.{number}.0/24", f"10.9.{number}.1"), Subnet(f"fd09:{number}::/64", f"fd09:{number}::1"))
    return Network(f"{number:064x}", f"net{number}", "bridge", subnets, internal=internal, interface=f"br{number}")


def listen(net):
    return [subnet.gateway for subnet in net.subnets]


def entry(net, last, *names):
    container = f"{last:064x}"
    return Entry(container, f"10.9.{int(net.id, 16)}.{last}", f"fd09:{int(net.id, 16)}::{last}", names)


@pytest.fixture
def nets():
    """Bridges with nothing on them yet: an open one, an internal one, another open one."""
    made = [network(1), network(2, internal=True), network(3)]
    for net in made:
        ip("link", "add", net.interface, "type", "bridge")
        ip("link", "set", net.interface, "up")
        set_addresses(net, "add")
    yield made
    for net in made:
        ip("link", "delete", net.interface)


def set_addresses(net, verb):
    for subnet in net.subnets:
        length = subnet.subnet.partition("/")[2]
        nodad = ["nodad"] if verb == "add" and ":" in subnet.gateway else []
        ip("address", verb, f"{subnet.gateway}/{length}", "dev", net.interface, *nodad)


@pytest.fixture
def resolver(tmp_path):
    resolver = Resolver(tmp_path / "dns")
    yield resolver
    resolver.gc(frozenset())


@pytest.fixture
def namespaces():
    """Make network namespaces by name."""
    made = []

    def make(name):
        ip("netns", "add", name)
        made.append(name)
        ip("-n", name, "link", "set", "lo", "up")

    yield make
    for name in made:
        ip("netns", "delete", name)
    if made:
        subprocess.run(["umount", "/run/netns"], check=True)  # ip-netns(8) has mounted it on itself
    deadline = time.monotonic() + 10
    while any(link.startswith("v-") for link in os.listdir("/sys/class/net")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def connect(namespace, inner, outer, *addresses):
    ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", namespace)
    ip("link", "set", outer, "up")
    for address in addresses:
        ip("-n", namespace, "address", "add", address, "dev", inner, *(["nodad"] if ":" in address else []))
    ip("-n", namespace, "link", "set", inner, "up")


@pytest.fixture
def join(namespaces):
    """Give a container a namespace with an address on each of some networks; answer how to ask from there."""

    def make(last, *on):
        name = f"c{last}"
        namespaces(name)
        for net in on:
            number = int(net.id, 16)
            outer = f"v-{last}-{number}"
            connect(name, f"eth{number}", outer, f"10.9.{number}.{last}/24", f"fd09:{number}::{last}/64")
            ip("link", "set", outer, "master", net.interface)
        return lambda question, server, *, kind="a": lookup(name, question, server, kind)

    return make


def lookup(name, question, server, kind):
    command = ["ip", "netns", "exec", name, "busybox", "nslookup", f"-type={kind}", question, server]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "NXDOMAIN" in done.stdout + done.stderr:
        return "NXDOMAIN"
    answers = (done.stdout + done.stderr).partition("\n\n")[2]
    return sorted(line.split()[-1] for line in answers.splitlines() if line.startswith("Address") or "name =" in line)


@pytest.fixture
def upstream(tmp_path, namespaces):
    """The resolver that the host uses; a file with the names it was asked for."""
    namespaces("internet")
    connect("internet", "eth0", "v-uplink", "192.0.2.53/24")
    ip("address", "add", "192.0.2.1/24", "dev", "v-uplink")
    before = Path("/etc/resolv.conf").read_bytes()
    Path("/etc/resolv.conf").write_text("search corp.example\nnameserver 192.0.2.53\n")
    asked = tmp_path / "asked"
    command = ["ip", "netns", "exec", "internet", sys.executable, "-c", UPSTREAM]
    with asked.open("w") as out, subprocess.Popen(command, stdout=out) as server:
        deadline = time.monotonic() + 10
        while asked.read_text() != "ready\n":
            assert time.monotonic() < deadline
            assert server.poll() is None
            time.sleep(0.01)
        yield lambda: asked.read_text().split()[1:]
        server.kill()
    Path("/etc/resolv.conf").write_bytes(before)


def daemons(resolver):
    """Return the pids of the resolver's processes."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith((b"aardvark-dns", b"busybox")) and str(resolver._directory) in str(words):
            found.append(int(name))
    return found


def answers(net, name, address):
    return all(dns_query.answers(server, name, address, 0.3) for server in listen(net))


def test_containers_find_each_other_by_name_and_alias_in_any_case(resolver, nets, join):
    net = nets[0]
    ask = join(2, net)
    assert resolver.add(net, listen(net), entry(net, 2, "web")), resolver.reason
    assert resolver.add(net, listen(net), entry(net, 3, "Db", "store.internal", "x" * 64)), resolver.reason
    for server in listen(net):
        for name in ("db", "DB", "store.internal"):
            assert ask(name, server) == ["10.9.1.3"], (server, name)
        assert ask("db", server, kind="aaaa") == ["fd09:1::3"]
    assert "db" in str(ask("3.1.9.10.in-addr.arpa", "10.9.1.1", kind="ptr"))


def test_the_names_of_a_network_stay_there(resolver, nets, join, upstream):
    one, _, other = nets
    ask, ask_other = join(2, one), join(4, other)
    assert resolver.add(one, listen(one), entry(one, 2, "web"))
    assert resolver.add(other, listen(other), entry(other, 4, "db"))
    assert (ask("web", "10.9.1.1"), ask_other("db", "10.9.3.1")) == (["10.9.1.2"], ["10.9.3.4"])
    assert "10.9" not in str(ask("db", "10.9.1.1"))
    assert "10.9" not in str(ask_other("web", "10.9.3.1"))
    assert "web.corp.example" not in upstream()


def test_foreign_names_are_asked_of_the_hosts_resolver_but_for_internal_networks(resolver, nets, join, upstream):
    """Class 62, CVE-2024-29018; the control is the same question on a network that is not internal."""
    net, internal, _ = nets
    ask, ask_inside = join(2, net), join(3, internal)
    assert resolver.add(net, listen(net), entry(net, 2, "web"))
    assert resolver.add(internal, listen(internal), entry(internal, 3, "db"))
    assert ask("www.example.com", "10.9.1.1") == [FOREIGN]
    assert upstream() == ["www.example.com"]
    assert ask_inside("secret.example.com", "10.9.2.1") == "NXDOMAIN"
    assert ask_inside("1.2.0.192.in-addr.arpa", "10.9.2.1", kind="ptr") == "NXDOMAIN"
    assert ask_inside("db", "10.9.2.1") == ["10.9.2.3"]
    assert upstream() == ["www.example.com"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_container_on_both_kinds_of_networks_asks_the_open_one_for_all(resolver, nets, join, upstream, order):
    net, internal, _ = nets
    assert resolver.add(internal, listen(internal), entry(internal, 3, "db"))
    assert len(daemons(resolver)) == 1
    ask = join(2, net, internal)
    for number in order:
        assert resolver.add(nets[number], listen(nets[number]), entry(nets[number], 2, "web"))
    assert ask("www.example.com", "10.9.1.1") == [FOREIGN]
    assert ask("db", "10.9.1.1") == ["10.9.2.3"]
    asked = upstream()
    assert resolver.add(internal, listen(internal), entry(internal, 5, "late"))
    assert ask("late", "10.9.1.1") == ["10.9.2.5"]
    resolver.remove(internal.id, f"{2:064x}")
    assert os.listdir(resolver._zones.open) == [name for name in os.listdir(resolver._zones.open) if "%" not in name]
    until(lambda: "10.9" not in str(ask("db", "10.9.1.1")))  # it reads its files again on its own
    assert asked == ["www.example.com"]


def test_ends_with_the_last_container_and_not_before(resolver, nets):
    net = nets[0]
    assert daemons(resolver) == []
    for last in (2, 3):
        assert resolver.add(net, listen(net), entry(net, last, f"c{last}"))
    (process,) = daemons(resolver)
    for _ in range(2):
        resolver.remove(net.id, f"{2:064x}")
    assert daemons(resolver) == [process]
    assert answers(net, "c3", "10.9.1.3")
    until(lambda: not answers(net, "c2", "10.9.1.2"))
    resolver.remove(net.id, f"{3:064x}")
    assert daemons(resolver) == []
    assert sorted(os.listdir(resolver._directory)) == ["internal", "lock", "open"]
    assert os.listdir(resolver._zones.open) == []


def test_garbage_collection_keeps_what_is_valid(resolver, nets):
    net, internal, _ = nets
    for last, on in ((2, net), (3, net), (4, internal)):
        assert resolver.add(on, listen(on), entry(on, last, f"c{last}"))
    assert len(daemons(resolver)) == 2
    resolver.gc(frozenset({f"{3:064x}"}))
    assert answers(net, "c3", "10.9.1.3")
    until(lambda: not answers(net, "c2", "10.9.1.2"))
    assert len(daemons(resolver)) == 1
    resolver.gc(frozenset())
    assert daemons(resolver) == []


def test_nothing_is_made_for_those_who_do_not_need_it(tmp_path):
    resolver = Resolver(tmp_path / "dns")
    resolver.remove("a" * 64, "b" * 64)
    resolver.gc(frozenset())
    assert not (tmp_path / "dns").exists()


STARTER = """
import sys, time
from pathlib import Path
from plugrun.api import Network
from plugrun_net_bridge.dns import Entry, Resolver
resolver = Resolver(Path(sys.argv[1]))
last = int(sys.argv[2])
entry = Entry(f"{last:064x}", f"10.9.1.{last}", None, (f"c{last}",))
added = resolver.add(Network(f"{1:064x}", "net1", "bridge"), ["10.9.1.1", "fd09:1::1"], entry)
print(added, resolver.reason, flush=True)
time.sleep(float(sys.argv[3]))
"""


def starter(resolver, last, stay=0.0, **options):
    command = [sys.executable, "-c", STARTER, str(resolver._directory), str(last), str(stay)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True, **options)


def test_survives_who_started_it_and_keeps_nothing_of_it(resolver, nets, tmp_path):
    with (tmp_path / "open").open("w") as stream, starter(resolver, 2, 60, pass_fds=[stream.fileno()]) as process:
        assert process.stdout.readline() == "True \n"
        (daemon,) = daemons(resolver)
        assert os.readlink(f"/proc/{process.pid}/fd/{stream.fileno()}") == stream.name
        assert stream.name not in open_files(daemon)
        assert "lock" not in str(open_files(daemon))
        os.killpg(process.pid, signal.SIGKILL)
    assert answers(nets[0], "c2", "10.9.1.2")
    assert os.readlink(f"/proc/{daemon}/cwd") == "/"
    assert Path(f"/proc/{daemon}/environ").read_bytes() == b""


def open_files(pid):
    return [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]


def test_many_at_once_share_one(resolver, nets):
    started = [starter(resolver, last) for last in range(2, 14)]
    assert [process.communicate(timeout=60)[0] for process in started] == ["True \n"] * len(started)
    assert len(daemons(resolver)) == 1
    assert all(answers(nets[0], f"c{last}", f"10.9.1.{last}") for last in range(2, 14))


def test_one_that_was_killed_is_started_again(resolver, nets):
    net = nets[0]
    assert resolver.add(net, listen(net), entry(net, 2, "web"))
    (process,) = daemons(resolver)
    os.kill(process, signal.SIGKILL)
    assert resolver.add(net, listen(net), entry(net, 3, "db"))
    assert answers(net, "web", "10.9.1.2")
    (process,) = daemons(resolver)
    os.kill(process, signal.SIGKILL)
    resolver.remove(net.id, f"{3:064x}")
    assert answers(net, "web", "10.9.1.2")


def test_is_known_without_its_pid_file(resolver, nets):
    """We may have been killed between its start and the file."""
    net = nets[0]
    assert resolver.add(net, listen(net), entry(net, 2, "web"))
    (process,) = daemons(resolver)
    (resolver._zones.open / "aardvark.pid").unlink()
    assert resolver.add(net, listen(net), entry(net, 3, "db"))
    assert daemons(resolver) == [process]


@pytest.mark.parametrize("decoy", ["another program", "serves another directory", "in a container"])
def test_never_takes_another_process_for_it(resolver, nets, tmp_path, decoy):
    net = nets[0]
    assert resolver.add(net, listen(net), entry(net, 2, "web"))
    (mine,) = daemons(resolver)
    os.kill(mine, signal.SIGKILL)
    config = str(resolver._zones.open)
    program = tmp_path / ("sleeper" if decoy == "another program" else "aardvark-dns")
    program.write_bytes(Path("/usr/bin/busybox").read_bytes())
    program.chmod(0o755)
    ours = tmp_path / "elsewhere" if decoy == "serves another directory" else config
    command = ["bash", "-c", 'exec -a busybox "$0" sh -c "read forever" "$1"', str(program), str(ours)]
    if decoy == "in a container":
        command = ["unshare", "--net", *command]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as other:
        wait_for_program(other.pid, program)
        (resolver._zones.open / "aardvark.pid").write_text(str(other.pid))
        assert resolver.add(net, listen(net), entry(net, 3, "db"))
        (resolver._zones.open / "aardvark.pid").write_text(str(other.pid))
        resolver.gc(frozenset())
        assert other.poll() is None
        assert set(daemons(resolver)) <= {other.pid}
        other.kill()


def wait_for_program(pid, program):
    deadline = time.monotonic() + 10
    while os.readlink(f"/proc/{pid}/exe") != str(program):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_another_boot_left_counts_for_nothing(resolver, nets):
    net = nets[0]
    assert resolver.add(net, listen(net), entry(net, 2, "web"))
    (resolver._directory / "lock").write_text("another boot's\n" + "x" * 100)
    assert resolver.add(net, listen(net), entry(net, 3, "db"))
    until(lambda: not answers(net, "web", "10.9.1.2"))
    assert not resolver._zones.has(net.id, f"{2:064x}")
    assert resolver.add(net, listen(net), entry(net, 4, "more"))
    assert answers(net, "db", "10.9.1.3")


@pytest.mark.parametrize("address", ["0.0.0.0", "10.9.1.1", "fd09:1::1"])
def test_a_port_that_others_have_is_left_to_them(resolver, nets, address):
    net = nets[0]
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((address, 53))
        begun = time.monotonic()
        assert not resolver.add(net, listen(net), entry(net, 2, "web"))
        assert time.monotonic() - begun < 0.3
        assert "another program listens at port 53 of" in resolver.reason
        assert daemons(resolver) == []
        assert not resolver._zones.has(net.id)
    assert resolver.add(net, listen(net), entry(net, 2, "web"))
    assert resolver.reason == ""


def test_says_when_the_host_does_not_have_the_address(resolver, nets):
    net = nets[0]
    set_addresses(net, "del")
    assert not resolver.add(net, listen(net), entry(net, 2, "web"))
    assert "nobody can listen at port 53 of 10.9.1.1: Cannot assign requested address" in resolver.reason
    assert daemons(resolver) == []


def test_comes_back_with_an_address_that_was_gone(resolver, nets):
    net, _, other = nets
    assert resolver.add(net, listen(net), entry(net, 2, "web"))
    set_addresses(net, "del")
    assert resolver.add(other, listen(other), entry(other, 3, "db"))
    set_addresses(net, "add")
    assert resolver.add(net, listen(net), entry(net, 4, "late"))
    assert answers(net, "web", "10.9.1.2")
    assert len(daemons(resolver)) == 1


def test_a_network_left_and_entered_again_at_once_is_served(resolver, nets):
    net, _, other = nets
    assert resolver.add(other, listen(other), entry(other, 9, "stays"))
    for _ in range(20):
        assert resolver.add(net, listen(net), entry(net, 2, "web")), resolver.reason
        resolver.remove(net.id, f"{2:064x}")


def test_a_name_that_dns_cannot_ask_for_does_not_keep_out_the_others(resolver, nets):
    net = nets[0]
    assert resolver.add(net, listen(net), entry(net, 2, "x" * 64, "web")), resolver.reason
    assert answers(net, "web", "10.9.1.2")
    assert resolver.add(net, listen(net), entry(net, 3, "x" * 64)), resolver.reason
    assert answers(net, f"{3:064x}"[:12], "10.9.1.3")


def test_one_that_runs_but_does_not_listen_is_replaced(resolver, nets, tmp_path):
    """As aardvark-dns 1.11 and 1.12 may: it never tries an address again that was not there once."""
    net = nets[0]
    assert resolver.add(net, listen(net), entry(net, 2, "web"))
    os.kill(*daemons(resolver), signal.SIGKILL)
    program = tmp_path / "aardvark-dns"
    program.write_bytes(Path("/usr/bin/busybox").read_bytes())
    program.chmod(0o755)
    script = 'trap "" HUP; echo deaf; read forever'
    command = ["busybox", "sh", "-c", script, str(resolver._zones.open)]
    with subprocess.Popen(command, executable=program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout.readline() == b"deaf\n"
        (resolver._zones.open / "aardvark.pid").write_text(str(deaf.pid))
        assert resolver.add(net, listen(net), entry(net, 3, "db")), resolver.reason
        assert deaf.wait(timeout=10) == -signal.SIGTERM
    assert answers(net, "web", "10.9.1.2")


@pytest.mark.parametrize("name", ["a b", "a,b", "a\nb", "a\tb", "é", "a#b"])
def test_no_name_can_write_another_line(resolver, nets, name):
    net = nets[0]
    with pytest.raises(InvalidArgument, match="cannot be a name on a network"):
        resolver.add(net, listen(net), entry(net, 2, "web", name))
    with pytest.raises(InvalidArgument, match="is no address"):
        resolver.add(net, listen(net), Entry("a" * 64, "10.9.1.2 x", None, ("web",)))
    assert not resolver._zones.has(net.id)
    assert resolver.add(net, listen(net), entry(net, 2, "web", "a-b_c.d"))


def test_says_what_to_install(resolver, nets, monkeypatch):
    monkeypatch.setattr(dns_daemon, "_PLACES", ())
    assert not resolver.add(nets[0], listen(nets[0]), entry(nets[0], 2, "web"))
    assert "apt-get install aardvark-dns" in resolver.reason
    monkeypatch.setenv("PATH", "/usr/bin:/usr/lib/podman")
    assert resolver.add(nets[0], listen(nets[0]), entry(nets[0], 2, "web"))


def test_says_when_it_cannot_be_started(resolver, nets, monkeypatch, tmp_path):
    broken = tmp_path / "aardvark-dns"
    broken.write_text("#!/bin/sh\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setattr(dns_daemon, "_PLACES", (str(tmp_path),))
    assert not resolver.add(nets[0], listen(nets[0]), entry(nets[0], 2, "web"))
    assert "did not start: exit status 7" in resolver.reason
    assert not resolver._zones.has(nets[0].id)
