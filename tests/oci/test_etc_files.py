"""The engine's three files: what they say, that no value adds a line of its own, and how they are replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from plugrun.errors import DriverError, FailedPrecondition, InvalidArgument
from plugrun.oci import etc_files, hosts_file
from plugrun.oci.etc_files import About, Place

INJECTED = "\n6.6.6.6 debian.org"


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host of the test's own: reads go to a directory that stands for its ``/etc``."""
    real, etc = etc_files._read, tmp_path / "host"
    etc.mkdir()
    (etc / "hosts").write_text("127.0.0.1 localhost\n192.0.2.1\tserver.example server # box\n")
    (etc / "resolv.conf").write_text("nameserver 192.0.2.53\nsearch example\n")
    (tmp_path / "stub").mkdir()
    places = {"/etc": etc, "/run/systemd/resolve": tmp_path / "stub"}
    monkeypatch.setattr(etc_files, "_read", lambda path: real(str(places[str(Path(path).parent)] / Path(path).name)))
    return etc


@pytest.fixture
def state(tmp_path):
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def write(state, *, others=(), addresses=(), **values):
    given = {"hostname": "box", "connected": bool(addresses or values.get("places")), **values}
    if addresses:
        given["places"] = (Place(tuple(addresses)),)
    return {place: Path(path).read_text() for place, path in etc_files.write(state, About(**given), others).items()}


def settings(state, **values):
    """Return the lines of resolv.conf that are no comments."""
    return [line for line in write(state, **values)["/etc/resolv.conf"].splitlines() if not line.startswith("#")]


def test_a_container_without_a_network_knows_itself(state, host):
    assert write(state) == {
        "/etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tbox\n",
        "/etc/hostname": "box\n",
        "/etc/resolv.conf": "# this network has no resolver\n",
    }


def test_addresses_come_without_prefix_lengths(state, host):
    lines = write(state, addresses=("10.1.2.3/24", "fd00::3/64"))["/etc/hosts"].splitlines()
    assert lines[3:-1] == ["10.1.2.3\tbox", "fd00::3\tbox"]


def test_the_host_network_has_the_hosts_names_and_resolvers(state, host):
    found = write(state, host_network=True)
    assert found["/etc/hosts"] == (host / "hosts").read_text() + "127.0.1.1\tbox\n"  # "box" was in a comment only
    assert found["/etc/resolv.conf"] == (host / "resolv.conf").read_text()


@pytest.mark.parametrize("name", ["server", "server.example"])
def test_a_name_the_host_has_is_not_added(state, host, name):
    assert write(state, host_network=True, hostname=name)["/etc/hosts"] == (host / "hosts").read_text()


def test_a_last_line_without_an_end_gets_one(state, host):
    (host / "hosts").write_text("127.0.0.1 localhost")
    assert write(state, host_network=True)["/etc/hosts"] == "127.0.0.1 localhost\n127.0.1.1\tbox\n"


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "not UTF-8"])
def test_whatever_the_host_has_there_is_no_error(state, host, kind):
    path = host / "resolv.conf"
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "not UTF-8":
        path.write_bytes(b"search \xff\n")
    paths = etc_files.write(state, About("box", host_network=True))
    assert Path(paths["/etc/resolv.conf"]).read_bytes() == (b"search \xff\n" if kind == "not UTF-8" else b"")


@pytest.mark.parametrize("character", "\n\r\t\0\x0b\x0c\x1c\x85\u2028 #")
@pytest.mark.parametrize("host_network", [True, False])
def test_a_host_name_adds_no_line(state, host, character, host_network):
    with pytest.raises(InvalidArgument, match="host name") as caught:
        write(state, hostname=f"a{character}6.6.6.6", host_network=host_network)
    assert "\n" not in str(caught.value)
    assert not any(state.iterdir())


def test_an_empty_host_name_is_refused(state, host):
    with pytest.raises(InvalidArgument):
        write(state, hostname="")


def test_the_name_of_a_host_that_breaks_rfc_1123_is_fine(state, host):
    assert write(state, hostname="my_host", host_network=True)["/etc/hostname"] == "my_host\n"


@pytest.mark.parametrize("address", [f"10.0.0.1{INJECTED}", "10.0.0.1 localhost", "", "# 10.0.0.1"])
def test_an_address_adds_no_line(state, host, address):
    with pytest.raises(DriverError, match="address"):
        write(state, addresses=("10.0.0.2/24", address))


def test_the_containers_users_can_read_them_whatever_the_umask(state, host):
    old = os.umask(0o077)
    try:
        write(state)
    finally:
        os.umask(old)
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {0o644}
    assert sorted(path.name for path in state.iterdir()) == ["hostname", "hosts", "resolv.conf"]


@pytest.mark.parametrize("name", ["hosts", "hosts.new"])
def test_links_in_the_directory_are_replaced_not_followed(state, host, tmp_path, name):
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    (state / name).symlink_to(canary)
    write(state)
    assert canary.read_text() == "untouched"
    assert not (state / "hosts").is_symlink()


def test_a_mounted_old_file_keeps_its_content(state, host):
    write(state)
    with open(state / "hosts") as old:
        write(state, hostname="other")
        assert "box" in old.read()
    assert "other" in (state / "hosts").read_text()


NAMED = Place(("10.1.0.2/24",), named=True)


def test_a_container_knows_its_host_name_and_its_own_on_each_network(state, host):
    places = (NAMED, Place(("10.2.0.2/24", "fd02::2/64")))
    lines = write(state, places=places, name="web")["/etc/hosts"].splitlines()
    assert lines[3:-1] == ["10.1.0.2\tbox web", "10.2.0.2\tbox web", "fd02::2\tbox web"]


def test_others_follow_and_the_users_names_come_first(state, host):
    others = [hosts_file.line("10.1.0.3", ["db", "store"])]
    hosts = write(state, places=(NAMED,), extra_hosts=(("db", "192.0.2.9"), ("six", "fd00::9")), others=others)
    lines = [line.split() for line in hosts["/etc/hosts"].splitlines() if not line.startswith("#")]
    assert lines[2:] == [["192.0.2.9", "db"], ["fd00::9", "six"], ["10.1.0.2", "box"], ["10.1.0.3", "db", "store"]]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ((Place(("10.1.0.2/24",), gateways=("fd01::1", "10.1.0.1")), Place(gateways=("10.2.0.1",))), "10.1.0.1"),
        ((NAMED, Place(("10.2.0.2/24",), gateways=("10.2.0.1",))), "10.2.0.1"),
        ((Place(("fd01::2/64",), gateways=("fd01::1",)),), "fd01::1"),
    ],
)
def test_the_hosts_gateway_is_the_first_one(state, host, places, expected):
    found = write(state, places=places, extra_hosts=(("up", "host-gateway"),))["/etc/hosts"]
    assert f"\n{expected}\tup\n" in found


def test_on_the_hosts_network_the_host_is_at_home(state, host):
    found = write(state, host_network=True, extra_hosts=(("up", "host-gateway"), ("db", "192.0.2.9")))
    assert found["/etc/hosts"].endswith("127.0.0.1\tup\n192.0.2.9\tdb\n127.0.1.1\tbox\n")


@pytest.mark.parametrize("places", [(), (NAMED,)])
def test_without_a_gateway_it_stands_for_nothing(state, host, places):
    with pytest.raises(FailedPrecondition, match="host-gateway stands for nothing") as caught:
        write(state, places=places, extra_hosts=(("up", "host-gateway"),))
    assert "--add-host an address" in caught.value.hint
    assert not any(state.iterdir())


@pytest.mark.parametrize("character", "\n\r\t\0\x0b #")
def test_what_the_user_gives_adds_no_line(state, host, character):
    word = f"a{character}6.6.6.6"
    for values in (
        {"extra_hosts": ((word, "10.0.0.9"),)},
        {"extra_hosts": (("a", word),)},
        {"extra_hosts": (("a", f"10.0.0.9{character}x"),)},
        {"dns": (word,)},
        {"dns": (f"10.0.0.9{character}x",)},
        {"dns_search": (word,)},
        {"dns_options": (word,)},
    ):
        with pytest.raises(InvalidArgument) as caught:
            write(state, **values)
        assert "\n" not in str(caught.value)
    assert not any(state.iterdir())


@pytest.mark.parametrize("word", ["10.1.0.9\n6.6.6.6", "", "a b", "#a"])
def test_what_drivers_and_containers_say_adds_no_line(state, host, word):
    with pytest.raises(DriverError):
        hosts_file.line(word, ["db"])
    with pytest.raises(DriverError):
        hosts_file.line("10.1.0.9", ["db", word])
    with pytest.raises(DriverError, match="for a resolver"):
        write(state, places=(NAMED._replace(nameservers=(word,)),))
    with pytest.raises(DriverError):
        write(state, places=(NAMED._replace(gateways=(word,)),), extra_hosts=(("up", "host-gateway"),))


@pytest.mark.parametrize("address", ["1.2.3", "1.2.3.4/24", "fe80::1%eth0", "example", "1.2.3.4.5", "::g"])
def test_no_address_is_refused(state, host, address):
    with pytest.raises(InvalidArgument, match="no address of a resolver"):
        write(state, dns=(address,))
    with pytest.raises(InvalidArgument, match="no IP address"):
        write(state, extra_hosts=(("a", address),))


# --- resolv.conf ----------------------------------------------------------------------------------------------


def test_the_hosts_resolvers_are_asked_but_not_those_at_its_loopback(state, host):
    (host / "resolv.conf").write_text(
        "# the host's\nnameserver 127.0.0.53\nnameserver ::1\nnameserver fe80::1%eth0\nnameserver 192.0.2.53 # x\n"
        "domain old.example\nsearch corp.example example\noptions edns0 timeout:1\nsortlist 10.0.0.0\n"
    )
    expected = ["nameserver 192.0.2.53", "search corp.example example", "options edns0 timeout:1"]
    assert settings(state, addresses=("10.1.0.2/24",)) == expected
    assert settings(state, connected=True) == expected  # a namespace that somebody else made


def test_behind_systemds_stub_its_resolvers_are_asked(state, host, tmp_path):
    (host / "resolv.conf").write_text("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n")
    (tmp_path / "stub" / "resolv.conf").write_text("nameserver 192.0.2.7\nsearch lan\n")
    assert settings(state, addresses=("10.1.0.2/24",)) == ["nameserver 192.0.2.7", "search lan"]


@pytest.mark.parametrize("text", ["", "nameserver 127.0.0.1\nsearch lan\n", "nameserver ::ffff:127.0.0.1\n"])
def test_no_resolver_is_made_up(state, host, text):
    (host / "resolv.conf").write_text(text)
    found = write(state, addresses=("10.1.0.2/24",))["/etc/resolv.conf"]
    assert "nameserver" not in found
    assert found.startswith(
        "# the host's resolvers listen at its own loopback addresses only: choose others with --dns"
    )


def test_a_networks_own_resolver_is_asked_and_nothing_of_the_hosts(state, host):
    assert settings(state, places=(NAMED._replace(nameservers=("10.1.0.1", "fd01::1")),)) == [
        "nameserver 10.1.0.1",
        "nameserver fd01::1",
    ]


def test_a_network_with_names_has_no_search_domains_of_the_host(state, host):
    """``web`` must not become ``web.example`` when that container does not run."""
    assert settings(state, places=(NAMED,)) == ["nameserver 192.0.2.53"]
    assert settings(state, places=(NAMED._replace(named=False),)) == ["nameserver 192.0.2.53", "search example"]


def test_with_a_way_out_internal_resolvers_are_not_asked(state, host):
    out = Place(("10.1.0.2/24",), nameservers=("10.1.0.1",), named=True)
    inside = Place(("10.2.0.2/24",), nameservers=("10.2.0.1",), internal=True, named=True)
    for places in ((out, inside), (inside, out)):
        assert settings(state, places=places) == ["nameserver 10.1.0.1"]
    assert settings(state, places=(inside,)) == ["nameserver 10.2.0.1"]
    assert settings(state, places=(inside, out._replace(nameservers=()))) == ["nameserver 192.0.2.53"]


def test_from_internal_networks_alone_the_hosts_resolvers_are_not_asked(state, host):
    found = write(state, places=(Place(("10.2.0.2/24",), internal=True, named=True),))["/etc/resolv.conf"]
    assert found == "# nothing leaves this container's networks, so it has no resolver\n"


def test_what_the_user_says_replaces_each_by_itself(state, host):
    (host / "resolv.conf").write_text("nameserver 192.0.2.53\nsearch example\noptions edns0\n")
    address = ("10.1.0.2/24",)
    assert settings(state, addresses=address, dns=("192.0.2.1", "fd00::1")) == [
        "nameserver 192.0.2.1",
        "nameserver fd00::1",
        "search example",
        "options edns0",
    ]
    assert settings(state, addresses=address, dns_search=("a.b", "c")) == [
        "nameserver 192.0.2.53",
        "search a.b c",
        "options edns0",
    ]
    assert settings(state, addresses=address, dns_search=(".",), dns_options=("ndots:2", "rotate")) == [
        "nameserver 192.0.2.53",
        "options ndots:2 rotate",
    ]
    assert settings(state, host_network=True, dns=("192.0.2.1",))[:2] == ["nameserver 192.0.2.1", "search example"]
    assert settings(state, dns=("192.0.2.1",)) == ["nameserver 192.0.2.1"]


def test_search_domains_do_not_come_before_the_names_of_containers(state, host):
    place = NAMED._replace(nameservers=("10.1.0.1",))
    assert settings(state, places=(place,), dns_search=("corp",))[1:] == ["search corp", "options ndots:0"]
    assert settings(state, places=(place,), dns_search=("corp",), dns_options=("ndots:3",))[-1] == "options ndots:3"


# --- Changes while a container runs ---------------------------------------------------------------------------


def part(*others):
    return hosts_file.part(
        About("box", places=(NAMED,)), [hosts_file.line(address, [name]) for address, name in others]
    )


def test_the_changing_part_is_rewritten_in_the_file_itself(state, host):
    write(state, places=(NAMED,))
    path = state / "hosts"
    inode = path.stat().st_ino
    path.write_text("192.0.2.1\tfirst\n" + path.read_text() + "192.0.2.2\tlast\n")
    for others in ([("10.1.0.3", "db"), ("10.1.0.4", "queue")], [("10.1.0.4", "queue")], []):
        etc_files.rewrite_hosts(state, part(*others))
        lines = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
        assert lines[0] == ["192.0.2.1", "first"]
        assert lines[3:] == [["10.1.0.2", "box"], *map(list, others), ["192.0.2.2", "last"]]
    assert path.stat().st_ino == inode


@pytest.mark.parametrize("left", [b"", b"10.0.0.1 mine", b"10.0.0.1 mine\n", b"\xff\n"])
def test_a_file_that_was_overwritten_in_the_container_keeps_what_it_has(state, host, left):
    (state / "hosts").write_bytes(left)
    etc_files.rewrite_hosts(state, part())
    expected = left if left.endswith(b"\n") or not left else left + b"\n"
    assert (state / "hosts").read_bytes() == expected + part()


def test_a_file_that_was_made_huge_is_not_read_whole(state, host):
    (state / "hosts").touch()
    os.truncate(state / "hosts", 1 << 40)
    etc_files.rewrite_hosts(state, part())
    assert (state / "hosts").stat().st_size < 1000
    assert (state / "hosts").read_bytes().endswith(part())


def test_readers_always_find_the_container_itself(state, host):
    write(state, places=(NAMED,))
    few, many = part(), part(*((f"10.1.1.{number}", f"c{number}") for number in range(1, 200)))
    child = os.fork()
    if child == 0:
        for _ in range(500):
            etc_files.rewrite_hosts(state, many)
            etc_files.rewrite_hosts(state, few)
        os._exit(0)
    seen = set()
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        seen.add((state / "hosts").read_bytes())
    assert all(b"localhost" in found and b"box" in found for found in seen)


def test_links_are_not_followed_by_changes(state, host, tmp_path):
    (tmp_path / "canary").write_text("untouched")
    (state / "hosts").symlink_to(tmp_path / "canary")
    with pytest.raises(OSError, match="symbolic"):
        etc_files.rewrite_hosts(state, part())
    assert (tmp_path / "canary").read_text() == "untouched"


def test_resolvers_follow_the_networks_unless_the_container_chose_its_own(state, host):
    one = About("box", connected=True, places=(Place(("10.1.0.2/24",)),))
    two = one._replace(places=(*one.places, Place(("10.2.0.2/24",), nameservers=("10.2.0.1",), named=True)))
    path = Path(etc_files.write(state, one)["/etc/resolv.conf"])
    inode = path.stat().st_ino
    etc_files.rewrite_resolv_conf(state, one, two)
    assert (path.read_text(), path.stat().st_ino) == ("nameserver 10.2.0.1\n", inode)
    etc_files.rewrite_resolv_conf(state, two, one)
    assert path.read_text() == "nameserver 192.0.2.53\nsearch example\n"
    path.write_text("nameserver 192.0.2.99\n")
    etc_files.rewrite_resolv_conf(state, one, two)
    assert path.read_text() == "nameserver 192.0.2.99\n"
