from __future__ import annotations

import sqlite3
import threading
from contextlib import closing

import pytest

from plugrun.api import Network, PortMapping, Subnet, Unavailable
from plugrun_net_bridge import database
from plugrun_net_bridge.store import Endpoint, Store

NETWORK = Network(
    "a" * 64,
    "front",
    "bridge",
    (Subnet("10.1.0.0/24", "10.1.0.1"),),
    interface="pr-a",
    options={"mtu": "9000"},
    data={"mtu": 9000},
)
WEB = Endpoint("1" * 64, NETWORK.id, 0, "web", "10.1.0.2", None, "02:70:0a:01:00:02", 7, 8, (PortMapping(80, 8080),))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "state.db")


def test_returns_what_it_was_given_also_to_others(store, tmp_path):
    store.add_network(NETWORK)
    store.add(WEB)
    store.set_fact("colour", "red")
    other = Store(tmp_path / "state.db")
    assert other.networks() == [NETWORK]
    assert other.all() == other.of_network(NETWORK.id) == other.of_container(WEB.container_id) == [WEB]
    assert other.published() == [WEB]
    assert other.find(WEB.container_id, NETWORK.id) == WEB
    assert other.owner(NETWORK.id, "10.1.0.2") == WEB
    assert other.fact("colour") == "red"


def test_one_address_has_one_owner(store):
    store.add(WEB)
    with pytest.raises(sqlite3.IntegrityError):
        store.add(WEB._replace(container_id="2" * 64))
    assert store.all() == [WEB]


def test_a_transaction_is_all_or_nothing(store):
    def half():
        with store.transaction():
            store.add(WEB)
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert store.all() == []


def test_threads_take_turns(store):
    def count():
        for _ in range(50):
            with store.transaction():
                store.set_fact("count", str(int(store.fact("count") or "0") + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.fact("count") == "200"


def test_a_reboot_makes_void_what_it_ended(store, tmp_path, monkeypatch):
    store.add_network(NETWORK)
    store.add(WEB)
    store.set_fact("forwarding4", "was off")
    store.set_fact("ula", "0102030405", lasting=True)
    assert Store(tmp_path / "state.db").all() == [WEB]
    boot = tmp_path / "boot_id"
    boot.write_text("another\n")
    monkeypatch.setattr(database, "_BOOT", str(boot))
    after = Store(tmp_path / "state.db")
    assert (after.all(), after.networks(), after.fact("forwarding4")) == ([], [], "")
    assert after.fact("ula") == "0102030405"


def test_says_what_is_wrong_with_the_file(tmp_path):
    path = tmp_path / "state.db"
    path.write_text("no database at all, but long enough to be looked at as if it were one")
    with pytest.raises(Unavailable, match=f"{path} cannot be used"):
        Store(path).all()
    path.unlink()
    Store(path).all()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(Unavailable, match="has schema 99, this plugrun-net-bridge knows 1"):
        Store(path).all()
    with pytest.raises(Unavailable, match="cannot be made"):
        Store(tmp_path / "no" / "state.db").all()
