"""A command on volumes killed at any change it makes: the next command works, and nothing is left or lost."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from plugrun import volumes
from plugrun.container import ImageMount, VolumeMount
from plugrun.engine import Engine
from plugrun.lifecycle import volume_mounts
from plugrun.lifecycle.create import create
from plugrun.lifecycle.reconcile import reconcile
from plugrun.lifecycle.remove import remove
from plugrun.lifecycle.start import start
from plugrun.paths import Paths
from plugrun.request import ContainerRequest, NetworkChoice, VolumeRequest
from plugrun.state.database import Database

pytestmark = pytest.mark.root

CHANGES = {"os.mkdir", "os.rename", "os.link", "os.symlink", "os.rmdir", "os.remove", "os.chown", "os.chmod"}


class Killer:
    """Counts changes, of files and of the database, and ends the process at the one that is asked for."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.on = False
        sys.addaudithook(self.look)
        transaction = Database.transaction

        def counted(*arguments, **options):
            self.count()
            return transaction(*arguments, **options)

        Database.transaction = counted

    def look(self, event, arguments):
        if event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT):
            self.count()

    def count(self):
        if self.on:
            self.left -= 1
            if self.left == 0:
                os._exit(9)


def killed(number, roots, act):
    """Act on the engine in a process that dies at its ``number``-th change; say whether it died."""
    child = os.fork()
    if child == 0:
        try:
            killer = Killer(number)
            act(opened(roots), killer)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, 9}
    return code == 9


def opened(roots):
    engine = Engine(Paths(roots.root, roots.run_root))
    engine.paths.ensure()
    return engine


def settled(roots):
    """Do what every command that changes something does first."""
    engine = opened(roots)
    engine.warn = pytest.fail
    reconcile(engine)
    return engine


def keys(engine, storage):
    return {info.name for info in engine.storage(storage, {}).walk() if info.name.startswith(("volume-", "image-"))}


def sweep(roots, act, check):
    """Kill the act at its first change, at its second, and so on until it gets through; check what is there then."""
    number = 0
    while killed(number + 1, roots, act):
        number += 1
        engine = settled(roots)
        check(engine, f"killed at change {number}")
        engine.close()
    return number


def test_making_a_volume(storage, plugrun, busybox):
    def act(engine, killer):
        killer.on = True
        volumes.create(engine, "data", storage=storage)

    def check(engine, when):
        found = engine.volumes.all()
        assert keys(engine, storage) == {volume.key for volume in found}, when
        assert engine.unready_volumes() == []
        if found:
            volumes.remove(engine, "data")

    assert sweep(plugrun.roots, act, check) >= 3
    assert plugrun("volume", "ls", "-q").ok().line == "data"


def test_removing_a_volume(storage, plugrun, busybox):
    def act(engine, killer):
        volumes.create(engine, "data", storage=storage)
        killer.on = True
        volumes.remove(engine, "data")

    def check(engine, when):
        assert keys(engine, storage) == {volume.key for volume in engine.volumes.all()}, when
        assert engine.unready_volumes() == [], when

    assert sweep(plugrun.roots, act, check) >= 2
    assert plugrun("volume", "ls", "-q").ok().line == ""


def test_making_a_container_with_volumes(storage, plugrun, busybox):
    named, unnamed = VolumeRequest(VolumeMount("data", "/x")), VolumeRequest(VolumeMount("", "/y"))
    plugrun("--storage", storage, "create", "--rm", busybox, "true").ok()  # unpacks the image
    plugrun.remove_all()

    def act(engine, killer):
        killer.on = True
        create(engine, ContainerRequest("busybox", ["true"], "web", storage=storage, volumes=[named, unnamed]))

    def check(engine, when):
        there = engine.containers.all()
        found = engine.volumes.all()
        assert keys(engine, storage) == {volume.key for volume in found}, when
        assert sum(volume.anonymous for volume in found) == len(there), when  # they go with what is half made
        for record in there:
            remove(engine, record, volumes=True)

    assert sweep(plugrun.roots, act, check) >= 8


def test_starting_a_container_with_volumes(storage, plugrun, busybox):
    plugrun("--storage", storage, "--net", "none", "run", "--rm", busybox, "true").ok()
    request = ContainerRequest(
        "busybox", ["true"], storage=storage, networks=[NetworkChoice("none")],
        volumes=[VolumeRequest(VolumeMount("data", "/etc"))], images=[ImageMount("busybox", "", "/image", "etc")],
    )  # fmt: skip

    def act(engine, killer):
        record = create(engine, request)
        acquire = volume_mounts.acquire

        def counting(*arguments):
            killer.on = True
            found = acquire(*arguments)
            killer.on = False
            return found

        volume_mounts.acquire = counting
        start(engine, record.id)

    def check(engine, when):
        roots = str(plugrun.roots.run_root)
        assert roots not in Path("/proc/self/mountinfo").read_text(), when
        assert os.listdir(engine.paths.run_root / "containers") == [], when
        [volume] = engine.volumes.all()
        assert keys(engine, storage) == {volume.key}, when
        [record] = engine.containers.all()
        start(engine, record.id)
        assert plugrun("wait", record.id).ok().line == "0"
        assert {"passwd", "group"} <= set(os.listdir(volumes.directory(engine, volume))), when
        remove(engine, engine.containers.find(record.id))
        volumes.remove(engine, "data")

    assert sweep(plugrun.roots, act, check) >= 10


def test_removing_a_container_with_its_volumes(storage, plugrun, busybox):
    plugrun("--storage", storage, "create", "--rm", busybox, "true").ok()
    plugrun.remove_all()
    unnamed = VolumeRequest(VolumeMount("", "/y"))

    def act(engine, killer):
        record = create(engine, ContainerRequest("busybox", ["true"], storage=storage, volumes=[unnamed]))
        killer.on = True
        remove(engine, record, volumes=True)

    def check(engine, when):
        there = engine.containers.all()
        found = engine.volumes.all()
        assert len(found) == len(there), when  # once it has begun, all of it goes
        assert keys(engine, storage) == {volume.key for volume in found}, when
        for record in there:
            remove(engine, record, volumes=True)

    assert sweep(plugrun.roots, act, check) >= 4


def test_what_is_still_mounted_is_never_deleted(plugrun, busybox, monkeypatch):
    """The run directory, in which volumes are mounted, stays when one of them cannot be unmounted."""
    plugrun("run", "-d", "--net", "none", "--name", "web", "-v", "data:/x", busybox, "sleep", "1000").ok()
    plugrun("exec", "web", "touch", "/x/file").ok()
    engine = opened(plugrun.roots)
    record = engine.containers.find("web")

    def refuse(*_):
        raise OSError("it is in use")

    with monkeypatch.context() as patched:
        patched.setattr(volume_mounts, "release", refuse)
        with pytest.raises(ExceptionGroup, match="not all it held could be released"):
            remove(engine, record, force=True)
    [volume] = engine.volumes.all()
    assert os.listdir(volumes.directory(engine, volume)) == ["file"]
    remove(settled(plugrun.roots), record, force=True)
    assert os.listdir(volumes.directory(engine, volume)) == ["file"]
    engine.close()
