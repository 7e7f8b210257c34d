"""Killed at any point of a container's way onto its networks and off them, the engine leaves nothing for good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.network import HOST
from fixtures.probes import REFUSED, ask, listen
from terminals import until

pytestmark = pytest.mark.root

# Starts a container on two networks, with a port, and dies without a word in the step that argv names.
BOMB = """
import os, sys
from pathlib import Path
from plugrun.api import hookimpl
from plugrun.engine import Engine
from plugrun.lifecycle.create import create
from plugrun.lifecycle.end import stop
from plugrun.lifecycle.start import start
from plugrun.manager import load
from plugrun.paths import Paths
from plugrun.ports import PortMapping
from plugrun.request import ContainerRequest, NetworkChoice

where, root, run_root = sys.argv[1:]

class Bomb:
    @hookimpl
    def plugrun_amend_spec(self, container, spec):
        if where == "start":
            os._exit(9)

    @hookimpl
    def plugrun_container_event(self, event, container):
        if event == where:
            os._exit(9)

def die_after(driver, method):
    whole = getattr(type(driver), method)
    def half(self, *arguments, **options):
        whole(self, *arguments, **options)
        os._exit(9)
    setattr(type(driver), method, half)

def die_in_the_second(driver):
    whole, calls = type(driver).setup, []
    def half(self, at):
        calls.append(at)
        if len(calls) == 2:
            os._exit(9)
        return whole(self, at)
    type(driver).setup = half

engine = Engine(Paths(Path(root), Path(run_root)), plugins=load([("bomb", Bomb())]))
driver = engine.network("bridge", {})
if where in {"setup", "teardown"}:
    die_after(driver, where)
elif where == "between":
    die_in_the_second(driver)
networks = (NetworkChoice("front"), NetworkChoice("back"))
ports = (PortMapping(80, 8080),)
record = create(
    engine, ContainerRequest("busybox", ["sleep", "1000"], name="web", networks=networks, ports=ports)
)
start(engine, record.id)
stop(engine, engine.containers.find("web"), 0, 9)
"""


@pytest.fixture(scope="module")
def networks(shared_plugrun):
    """Two networks, the first with one address, and what they keep on the host."""
    shared_plugrun("network", "create", "--subnet", "10.93.0.0/24", "--ip-range", "10.93.0.8/32", "front").ok()
    shared_plugrun("network", "create", "back").ok()
    shared_plugrun("run", "--rm", "--net", "front", "--net", "back", "busybox", "true").ok()
    until(lambda: not ports_of_bridges(shared_plugrun.host))


def ports_of_bridges(host):
    return {one["ifname"] for one in json.loads(host.run("ip", "-json", "link", "show")) if "master" in one}


@pytest.fixture
def plugrun(shared_plugrun, networks):
    yield shared_plugrun
    shared_plugrun.remove_containers()
    until(lambda: not ports_of_bridges(shared_plugrun.host))


def die(plugrun, where):
    roots = plugrun.roots
    argv = plugrun.host.argv(sys.executable, "-c", BOMB, where, str(roots.root), str(roots.run_root))
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 9, done.stderr


def traces(plugrun, world):
    """What is there of containers on the host: interfaces, pinned namespaces, ports in the rules, processes."""
    found = {f"interface {name}" for name in world.host.devices()}
    found |= {f"namespace {name}" for name in os.listdir(plugrun.roots.run_root / "netns")}
    found |= {f"rule {line.strip()}" for line in world.ruleset().splitlines() if "8080" in line}
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        words = process.read_bytes().split(b"\0")
        if words[:2] == [b"sleep", b"infinity"]:
            found.add(f"holder {process.parent.name}")
    return found


@pytest.mark.parametrize("where", ["between", "setup", "start", "teardown"])
def test_nothing_is_left_of_a_start_or_an_end_that_was_killed(plugrun, shared_world, where):
    world = shared_world
    before = traces(plugrun, world)
    die(plugrun, where)
    assert traces(plugrun, world) - before, "nothing was there to be left: this proves nothing"
    plugrun("run", "--rm", "--name", "other", "--net", "front", "busybox", "true").ok()  # at the address of the other
    until(lambda: traces(plugrun, world) <= before)
    assert ask(world.lan, "tcp", HOST, 8080) == REFUSED
    listen(world.host, "tcp", "0.0.0.0", 8080).close()  # nobody holds it

    plugrun("start", "web").ok()
    assert traces(plugrun, world) > before
    plugrun("rm", "-f", "web").ok()
    until(lambda: traces(plugrun, world) <= before)


def test_a_killed_monitor_ends_with_its_network(plugrun, shared_world):
    world = shared_world
    before = traces(plugrun, world)
    container = plugrun(
        "run", "-d", "--name", "web", "--net", "front", "-p", "8080:80", "busybox", "sleep", "1000"
    ).ok()
    run = plugrun.roots.run_root / "containers" / container.line
    for name in ("conmon.pid", "pidfile"):
        os.kill(int((run / name).read_text()), 9)
    plugrun("create", "--name", "other", "busybox").ok()
    until(lambda: traces(plugrun, world) <= before)
    assert plugrun("inspect", "-f", "{{.State.Status}}", "web").ok().line == "exited"
