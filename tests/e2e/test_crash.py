"""After a crash: whatever was killed, the next command works, and nothing is left or lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

# Starts or creates a container and dies without a word at the hook that argv names.
BOMB = """
import os, sys
from pathlib import Path
from plugrun.api import hookimpl
from plugrun.engine import Engine
from plugrun.lifecycle.create import create
from plugrun.lifecycle.remove import remove
from plugrun.lifecycle.start import start
from plugrun.manager import load
from plugrun.paths import Paths
from plugrun.request import ContainerRequest

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

engine = Engine(Paths(Path(root), Path(run_root)), plugins=load([("bomb", Bomb())]))
if where == "prepare":
    driver = engine.storage("overlay", {})
    type(driver).prepare = lambda *_: os._exit(9)
record = create(engine, ContainerRequest(image="busybox", command=["sleep", "1000"], name="web"))
if where == "layer":
    engine.containers.delete = lambda *_: os._exit(9)
    remove(engine, record)
start(engine, record.id)
"""


def die(plugrun, where):
    roots = plugrun.roots
    done = subprocess.run(
        [sys.executable, "-c", BOMB, where, str(roots.root), str(roots.run_root)], check=False, timeout=60
    )
    assert done.returncode == 9


def mounted(plugrun):
    return [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(plugrun.roots.run_root) in line
    ]


def state(plugrun, name, field="Status"):
    return plugrun("inspect", "-f", f"{{{{.State.{field}}}}}", name).ok().line


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_while_creating(plugrun, busybox):
    die(plugrun, "prepare")
    assert plugrun("create", "--name", "web", busybox, "true").ok()  # the name is free again
    assert len(os.listdir(plugrun.roots.root / "containers")) == 1


def test_killed_while_starting(plugrun, busybox):
    die(plugrun, "start")
    assert mounted(plugrun)  # or the test proves nothing
    plugrun("create", "--name", "other", busybox, "true").ok()
    assert not mounted(plugrun)
    assert os.listdir(plugrun.roots.run_root / "netns") == []
    assert state(plugrun, "web") == "created"
    plugrun("start", "web").ok()
    assert state(plugrun, "web") == "running"


def test_killed_while_removing(plugrun, busybox):
    die(plugrun, "layer")
    plugrun("create", "--name", "web", busybox, "true").ok()
    assert len(plugrun("ps", "-aq").ok().stdout.split()) == 1


def test_the_foreground_is_killed_and_the_container_goes_on(plugrun, busybox):
    process = subprocess.Popen(
        plugrun.argv("run", "--rm", "--name", "web", busybox, "sh", "-c", "echo ready; sleep 1"), stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    assert state(plugrun, "web") == "running"
    until(lambda: plugrun("ps", "-aq").stdout == "")  # its monitor has it cleaned up and removed
    until(lambda: not mounted(plugrun))


def test_a_killed_monitor_leaves_an_unknown_exit_code_not_a_good_one(plugrun, busybox):
    container = plugrun("run", "-d", "--name", "web", busybox, "sleep", "1000").ok().line
    os.kill(int((plugrun.roots.run_root / "containers" / container / "conmon.pid").read_text()), signal.SIGKILL)
    assert state(plugrun, "web") == "running"
    plugrun("kill", "web").ok()
    assert plugrun("wait", "web").ok().line == "255"
    assert "Exited (unknown)" in plugrun("ps", "-a").ok().stdout
    assert state(plugrun, "web", "ExitCodeKnown") == "false"
    plugrun("rm", "web").ok()


def test_a_killed_first_process_is_an_end_like_any_other(plugrun, busybox):
    plugrun("run", "-d", "--name", "web", busybox, "sleep", "1000").ok()
    os.kill(int(state(plugrun, "web", "Pid")), signal.SIGKILL)
    assert plugrun("wait", "web").ok().line == "137"
    plugrun("start", "web").ok()


def test_after_a_reboot_containers_are_there_and_start(plugrun, busybox):
    plugrun("run", "-d", "--name", "web", busybox, "sh", "-c", "echo kept >> /file; sleep 1000").ok()
    plugrun("run", "-d", "--rm", "--name", "gone", busybox, "sleep", "1000").ok()
    reboot(plugrun)
    assert [row["State"] for row in rows(plugrun)] == ["exited", "exited"]
    plugrun("start", "web").ok()  # settles the other one too
    assert [row["Names"] for row in rows(plugrun)] == ["web"]
    assert plugrun("exec", "web", "cat", "/file").ok().stdout == "kept\nkept\n"


def rows(plugrun):
    return [json.loads(line) for line in plugrun("ps", "-a", "--format", "json").ok().stdout.splitlines()]


def reboot(plugrun):
    """End everything, empty the run root, and let the records be of another boot."""
    run_root = plugrun.roots.run_root
    for directory in (run_root / "containers").iterdir():
        os.kill(int((directory / "conmon.pid").read_text()), signal.SIGKILL)
        pid = int((directory / "pidfile").read_text())
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists())
        subprocess.run(["crun", "--root", str(run_root / "runtime"), "delete", "-f", directory.name], check=False)
        subprocess.run(["umount", str(directory / "rootfs")], check=True)
    for pin in (run_root / "netns").iterdir():
        subprocess.run(["umount", str(pin)], check=True)
    subprocess.run(f"rm -rf {run_root}/*", shell=True, check=True)
    connection = sqlite3.connect(plugrun.roots.root / "state.db")
    with connection:
        connection.execute("UPDATE containers SET record = json_set(record, '$.boot_id', 'another')")
    connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_ended_while_unpacking(plugrun, busybox, number):
    """What can be undone is undone; what a kill leaves goes with the next removal of an image."""
    details = json.loads(plugrun("image", "inspect", busybox).ok().stdout)[0]
    blob = plugrun.roots.root / "images/blobs" / details["RootFS"]["Layers"][0].replace(":", "/")
    content = blob.read_bytes()
    blob.unlink()
    os.mkfifo(blob)
    with subprocess.Popen(plugrun.argv("create", busybox), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        with blob.open("wb") as layer:
            layer.write(content[: 1 << 20])
            layer.flush()
            assert staged(plugrun)
            process.send_signal(number)
            if number == signal.SIGKILL:
                process.wait(30)
            else:
                with contextlib.suppress(BrokenPipeError):
                    layer.write(content[1 << 20 :])
        assert process.communicate(timeout=30) == (b"", b"")
    if number == signal.SIGKILL:
        assert staged(plugrun)  # the control
        plugrun("rmi", busybox).ok()
    else:
        assert process.returncode == 128 + number
    assert not staged(plugrun)
    assert plugrun("ps", "-aq").ok().stdout == ""


def staged(plugrun):
    return list(plugrun.roots.root.rglob("staging-*"))
