"""The engine's three files: what they say, that no value adds a line of its own, and how they are replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from plugrun.errors import DriverError, InvalidArgument
from plugrun.oci import etc_files

INJECTED = "\n6.6.6.6 debian.org"


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host of the test's own: reads go to a directory that stands for its ``/etc``."""
    real, etc = etc_files._read, tmp_path / "host"
    etc.mkdir()
    (etc / "hosts").write_text("127.0.0.1 localhost\n192.0.2.1\tserver.example server # box\n")
    (etc / "resolv.conf").write_text("nameserver 192.0.2.53\nsearch example\n")
    monkeypatch.setattr(etc_files, "_read", lambda path: real(str(etc / Path(path).name)))
    return etc


@pytest.fixture
def state(tmp_path):
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def write(state, **values):
    given = {"hostname": "box", "host_network": False, "addresses": (), **values}
    return {place: Path(path).read_text() for place, path in etc_files.write(state, **given).items()}


def test_a_container_without_a_network_knows_itself(state, host):
    assert write(state) == {
        "/etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tbox\n",
        "/etc/hostname": "box\n",
        "/etc/resolv.conf": "# this network has no resolver\n",
    }


def test_addresses_come_without_prefix_lengths(state, host):
    lines = write(state, addresses=("10.1.2.3/24", "fd00::3/64"))["/etc/hosts"].splitlines()
    assert lines[-2:] == ["10.1.2.3\tbox", "fd00::3\tbox"]


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
    paths = etc_files.write(state, hostname="box", host_network=True, addresses=())
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
