"""Every installed storage driver with every installed network driver: one story a cell, and nothing left of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fixtures.host import look, wait_for_end_of_new
from fixtures.network import HOST, HOST6
from fixtures.probes import Server
from matrix.cells import HOST_PORT, PARTNER, PORT, Cell, promise
from plugrun.manager import load
from terminals import until

pytestmark = pytest.mark.root

STORAGES, NETWORKS = sorted(load().storage), sorted(load().network)
SERVE = f"mkdir -p /srv; echo started >> /srv/index.html; trap : TERM; httpd -f -p {PORT} -h /srv & wait"


@pytest.fixture(scope="module", params=STORAGES)
def storage(request, shared_plugrun):
    """The name of a storage driver, with a file system in a file if it does not work on this disk."""
    name, plugrun = request.param, shared_plugrun
    reason = load().storage[name].reason(plugrun.roots.root / "storage" / name)
    if reason is None:
        yield name
        return
    if plugrun("storage", "create", name, "--size", "512M").code != 0:
        pytest.skip(reason)
    yield name
    plugrun("storage", "rm", name).ok()


@pytest.fixture(scope="module")
def surroundings(shared_world, shared_plugrun):
    """A container to join, and a server on the host."""
    shared_plugrun("run", "-d", "--name", PARTNER, "busybox", "sleep", "1000").ok()
    with Server(shared_world.host, HOST_PORT, addresses=(HOST, HOST6)):
        yield


@pytest.fixture(params=NETWORKS)
def promised(request, storage, surroundings, shared_plugrun, shared_world):
    """A way to use a network driver; what its first container makes for all later ones is there."""
    name, plugrun = request.param, shared_plugrun
    reason = load().network[name].reason(plugrun.roots.root / "network" / name)
    if reason is not None:
        pytest.skip(reason)
    found = promise(name, plugrun, shared_world)
    plugrun("--storage", storage, "run", "--rm", "--net", found.value, "busybox", "true").ok()
    yield found
    plugrun("rm", "-f", "cell")  # of a story that broke off


def test_a_story(storage, promised, shared_plugrun, shared_world):
    plugrun = shared_plugrun
    before, devices = look(), devices_of(shared_world)

    ports = ["-p", str(PORT)] if promised.ports else []
    container = plugrun(
        *("--storage", storage, "run", "-d", "--name", "cell", "--net", promised.value, *ports),
        *("busybox", "sh", "-c", SERVE),
    ).ok().line  # fmt: skip
    cell = Cell(plugrun, shared_world, promised, container)
    cell.keeps_its_promise("started")

    cell.inside("echo more >> /srv/index.html")
    plugrun("stop", "-t", "5", "cell").ok()
    plugrun("start", "cell").ok()
    cell.keeps_its_promise("started\nmore\nstarted")

    words = [*cell.addresses(), *plugrun("port", "cell").stdout.split()] if promised.ports else []
    plugrun("rm", "-f", "cell").ok()
    assert not wait_for_end_of_new(before)
    until(lambda: devices_of(shared_world) <= devices)  # the kernel removes them with the namespace, in its own time
    rules = shared_world.ruleset()
    assert not [word for word in words if word in rules]
    assert not list(files_named_after(container, plugrun))


def devices_of(world):
    return {(place.name, device) for place in (world.host, world.lan) for device in place.devices()}


def files_named_after(container, plugrun):
    for root in (plugrun.roots.root, plugrun.roots.run_root):
        for directory, names, others in os.walk(root):
            if not directory.endswith("/fs"):
                yield from (Path(directory, name) for name in (*names, *others) if container[:12] in name)


def test_the_bundled_drivers_have_cells():
    assert {"overlay", "btrfs"} <= set(STORAGES)
    assert {"bridge", "host", "none", "container"} <= set(NETWORKS)
