"""Snapshots of containers, rollback and clones, on every storage driver that copies."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from types import SimpleNamespace

import pytest

from plugrun import processes
from plugrun.api import SnapshotKind
from plugrun.errors import PlugrunError, Unavailable
from plugrun.lifecycle import clone, keys, pause, rollback, snapshot, trees
from plugrun.lifecycle.reconcile import reconcile
from plugrun.lifecycle.remove import remove
from plugrun.lifecycle.state import is_running
from plugrun.reclaim import free_layers
from plugrun.testing.processes import killed_before, run_together

pytestmark = pytest.mark.root

SLEEP = ("sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait")
# Each line goes to one file, and to the other only when it is on the disk: no moment has more lines in the second.
# Who copies tree by tree without a pause has the first long before the second.
WRITER = """
trap 'exit 0' TERM
mkdir -p /d/d
dd if=/dev/urandom of=/d/large bs=1M count=30 2>/dev/null
n=0
while :; do
    n=$((n + 1))
    echo $n >> /first; sync /first
    echo $n >> /d/d/second; sync /d/d/second
    [ $n = 5 ] && echo ready
done
"""


@pytest.fixture
def web(storage, plugrun, busybox):
    """A stopped container that has written ``one``, its snapshot ``good``, and ``two`` after it."""
    plugrun("--storage", storage, "create", "--name", "web", "--net", "none", busybox, *SLEEP).ok()
    write(plugrun, "one")
    plugrun("snapshot", "create", "web", "good").ok()
    write(plugrun, "two")
    return "web"


def write(plugrun, text):
    plugrun("start", "web").ok()
    plugrun("exec", "web", "sh", "-c", f"echo {text} > /data; rm -f /bin/vi").ok()
    plugrun("stop", "-t", "5", "web").ok()


def read(engine, record, key=None):
    """Return what a container that does not run has in its file, or its snapshot has."""
    driver = keys.storage_of(engine, record, record.storage)
    with trees.mounted(engine, driver.mounts(key or record.snapshot)) as root:
        return (root / "data").read_text().strip()


def active(engine, storage):
    return {info.name for info in engine.storage(storage, {}).walk() if info.kind is SnapshotKind.ACTIVE}


def inspect(plugrun, name, field):
    return plugrun("inspect", "-f", f"{{{{{field}}}}}", name).ok().line


# --- What the commands do ------------------------------------------------------------------------------------------


def test_back_to_a_snapshot_as_often_as_one_likes(web, plugrun, engine):
    record = engine.containers.find(web)
    assert read(engine, record) == "two"
    for _ in range(2):
        assert plugrun("rollback", "web", "good").ok().line == "web"
        record = engine.containers.find(web)
        assert read(engine, record) == "one"
        write(plugrun, "three")
    plugrun("rollback", "--start", "web", "good").ok()
    assert plugrun("exec", "web", "cat", "/data").ok().line == "one"
    assert plugrun("exec", "web", "ls", "/bin/vi").code != 0
    assert len(active(engine, record.storage)) == 2  # its own and the snapshot


def test_a_running_container_goes_back_only_when_told_to_stop(web, plugrun):
    plugrun("start", "web").ok()
    refused = plugrun("rollback", "web", "good")
    assert (refused.code, refused.stdout) == (1, "")
    assert "container web is running; have it stopped first: plugrun rollback --stop web good" in refused.stderr
    unknown = plugrun("rollback", "--stop", "web", "bad")
    assert "container web has no snapshot 'bad'; it has: good" in unknown.stderr
    assert inspect(plugrun, "web", ".State.Status") == "running"  # nothing was stopped for nothing
    plugrun("rollback", "--stop", "web", "good").ok()
    assert inspect(plugrun, "web", ".State.Status") == "exited"


def test_snapshots_are_listed_and_inspected(web, storage, plugrun):
    made_up = plugrun("snapshot", "create", "web").ok().line
    assert plugrun("snapshot", "ls", "-q").ok().stdout.splitlines() == ["good", made_up]
    header, first, _ = plugrun("snapshot", "ls", "--size", "web").ok().stdout.splitlines()
    assert header.split() == ["NAME", "CONTAINER", "STORAGE", "CREATED", "SIZE"]
    assert first.split()[:3] == ["good", "web", storage]
    rows = [json.loads(line) for line in plugrun("snapshot", "ls", "--format", "json").ok().stdout.splitlines()]
    assert [(row["Name"], row["Container"]) for row in rows] == [("good", "web"), (made_up, "web")]
    details = json.loads(plugrun("inspect", "web").ok().stdout)[0]
    assert [one["Name"] for one in details["Snapshots"]] == ["good", made_up]
    assert details["GraphDriver"]["Data"]["Snapshot"].startswith(details["Id"])
    plugrun("snapshot", "rm", "web", "good", made_up).ok()
    assert plugrun("snapshot", "ls", "-q").ok().stdout == ""


def test_a_clone_says_which_volumes_it_shares_that_nobody_named(storage, plugrun, busybox):
    options = ("--storage", storage, "--net", "none")
    plugrun("create", "--name", "db", *options, "-v", "data:/data", "-v", "/a", "-v", "/b", busybox, "true").ok()
    plugrun("create", "--name", "web", *options, "-v", "data:/data", busybox, "true").ok()
    found = json.loads(plugrun("inspect", "-f", "{{json .Mounts}}", "db").ok().line)
    at = {mount["Destination"]: mount["Name"] for mount in found}
    said = plugrun("clone", "db", "copy").ok().stderr
    assert f"container copy shares /a (volume {at['/a']}), /b (volume {at['/b']}) with db" in said
    assert said.count("\n") == 1
    assert plugrun("clone", "web", "other").ok().stderr == ""


def test_a_clone_is_like_its_source_and_goes_its_own_way(web, storage, plugrun, engine):
    plugrun("clone", "web", "branch").ok()
    plugrun("clone", "--start", "--snapshot", "good", "web", "past").ok()
    source, branch, past = (engine.containers.find(name) for name in ("web", "branch", "past"))
    assert (read(engine, source), read(engine, branch)) == ("two", "two")
    assert plugrun("exec", "past", "cat", "/data", "/etc/hostname").ok().stdout == f"one\n{past.short_id}\n"
    assert branch.config == source.config._replace(hostname=branch.short_id)
    plugrun("rm", "-f", "web").ok()
    assert read(engine, branch) == "two"
    plugrun("start", "branch").ok()
    assert plugrun("exec", "branch", "cat", "/data").ok().line == "two"
    plugrun("rm", "-f", "branch", "past").ok()
    assert not active(engine, storage)


def test_a_host_name_that_somebody_chose_stays(storage, plugrun, busybox):
    plugrun(
        "--storage", storage, "create", "--name", "web", "--net", "none", "--hostname", "shop", busybox, *SLEEP
    ).ok()
    plugrun("clone", "web", "branch").ok()
    assert inspect(plugrun, "branch", ".Config.Hostname") == "shop"


def test_nothing_is_lost_with_a_container_unasked(web, storage, plugrun, engine):
    plugrun("snapshot", "create", "web", "better").ok()
    refused = plugrun("rm", "web")
    assert refused.code == 1
    assert "container web has snapshots: good better; remove them first" in refused.stderr
    assert read(engine, engine.containers.find("web")) == "two"
    plugrun("rm", "-f", "web").ok()
    assert not active(engine, storage)
    assert engine.snapshots.all() == []


def test_what_removes_itself_takes_its_snapshots_with_it(storage, plugrun, busybox, engine):
    plugrun("--storage", storage, "run", "-d", "--rm", "--name", "web", "--net", "none", busybox, *SLEEP).ok()
    plugrun("snapshot", "create", "web", "good").ok()
    refused = plugrun("rollback", "--stop", "web", "good")
    assert "is removed when it ends (--rm)" in refused.stderr
    plugrun("stop", "-t", "5", "web").ok()
    assert not active(engine, storage)
    assert engine.snapshots.known() == set()


REFUSED = [
    (("snapshot", "create", "web", "good"), "container web has a snapshot 'good' already; choose another name"),
    (("snapshot", "create", "web", "a/b"), "'a/b' cannot be a snapshot name; use 2 to 128"),
    (("snapshot", "create", "nobody"), "no such container: nobody"),
    (("snapshot", "ls", "nobody"), "no such container: nobody"),
    (("snapshot", "rm", "web", "bad"), "container web has no snapshot 'bad'; it has: good"),
    (("rollback", "nobody", "good"), "no such container: nobody"),
    (("clone", "web", "web"), "the name 'web' is taken by container"),
    (("clone", "web", "a b"), "'a b' cannot be a container name"),
    (("clone", "web", "new", "--snapshot", "bad"), "container web has no snapshot 'bad'; it has: good"),
    (("clone", "nobody", "new"), "no such container: nobody"),
]


def test_what_cannot_be_is_one_line_and_changes_nothing(web, storage, plugrun, engine):
    before = active(engine, storage)
    for arguments, message in REFUSED:
        refused = plugrun(*arguments)
        assert refused.code != 0
        assert refused.stdout == ""
        assert message in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert active(engine, storage) == before
        assert engine.snapshots.unready() == []


def test_a_driver_that_makes_no_copies_says_which_do(plugrun, busybox, engine, monkeypatch):
    plugrun("create", "--name", "web", "--net", "none", busybox, *SLEEP).ok()
    record = engine.containers.find("web")
    monkeypatch.setattr(engine, "storage", lambda *_: SimpleNamespace())
    for act in (lambda: snapshot.create(engine, record), lambda: clone.clone(engine, record, "new")):
        with pytest.raises(PlugrunError, match="has no snapshots and no clones") as caught:
            act()
        assert "overlay" in caught.value.hint
        assert "plugrun move web --storage" in caught.value.hint


@pytest.fixture
def small_disk(private_root, file_system):
    return file_system("ext4", private_root.root, size=128 << 20)


def test_no_room_is_one_line_and_nothing_half_made(small_disk, plugrun, busybox, engine):
    assert small_disk.is_mount()
    plugrun("--storage", "overlay", "create", "--name", "web", "--net", "none", busybox, *SLEEP).ok()
    record = engine.containers.find("web")
    with trees.own(engine, record) as root, (root / "large").open("wb") as stream:
        stream.write(os.urandom(70 << 20))
    for arguments in (("snapshot", "create", "web", "good"), ("clone", "web", "branch")):
        refused = plugrun(*arguments)
        assert refused.code != 0
        assert "No space left on device" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        settled(plugrun, "overlay")
        assert engine.snapshots.of(record.id) == []
        assert [one.name for one in engine.containers.all()] == ["web"]


# --- One moment ------------------------------------------------------------------------------------------------------


def lines(root):
    return [(root / name).read_text().splitlines() for name in ("first", "d/d/second")]


def test_a_snapshot_of_a_running_container_is_of_one_moment(storage, plugrun, busybox, engine):
    plugrun("--storage", storage, "run", "-d", "--name", "web", "--net", "none", busybox, "sh", "-c", WRITER).ok()
    with subprocess.Popen(plugrun.argv("logs", "-f", "web"), stdout=subprocess.PIPE) as logs:
        assert logs.stdout.readline() == b"ready\n"
        logs.kill()
    for number in range(5):
        made = plugrun("snapshot", "create", "web", f"at{number}").ok()
        assert made.line == f"at{number}"
        assert made.stderr.startswith(f"at{number}  paused for ")
    plugrun("clone", "web", "branch").ok()
    grown = time.monotonic() + 20
    rootfs = engine.paths.rootfs(engine.containers.find("web").id)
    count = len(lines(rootfs)[0])
    while len(lines(rootfs)[0]) <= count + 5:  # it goes on
        assert time.monotonic() < grown
    plugrun("stop", "-t", "5", "web").ok()
    record = engine.containers.find("web")
    driver = engine.storage(storage, {})
    seen = []
    for key in (*(saved.key for saved in engine.snapshots.of(record.id)), engine.containers.find("branch").snapshot):
        with trees.mounted(engine, driver.mounts(key)) as root:
            first, second = lines(root)
        assert first == [str(number) for number in range(1, len(first) + 1)]
        assert second in (first, first[:-1])
        seen.append(len(first))
    assert seen == sorted(seen)
    assert seen[0] >= 5


def test_the_pause_is_told_on_stderr_and_only_if_there_was_one(web, plugrun):
    assert plugrun("snapshot", "create", "web", "still").ok().stderr == ""
    plugrun("start", "web").ok()
    assert " ms" in plugrun("clone", "web", "branch").ok().stderr


@pytest.fixture
def mortal(storage, plugrun, busybox, engine):
    """A running container, and how to end it so that its first process stays as a zombie until the end of the test."""
    plugrun("--storage", storage, "run", "-d", "--name", "web", "--net", "none", busybox, *SLEEP).ok()
    record = engine.containers.find("web")

    def end():
        os.kill(record.monitor_pid, signal.SIGSTOP)
        os.kill(record.pid, signal.SIGKILL)
        assert processes.wait_ended(record.pid, record.pid_start, 20)

    yield record, end
    os.kill(record.monitor_pid, signal.SIGCONT)


@pytest.mark.parametrize("moment", ["_groups", "write"])
def test_a_container_may_end_in_the_very_moment(mortal, engine, monkeypatch, moment):
    """And nobody else is stopped for it: this process, for one, which may be in the group that zombies are shown in."""
    record, end = mortal
    owner = pause if moment == "_groups" else pause.Freezer
    act = getattr(owner, moment)
    ended = []

    def first(*arguments, **more):
        if not ended:
            ended.append(end())
        return act(*arguments, **more)

    monkeypatch.setattr(owner, moment, first)
    saved, held = snapshot.create(engine, record, "last")
    assert saved.ready
    assert ended
    assert (held.seconds > 0) == (moment == "write")
    assert not pause.mark_of(engine, record).exists()


def test_what_this_command_runs_in_is_never_stopped(storage, plugrun, busybox, engine, monkeypatch):
    plugrun("--storage", storage, "run", "-d", "--name", "web", "--net", "none", busybox, *SLEEP).ok()
    groups = pause._groups
    for path in (lambda own: own, os.path.dirname):
        monkeypatch.setattr(
            pause,
            "_groups",
            lambda process, path=path: (
                {name: path(own) for name, own in groups("self").items()} if process != "self" else groups("self")
            ),
        )
        with pytest.raises(Unavailable, match="it shares the control group of this command"):
            snapshot.create(engine, engine.containers.find("web"), "never")


def test_one_that_was_held_by_a_killed_command_can_be_ended(storage, plugrun, busybox, engine):
    plugrun("--storage", storage, "run", "-d", "--name", "web", "--net", "none", busybox, *SLEEP).ok()
    record = engine.containers.find("web")

    def hold():
        with pause.paused(engine, record):
            os.kill(os.getpid(), signal.SIGKILL)

    assert run_together([hold]) == ["killed"]
    assert pause._freezer(record).is_frozen()
    plugrun("rm", "-f", "web").ok()


# --- Crashes ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def fresh(plugrun):
    """An engine as another process has it, for the one that is about to be killed."""
    with contextlib.closing(plugrun.engine()) as opened:
        yield opened


def reconciled(engine, patience=30.0):
    """Reconcile, as soon as what is removed behind a command is gone."""
    deadline = time.monotonic() + patience
    reconcile(engine)
    while engine.snapshots.unready():
        assert time.monotonic() < deadline, engine.snapshots.unready()
        time.sleep(0.005)
        reconcile(engine)


def settled(plugrun, storage):
    """Do what the next command does, and insist that nothing is left: half-made, frozen, or without a record."""
    with fresh(plugrun) as engine:
        reconciled(engine)
        for record in engine.containers.all():
            assert record.status in {"created", "running", "exited"}
            if is_running(record):
                assert not pause.mark_of(engine, record).exists()
                assert not pause._freezer(record).is_frozen()
        assert engine.snapshots.unready() == []
        assert active(engine, storage) == engine.snapshots.known()
        state = plugrun.roots.root / "storage" / storage
        assert [
            path for place in ("staging", "trash") if (state / place).exists() for path in (state / place).iterdir()
        ] == []


def sweep(plugrun, storage, action, check, *, stride=1):
    """Kill ``action`` before each of its file operations in turn, and look at what becomes of it."""
    step = 1
    while True:
        killed = killed_before(step, action)
        settled(plugrun, storage)
        check()
        if not killed:
            assert step > 10  # or the test proves nothing
            return
        step += stride


def test_killed_while_taking_a_snapshot_of_a_running_container(web, storage, plugrun):
    plugrun("start", "web").ok()

    def take():
        with fresh(plugrun) as engine:
            snapshot.create(engine, engine.containers.find("web"), "new")

    def check():
        with fresh(plugrun) as engine:
            record = engine.containers.find("web")
            assert is_running(record)
            for saved in engine.snapshots.of(record.id):
                assert read(engine, record, saved.key) == {"good": "one", "new": "two"}[saved.name]
            if len(engine.snapshots.of(record.id)) > 1:
                snapshot.remove(engine, record, "new")

    sweep(plugrun, storage, take, check)


def test_killed_while_rolling_back(web, storage, plugrun):
    def roll_back():
        with fresh(plugrun) as engine:
            rollback.rollback(engine, engine.containers.find("web"), "good")

    seen = []

    def check():
        with fresh(plugrun) as engine:
            record = engine.containers.find("web")
            seen.append(read(engine, record))
            [good] = engine.snapshots.of(record.id)
            assert read(engine, record, good.key) == "one"
            if seen[-1] == "one":  # and forth again
                snapshot.create(engine, record, "base")
                with trees.own(engine, record) as root:
                    (root / "data").write_text("two")
                snapshot.remove(engine, record, "base")

    sweep(plugrun, storage, roll_back, check)
    assert set(seen) == {"one", "two"}
    assert seen[0] == "two"
    assert seen == sorted(seen, reverse=True)


def test_killed_while_cloning(web, storage, plugrun):
    def branch():
        with fresh(plugrun) as engine:
            clone.clone(engine, engine.containers.find("web"), "branch")

    def check():
        with fresh(plugrun) as engine:
            assert read(engine, engine.containers.find("web")) == "two"
            for record in engine.containers.all():
                if record.name == "branch":
                    assert read(engine, record) == "two"
                    remove(engine, record)
        assert len(os.listdir(plugrun.roots.root / "containers")) == 1

    sweep(plugrun, storage, branch, check)


def test_killed_while_removing_a_snapshot(web, storage, plugrun):
    def forget():
        with fresh(plugrun) as engine:
            snapshot.remove(engine, engine.containers.find("web"), "extra")

    def check():
        with fresh(plugrun) as engine:
            record = engine.containers.find("web")
            assert read(engine, record) == "two"
            names = [saved.name for saved in engine.snapshots.of(record.id)]
            assert "good" in names
            if "extra" not in names:
                snapshot.create(engine, record, "extra")

    check()
    sweep(plugrun, storage, forget, check)


def test_an_interrupt_right_after_the_switch_takes_nothing_away(web, storage, plugrun, engine, monkeypatch):
    record = engine.containers.find("web")
    switch = engine.snapshots.switch

    def interrupted(*arguments):
        switch(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.snapshots, "switch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rollback.rollback(engine, record, "good")
    settled(plugrun, storage)
    assert read(engine, engine.containers.find("web")) == "one"


# --- What they occupy ------------------------------------------------------------------------------------------------


def test_system_df_counts_snapshots(web, storage, plugrun, engine):
    plugrun("snapshot", "create", "web", "kept").ok()
    count = str(len(engine.snapshots.all()))
    line = plugrun("system", "df", "--format", "{{.Type}}: {{.TotalCount}} {{.Size}}").ok().stdout
    [found] = [line for line in line.splitlines() if line.startswith("Snapshots: ")]
    assert found.startswith(f"Snapshots: {count} ")
    assert not found.endswith(" 0B")
    detail = plugrun("system", "df", "-v").ok().stdout
    assert re.search(rf"^web +kept +{storage} ", detail, re.MULTILINE)


def test_an_image_that_a_container_has_mounted_stays_in_a_clean_up(storage, plugrun, busybox, engine):
    mount = f"type=image,src={busybox},dst=/image"
    run = ["--storage", storage, "run", "-d", "--name", "web", "--net", "none", "--mount", mount, busybox]
    plugrun(*run, "sleep", "1000").ok()
    before = active(engine, storage)
    assert any(key.startswith("image-") for key in before)
    plugrun("image", "prune", "-f").ok()
    assert active(engine, storage) == before
    plugrun("rm", "-f", "web").ok()
    assert active(engine, storage) == set()


# --- What a power cut leaves -----------------------------------------------------------------------------------------


def test_keys_that_no_record_names_go_with_the_next_clean_up(web, storage, plugrun, engine):
    record = engine.containers.find("web")
    driver = engine.storage(storage, {})
    for key in (f"{record.id}.00000000", "f" * 64, f"{'e' * 64}.12345678", f"volume-{'0' * 32}", f"image-{'d' * 64}-0"):
        driver.clone(key, record.snapshot)
    driver.clone("somebody-elses", record.snapshot)
    assert "5 snapshots" in plugrun("doctor").stdout
    kept = {record.snapshot, "somebody-elses", *(saved.key for saved in engine.snapshots.all())}
    with engine.locked(record.id):  # somebody is at work on it
        free_layers(engine)
        assert active(engine, storage) == {*kept, f"{record.id}.00000000"}
    plugrun("image", "prune", "-f").ok()
    assert active(engine, storage) == kept
    assert read(engine, record) == "two"
    driver.remove("somebody-elses")
    assert sorted(os.listdir(plugrun.roots.run_root / "locks")) == [record.id, f"{record.id}.watch"]
    assert "snapshots" not in plugrun("doctor").stdout


# --- Cost ------------------------------------------------------------------------------------------------------------


def test_reconcile_asks_for_each_kind_of_thing_once_when_all_is_well(web, engine):
    asked = []
    engine.containers.all()
    engine._database.connection.set_trace_callback(asked.append)
    reconcile(engine)
    engine._database.connection.set_trace_callback(None)
    assert len(asked) == 3, "containers, snapshots and volumes"
