"""What happens between the steps of a change of networks: others come in between, or it is killed there."""

from __future__ import annotations

import os

import pytest

from plugrun import locks, namespaces, networks
from plugrun.errors import NotFound
from plugrun.lifecycle import connect as connecting
from plugrun.lifecycle.create import create
from plugrun.lifecycle.end import stop
from plugrun.lifecycle.start import start
from plugrun.ports import PortMapping
from plugrun.request import ContainerRequest, NetworkChoice

pytestmark = pytest.mark.root


@pytest.fixture
def web(engine, plugrun, busybox):
    """Make a container, which is not started."""

    def make(*on, **options):
        request = ContainerRequest("busybox", ["sleep", "1000"], name="web", networks=tuple(map(NetworkChoice, on)))
        return create(engine, request._replace(**options))

    yield make
    plugrun.remove_all()


def test_nothing_is_collected_while_a_namespace_is_made(engine, web, monkeypatch):
    """Whoever collects has read who starts before this one did, and would take its namespace for a leftover."""
    alone, whole = [], namespaces.create

    def make(pin):
        alone.append(locks.try_acquire(engine.paths.network_use_lock))
        whole(pin)

    monkeypatch.setattr(namespaces, "create", make)
    record = web("none")
    start(engine, record.id)
    stop(engine, engine.containers.find("web"), 0, 9)
    assert alone == [None]
    free = locks.try_acquire(engine.paths.network_use_lock)
    assert free is not None
    os.close(free)


def test_a_network_that_is_removed_meanwhile_is_not_connected(engine, web, monkeypatch):
    web("none", networks=())
    networks.create(engine, "back", driver="bridge")
    whole = connecting.choose

    def choose(*arguments):
        found = whole(*arguments)
        networks.remove(engine, "back")
        return found

    monkeypatch.setattr(connecting, "choose", choose)
    with pytest.raises(NotFound, match="network back has just been removed"):
        connecting.connect(engine, engine.containers.find("web"), NetworkChoice("back"))
    assert [one.name for one in engine.containers.find("web").endpoints] == ["bridge"]


@pytest.mark.parametrize(
    "published", [{"ports": (PortMapping(80, 8080),)}, {"publish_all": True, "exposed": ("80/tcp",)}]
)
def test_ports_are_of_another_network_as_soon_as_the_first_is_left(engine, web, monkeypatch, published):
    for name in ("front", "back"):
        networks.create(engine, name, driver="bridge")
    record = web("front", "back", **published)
    assert [one.publishes for one in record.endpoints] == [True, False]

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(connecting, "_publish", die)
    with pytest.raises(KeyboardInterrupt):
        connecting.disconnect(engine, record, "front")
    (left,) = engine.containers.find("web").endpoints
    assert (left.name, left.publishes) == ("back", True)
