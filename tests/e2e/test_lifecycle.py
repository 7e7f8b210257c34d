"""Containers over their whole life: create, start, stop, kill, wait, rm, and the commands that look at them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading

import pytest

from plugrun.errors import FailedPrecondition
from plugrun.lifecycle import end
from plugrun.lifecycle.remove import remove

pytestmark = pytest.mark.root

TRAP = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"


def state(plugrun, name, field="Status"):
    return plugrun("inspect", "-f", f"{{{{.State.{field}}}}}", name).ok().line


def wait_for_log(plugrun, name, text):
    process = subprocess.Popen(plugrun.argv("logs", "-f", name), stdout=subprocess.PIPE)
    with process:
        for line in process.stdout:
            if text in line.decode():
                process.kill()
                return
    pytest.fail(f"{text!r} never came")


def test_create_start_stop_start_remove(plugrun, busybox):
    plugrun("create", "--name", "web", busybox, "sh", "-c", TRAP).ok()
    assert state(plugrun, "web") == "created"
    assert plugrun("start", "web").ok().line == "web"
    assert state(plugrun, "web") == "running"
    wait_for_log(plugrun, "web", "ready")
    assert plugrun("stop", "web").ok().line == "web"
    assert (state(plugrun, "web"), state(plugrun, "web", "ExitCode")) == ("exited", "3")
    plugrun("start", "web").ok()
    assert state(plugrun, "web") == "running"
    refused = plugrun("rm", "web")
    assert refused.code == 1
    assert "is running" in refused.stderr
    assert plugrun("rm", "-f", "web").ok().line == "web"
    assert "no such container: web" in plugrun("inspect", "--type", "container", "web").stderr


def test_the_writable_layer_survives_a_restart(plugrun, busybox):
    plugrun("run", "--name", "web", busybox, "sh", "-c", "date >> /times; wc -l < /times").ok()
    assert plugrun("start", "-a", "web").ok().line == "2"


def test_stop_kills_what_does_not_listen(plugrun, busybox):
    plugrun("run", "-d", "--name", "deaf", busybox, "sleep", "1000").ok()
    plugrun("stop", "-t", "0", "deaf").ok()
    assert state(plugrun, "deaf", "ExitCode") == "137"


def test_kill_sends_the_signal_by_any_spelling(plugrun, busybox):
    for name, spelling in (("a", "SIGTERM"), ("b", "term"), ("c", "15")):
        plugrun("run", "-d", "--name", name * 2, busybox, "sh", "-c", TRAP).ok()
        wait_for_log(plugrun, name * 2, "ready")
        plugrun("kill", "-s", spelling, name * 2).ok()
        assert plugrun("wait", name * 2).ok().line == "3"


def test_wait_gives_the_exit_code_even_when_the_container_removes_itself(plugrun, busybox):
    container = plugrun("run", "-d", "--rm", busybox, "sh", "-c", TRAP).ok().line
    codes = []
    waiter = threading.Thread(target=lambda: codes.append(plugrun("wait", container).line))
    waiter.start()
    wait_for_log(plugrun, container, "ready")
    plugrun("kill", "-s", "TERM", container).ok()
    waiter.join(20)
    assert codes == ["3"]


def test_wait_answers_for_every_container_that_does_not_run(plugrun, busybox):
    plugrun("create", "--name", "new", busybox, "true").ok()
    plugrun("run", "--name", "old", busybox, "sh", "-c", "exit 7")
    connection = sqlite3.connect(plugrun.roots.root / "state.db")
    with connection:
        connection.execute("DELETE FROM exits")  # as after a thousand later ones
    connection.close()
    assert plugrun("wait", "new", "old").ok().stdout == "0\n7\n"


def test_rm_does_not_believe_what_was_true_a_moment_ago(plugrun, busybox):
    plugrun("create", "--name", "web", busybox, "sleep", "1000").ok()
    engine = plugrun.engine()
    record = engine.containers.find("web")
    plugrun("start", "web").ok()
    with pytest.raises(FailedPrecondition, match="web is running"):
        remove(engine, record)
    engine.close()
    assert state(plugrun, "web") == "running"


def test_stop_is_content_with_what_has_just_ended_by_itself(plugrun, busybox, monkeypatch):
    plugrun("run", "-d", "--name", "web", busybox, "sleep", "1000").ok()
    engine = plugrun.engine()
    record = engine.containers.find("web")
    plugrun("kill", "web").ok()
    plugrun("wait", "web").ok()
    monkeypatch.setattr(end, "is_running", lambda _record: True)  # as it looked a moment before
    end.stop(engine, record, 0, 15)
    engine.close()


def test_stop_with_more_patience_than_the_kernel_can_count(plugrun, busybox):
    plugrun("run", "-d", "--name", "web", busybox, "sh", "-c", TRAP).ok()
    wait_for_log(plugrun, "web", "ready")
    assert plugrun("stop", "-t", "9999999", "web").ok().line == "web"
    assert plugrun("run", "--name", "brief", busybox, "echo", "hi").ok().line == "hi"
    assert plugrun("logs", "-f", "--until", "2090-01-01T00:00:00Z", "brief").ok().line == "hi"


def test_several_names_are_each_reported(plugrun, busybox):
    for name in ("one", "two"):
        plugrun("create", "--name", name, busybox, "true").ok()
    result = plugrun("rm", "one", "nosuch", "two")
    assert result.code == 1
    assert result.stdout == "one\ntwo\n"
    assert result.stderr == "plugrun: no such container: nosuch; see all of them with: plugrun ps -a\n"


def test_logs(plugrun, busybox):
    plugrun("run", "--name", "web", busybox, "sh", "-c", "for i in 1 2 3; do echo line $i; done; echo err >&2").ok()
    result = plugrun("logs", "web").ok()
    assert (result.stdout, result.stderr) == ("line 1\nline 2\nline 3\n", "err\n")
    assert (
        plugrun("logs", "--tail", "2", "web").ok().stdout + plugrun("logs", "--tail", "2", "web").ok().stderr
        == "line 3\nerr\n"
    )
    assert plugrun("logs", "-t", "web").ok().stdout.split()[0].startswith("20")


def test_logs_follow_until_the_end(plugrun, busybox):
    plugrun("run", "-d", "--name", "web", busybox, "sh", "-c", "echo first; sleep 0.3; echo last").ok()
    assert plugrun("logs", "-f", "web").ok().stdout == "first\nlast\n"


def test_exec(plugrun, busybox):
    plugrun("run", "-d", "--name", "web", "-e", "FROM=run", busybox, "sleep", "1000").ok()
    result = plugrun("exec", "-e", "A=1", "-w", "/tmp", "web", "sh", "-c", "echo $A $FROM; pwd; echo err >&2; exit 4")
    assert (result.code, result.stdout, result.stderr) == (4, "1 run\n/tmp\n", "err\n")
    assert plugrun("exec", "-i", "web", "cat", input="in").ok().stdout == "in"
    assert plugrun("exec", "-u", "1", "web", "id", "-u").ok().line == "1"
    assert plugrun("exec", "web", "nosuch").code == 127
    assert plugrun("exec", "web", "/etc").code == 126
    plugrun("exec", "-d", "web", "touch", "/made").ok()
    plugrun("exec", "web", "sh", "-c", "until [ -e /made ]; do :; done").ok()


def test_exec_in_a_container_that_does_not_run(plugrun, busybox):
    plugrun("create", "--name", "web", busybox, "true").ok()
    result = plugrun("exec", "web", "true")
    assert result.code == 1
    assert "is not running" in result.stderr


def test_attach_gets_the_rest_and_the_exit_code(plugrun, busybox):
    plugrun("run", "-d", "-i", "--name", "web", busybox, "sh", "-c", "read line; echo got $line; exit 6").ok()
    result = plugrun("attach", "web", input="it\n")
    assert (result.code, result.stdout) == (6, "got it\n")


def test_inspect_both_kinds_and_formats(plugrun, busybox):
    plugrun("create", "--name", "web", "--label", "a=b", "--memory", "64m", busybox, "echo", "x").ok()
    (container,) = json.loads(plugrun("inspect", "web").ok().stdout)
    assert container["Path"] == "echo"
    assert container["Args"] == ["x"]
    assert container["Config"]["Labels"]["a"] == "b"
    assert container["HostConfig"]["Memory"] == 64 << 20
    (image,) = json.loads(plugrun("inspect", busybox).ok().stdout)
    assert image["Id"] == container["Image"]
    assert plugrun("inspect", "nosuch").code == 1


def test_names_are_taken_once_and_reusable(plugrun, busybox):
    plugrun("create", "--name", "web", busybox, "true").ok()
    again = plugrun("create", "--name", "web", busybox, "true")
    assert again.code == 125
    assert "'web' is taken by container" in again.stderr
    plugrun("rm", "web").ok()
    plugrun("create", "--name", "web", busybox, "true").ok()


def test_two_processes_at_once(plugrun, busybox):
    plugrun("create", "--name", "web", busybox, "sleep", "1000").ok()
    starters = [subprocess.Popen(plugrun.argv("start", "web"), stdout=subprocess.PIPE) for _ in range(4)]
    assert [starter.wait(60) for starter in starters] == [0] * 4
    for starter in starters:
        starter.stdout.close()
    pid = state(plugrun, "web", "Pid")
    assert plugrun("exec", "web", "sh", "-c", "ls -d /proc/[0-9]* | wc -l").ok().code == 0
    removers = [subprocess.Popen(plugrun.argv("rm", "-f", "web"), stderr=subprocess.PIPE) for _ in range(4)]
    for remover in removers:
        remover.communicate(timeout=60)
        assert remover.returncode == 0
    assert plugrun("ps", "-aq").stdout == ""
    assert pid != "0"
