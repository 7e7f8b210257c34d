"""A container changes its storage driver, in every direction there is."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from types import SimpleNamespace

import pytest

import trees as survey
from plugrun.api import SnapshotKind
from plugrun.errors import PlugrunError, Unavailable
from plugrun.lifecycle import carry, move, snapshot, trees
from plugrun.lifecycle.reconcile import reconcile
from plugrun.manager import load
from plugrun.names import SNAPSHOT_KEY
from plugrun.reclaim import free_layers
from plugrun.testing.processes import run_together

pytestmark = pytest.mark.root

SLEEP = ("sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait")
DRIVERS = sorted(name for name, one in load().storage.items() if "clone" in one.spec.supports)
ACL = "0200000001000600ffffffff020007000100000004000400ffffffff10000700ffffffff20000400ffffffff"


@pytest.fixture(params=[(one, other) for one in DRIVERS for other in DRIVERS if one != other], ids="-".join)
def ways(request, private_root, file_system):
    """The driver that a container is in, and another one, both on a file system that both can use."""
    file_system("btrfs", private_root.root)
    return request.param


@pytest.fixture
def web(ways, plugrun, busybox, engine):
    """A stopped container that has written all kinds of things, and has two snapshots."""
    plugrun("--storage", ways[0], "create", "--name", "web", "--net", "none", busybox, *SLEEP).ok()
    record = engine.containers.find("web")
    for name in ("empty", "written"):
        with trees.own(engine, record) as root:
            if name == "written":
                write(root)
        plugrun("snapshot", "create", "web", name).ok()
    with trees.own(engine, record) as root:
        (root / "data").write_text("now")
    return record


def write(root):
    (root / "data").write_bytes(b"x" * 300_000)
    os.link(root / "data", root / "data2")
    (root / "bin" / "vi").unlink()
    os.utime(root / "bin", ns=(5, 6))
    for name in ("home", "var"):
        os.rmdir(root / name)
    (root / "home").write_text("a file now")
    (root / "var").symlink_to("/tmp")
    (root / "dir").mkdir(mode=0o2750)
    with (root / "dir" / "sparse").open("wb") as stream:
        stream.truncate(10 << 20)
    os.mkfifo(root / "dir" / "fifo", 0o640)
    os.mknod(root / "dir" / "null", 0o20666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "dir" / "socket"))
    os.chown(root / "dir" / "socket", 3, 4)
    (root / "dir" / os.fsdecode(b"\xff")).write_text("no text")
    (root / "dir" / ("n" * 255)).write_text("long")
    file = root / "dir" / "attributes"
    file.write_text("")
    os.chown(file, 1000, 70_000)
    os.setxattr(file, "user.mine", b"\0\xff")
    os.setxattr(file, "trusted.mine", b"x")
    os.setxattr(file, "system.posix_acl_access", bytes.fromhex(ACL))
    os.utime(file, ns=(1, -1_500_000_000))
    os.utime(root / "dir", ns=(1, 2))
    root.chmod(0o1777)
    os.utime(root, ns=(3, 4))


def content(engine, record):
    """Describe everything a container has, and its snapshots have."""
    driver = engine.storage(record.storage, {})
    found = {}
    for name, key in [("", record.snapshot), *((one.name, one.key) for one in engine.snapshots.of(record.id))]:
        with trees.mounted(engine, driver.mounts(key)) as root:
            found[name] = survey.survey(root)
    return found


def active(engine, storage):
    """Return the keys in a driver that belong to a container, layers under way not among them."""
    found = engine.storage(storage, {}).walk()
    return {info.name for info in found if info.kind is SnapshotKind.ACTIVE and re.match(SNAPSHOT_KEY, info.name)}


def test_everything_comes_along(web, ways, plugrun, engine):
    before = content(engine, web)
    assert before["written"][b"dir/attributes"].xattrs[b"trusted.mine"] == b"x"
    assert before["written"][b"dir/socket"].kind == "socket"
    assert plugrun("move", "web", "--storage", ways[1]).ok().line == "web"
    record = engine.containers.find("web")
    assert record.storage == ways[1]
    after = content(engine, record)
    assert set(after) == {"", "empty", "written"}
    for name, tree in before.items():
        assert survey.differences(after[name], tree) == []
    assert not active(engine, ways[0])
    assert active(engine, ways[1]) == engine.snapshots.known()
    plugrun("start", "web").ok()
    assert plugrun("exec", "web", "cat", "/data").ok().line == "now"
    plugrun("rollback", "--stop", "web", "empty").ok()
    assert "data" not in {name.decode() for name in content(engine, engine.containers.find("web"))[""]}


def test_who_does_not_stop_is_not_moved(web, ways, plugrun, engine):
    plugrun("start", "web").ok()
    refused = plugrun("move", "web", "--storage", ways[1])
    assert (refused.code, refused.stdout) == (1, "")
    assert refused.stderr == "plugrun: container web is running; stop it first: plugrun stop web\n"
    assert engine.containers.find("web").storage == ways[0]


def test_what_cannot_be_is_one_line_and_changes_nothing(web, ways, plugrun, engine):
    for arguments, message in [
        (("move", "web", "--storage", ways[0]), f"container web is in storage driver '{ways[0]}' already"),
        (("move", "web", "--storage", "nope"), "no storage driver 'nope' is installed; installed: "),
        (("move", "web"), "no storage driver to move to; name it: plugrun move web --storage DRIVER"),
        (("move", "nobody", "--storage", ways[1]), "no such container: nobody"),
    ]:
        refused = plugrun(*arguments)
        assert refused.code != 0
        assert message in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert engine.containers.find("web") == web
    assert engine.snapshots.unready() == []


def test_what_a_layer_cannot_hold_stays_where_it_is(web, ways, plugrun, engine):
    with trees.own(engine, web) as root:
        (root / ".wh.name").write_text("")
    before = content(engine, web)
    refused = plugrun("move", "web", "--storage", ways[1])
    assert '"/.wh.name"' in refused.stderr
    assert content(engine, engine.containers.find("web")) == before
    assert not active(engine, ways[1])


def test_a_driver_that_makes_no_copies_gets_no_snapshots(web, ways, engine, monkeypatch):
    real = engine.storage
    monkeypatch.setattr(
        engine, "storage", lambda name, *rest: SimpleNamespace() if name == ways[1] else real(name, *rest)
    )
    with pytest.raises(Unavailable, match="can do nothing: empty written") as caught:
        move.move(engine, web, ways[1])
    assert "plugrun snapshot rm web empty written" in caught.value.hint


def test_no_room_is_no_loss(web, ways, engine, monkeypatch):
    """Whatever fails half-way, here the third of three copies."""
    before, copied = content(engine, web), []

    def limited(source, found, target, real=carry._layer):
        copied.append(target)
        if len(copied) == 3:
            raise Unavailable("no space left on device")
        real(source, found, target)

    monkeypatch.setattr(carry, "_layer", limited)
    with pytest.raises(PlugrunError, match="no space left"):
        move.move(engine, web, ways[1])
    assert content(engine, engine.containers.find("web")) == before
    assert not active(engine, ways[1])
    assert engine.snapshots.unready() == []


@pytest.fixture
def kill(monkeypatch, engine, ways):
    """Have this process killed at the Nth point between two parts of a move: ``kill(1)``, in a child."""
    left = 0

    def point():
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def between(owner, name):
        real = getattr(owner, name)

        def act(*arguments, **more):
            point()
            result = real(*arguments, **more)
            point()
            return result

        monkeypatch.setattr(owner, name, act)

    def start(number):
        nonlocal left
        left = number

    for name in ("add", "switch", "forget"):
        between(type(engine.snapshots), name)
    for name in ("_layer", "_rest"):
        between(carry, name)
    for storage, method in zip(ways, ("remove", "prepare"), strict=True):
        between(type(engine.storage(storage, {})), method)
    return start


def test_killed_while_moving(web, ways, plugrun, engine, kill):
    """Either it is here or there, whole, and nothing of it is in the other place."""
    snapshot.remove(engine, web, "empty")
    before, seen = content(engine, web), []
    number = 1 + DRIVERS.index(ways[0])  # one direction looks before each part, the other after it

    def carry_over(number):
        kill(number)
        with contextlib.closing(plugrun.engine()) as opened:
            move.move(opened, opened.containers.find("web"), ways[1])

    while True:
        killed = run_together([lambda number=number: carry_over(number)]) == ["killed"]
        with contextlib.closing(plugrun.engine()) as opened:
            reconcile(opened)
            record = opened.containers.find("web")
            seen.append(record.storage)
            assert opened.snapshots.unready() == []
            for storage in ways:
                assert active(opened, storage) == (opened.snapshots.known() if storage == record.storage else set())
            if record.storage == ways[1]:
                after = content(opened, record)
                for name, tree in before.items():
                    assert survey.differences(after[name], tree) == []
                if not killed:
                    break
                move.move(opened, record, ways[0])
            free_layers(opened)
        number += 2
    assert len(seen) > 10  # or the test proves nothing
    assert seen == sorted(seen, key=ways.index)
    assert list((plugrun.roots.run_root / "staging").iterdir()) == []
