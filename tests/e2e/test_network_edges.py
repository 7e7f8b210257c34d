"""Networks at the edges of what is recorded: numbers used up, names taken early, failing drivers, shared namespaces."""

from __future__ import annotations

import pytest

import lab_networks
from e2e.refusals import assert_refused
from fixtures.engine import Cli
from plugrun import networks
from plugrun.errors import FailedPrecondition
from plugrun.lifecycle import connect as connecting
from plugrun.lifecycle import host_network, network
from plugrun.request import NetworkChoice

pytestmark = pytest.mark.root


@pytest.fixture
def web(engine, plugrun, busybox):
    """The record of a container that is made, and not started."""
    plugrun("create", "--name", "web", "--net", "bridge", busybox, "sleep", "600").ok()
    return engine.containers.find("web")


@pytest.mark.parametrize(("used", "number"), [([0], 1), ([0, 7], 8), ([0, 99], 1), ([98, 99, 0, 1], 2)])
def test_a_new_endpoint_comes_after_all_others_while_numbers_last(engine, web, used, number):
    """Names of interfaces have room for two digits."""
    endpoints = tuple(web.endpoints[0]._replace(number=one, network=str(one), name=str(one)) for one in used[1:])
    web.endpoints = (web.endpoints[0]._replace(number=used[0]), *endpoints)
    networks.create(engine, "front", driver="bridge")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connecting, "check", lambda *_: None)
        engine.containers.update(web)
        connecting.connect(engine, web, NetworkChoice("front"))
    assert engine.containers.find("web").endpoints[-1].number == number


def test_a_hundred_networks_are_the_most(engine, web):
    web.endpoints = tuple(web.endpoints[0]._replace(number=one, network=str(one)) for one in range(100))
    engine.containers.update(web)
    networks.create(engine, "front", driver="bridge")
    with pytest.raises(FailedPrecondition, match="on 100 networks, the most there can be"):
        connecting.connect(engine, web, NetworkChoice("front"))
    assert len(engine.containers.find("web").endpoints) == 100


def test_a_driver_that_comes_later_does_not_take_a_users_network(plugrun, busybox, private_root, tmp_path):
    plugrun("network", "create", "lab").ok()
    later = Cli(private_root, lab_networks.install(tmp_path / "site"))
    refused = later("create", "--net", "lab", busybox)
    assert_refused(refused, 125, "there is one of its name already", "plugrun network rm lab")
    assert later("network", "rm", "lab").ok().stdout == "lab\n"
    later("create", "--net", "lab", busybox).ok()


@pytest.mark.parametrize("what", [host_network.collect, lambda engine: host_network.reload(engine, [found(engine)])])
def test_a_driver_that_the_kernel_fails_is_a_warning(engine, web, monkeypatch, what):
    """Other drivers, and the command, go on."""
    said = []
    monkeypatch.setattr(engine, "warn", said.append)
    what(engine)
    assert said == []

    def fail(*_, **__):
        raise OSError(105, "No buffer space available")

    monkeypatch.setattr(engine, "network", fail)
    what(engine)
    assert all("No buffer space available" in line for line in said)
    assert any(line.startswith("network driver bridge cannot ") for line in said)


def found(engine):
    return engine.containers.find("web")


def test_a_namespace_is_joined_by_its_owners_pin(plugrun, engine, web):
    """A process's number can be another's by the time that it is looked up; what is pinned cannot."""
    plugrun("start", "web").ok()
    plugrun("create", "--name", "beside", "--net", "container:web", "busybox").ok()
    assert network.netns_of(engine, engine.containers.find("beside")) == str(engine.paths.netns(web.id))
