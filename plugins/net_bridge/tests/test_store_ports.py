"""Which endpoints are looked at when a port is to be given: not those whose ports are elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugrun.api import PortMapping
from plugrun_net_bridge.store import Endpoint, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "state.db")
    ports = {"a": (PortMapping(80, 8080),), "b": (PortMapping(1, 9000, size=100), PortMapping(1, 9500)), "c": ()}
    for number, (name, some) in enumerate(ports.items()):
        store.add(Endpoint(name, "net", 0, name, f"10.0.0.{number}", None, "02:00:00:00:00:01", ports=some))
    return store


@pytest.mark.parametrize(
    ("lowest", "highest", "found"),
    [
        (8080, 8080, "a"), (8081, 8999, ""), (1, 65535, "ab"), (9099, 9099, "b"),
        (9501, 9600, ""), (9300, 9300, "b"),  # between its ports: to be looked at
    ],
)  # fmt: skip
def test_those_near_are_found(store: Store, lowest: int, highest: int, found: str) -> None:
    assert "".join(one.container_id for one in store.published_near(lowest, highest)) == found


def test_follows_a_change(store: Store) -> None:
    (a,) = store.published_near(8080, 8080)
    store.set_ports(a._replace(ports=(PortMapping(80, 7000),)))
    assert not store.published_near(8080, 8080)
    assert store.published_near(7000, 7000)
    store.set_ports(a._replace(ports=()))
    assert not store.published_near(7000, 7000)
