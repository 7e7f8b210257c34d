"""``plugrun run`` with real images, a real runtime and a real monitor."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

pytestmark = pytest.mark.root

PAIRS = [("overlay", "none"), ("overlay", "host")]


@pytest.mark.parametrize(("storage", "net"), PAIRS)
def test_busybox_runs_on_every_pair(plugrun, busybox, storage, net):
    result = plugrun("--storage", storage, "--net", net, "run", "--rm", busybox, "echo", "hello").ok()
    assert result.stdout == "hello\n"
    assert result.stderr == ""


@pytest.mark.parametrize(("storage", "net"), PAIRS)
def test_debian_runs_on_every_pair(plugrun, debian_archive, storage, net):
    plugrun("load", "-i", str(debian_archive)).ok()
    result = plugrun(
        "run", "--storage", storage, "--net", net, "--rm", "debian:bookworm", "cat", "/etc/os-release"
    ).ok()
    assert "Debian GNU/Linux 12" in result.stdout


def test_global_options_and_those_of_run_are_the_same_thing(plugrun, busybox):
    before = plugrun("--storage", "overlay", "--net", "none", "run", "--rm", busybox, "ls", "/sys/class/net").ok()
    after = plugrun("run", "--storage", "overlay", "--network", "none", "--rm", busybox, "ls", "/sys/class/net").ok()
    assert before.stdout == after.stdout == "lo\n"


def test_host_is_the_callers_network_and_none_is_not(plugrun, busybox):
    mine = os.readlink("/proc/self/ns/net")
    inside = {
        net: plugrun("run", "--rm", "--net", net, busybox, "readlink", "/proc/self/ns/net").ok().line
        for net in ("host", "none")
    }
    assert inside["host"] == mine
    assert inside["none"] != mine


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_standard_stream_that_came_closed_is_an_empty_one(plugrun, busybox, closed):
    command = plugrun.argv("run", "-i", "--name", "web", busybox, "sh", "-c", "cat; echo out; echo err >&2; exit 3")
    done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stdout == ("" if ">&-" in closed.replace("2>&-", "") else "out\n")
    assert done.stderr == ("" if "2>&-" in closed else "err\n")
    logs = plugrun("logs", "web").ok()
    assert (logs.stdout, logs.stderr) == ("out\n", "err\n")


def test_streams_are_separate(plugrun, busybox):
    result = plugrun("run", "--rm", busybox, "sh", "-c", "echo out; echo err >&2").ok()
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


def test_stdin_goes_in_only_with_interactive(plugrun, busybox):
    assert plugrun("run", "--rm", "-i", busybox, "cat", input="hello").ok().stdout == "hello"
    assert plugrun("run", "--rm", busybox, "cat", input="hello").ok().stdout == ""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "sleep 100 & kill -9 $!; wait $!"], 137),
        (["nosuchcommand"], 127),
        (["/etc"], 126),
    ],
)
def test_exit_codes_are_dockers(plugrun, busybox, command, code):
    result = plugrun("run", "--rm", busybox, *command)
    assert result.code == code
    if code in {126, 127}:
        assert len(result.stderr.splitlines()) == 1
        assert "Traceback" not in result.stderr
    assert plugrun("ps", "-aq").stdout == ""


def test_a_lot_of_output_arrives_whole(plugrun, busybox):
    result = plugrun("run", "--rm", busybox, "sh", "-c", "dd if=/dev/zero bs=1M count=20 2>/dev/null").ok()
    assert result.stdout == "\0" * (20 << 20)


def test_run_leaves_nothing_with_rm_and_a_container_without(plugrun, busybox, private_root):
    plugrun("run", "--rm", busybox, "touch", "/x").ok()
    assert plugrun("ps", "-aq").stdout == ""
    assert os.listdir(private_root.root / "containers") == []
    assert os.listdir(private_root.run_root / "containers") == []
    assert os.listdir(private_root.run_root / "locks") == []
    plugrun("run", "--name", "kept", busybox, "touch", "/x").ok()
    assert plugrun("ps", "-a", "--format", "{{.Names}} {{.State}}").line == "kept exited"


def test_environment_workdir_user_hostname(plugrun, busybox, tmp_path):
    (tmp_path / "env").write_text("# comment\nFROM_FILE=1\nFROM_HOST\n")
    result = plugrun(
        *("run", "--rm", "-e", "A=b c", "-e", "FROM_HOST", "--env-file", str(tmp_path / "env")),
        *("-w", "/new/dir", "-u", "1000:1001", "--hostname", "box", busybox),
        *("sh", "-c", "echo $A $FROM_FILE $FROM_HOST; pwd; id -u; id -g; hostname; grep -c box /etc/hosts"),
        env={"FROM_HOST": "yes"},
    ).ok()
    assert result.stdout.split("\n")[:-1] == ["b c 1 yes", "/new/dir", "1000", "1001", "box", "1"]


def test_the_hosts_environment_stays_outside(plugrun, busybox):
    assert "SENTINEL" not in plugrun("run", "--rm", busybox, "env", env={"SENTINEL": "secret"}).ok().stdout


def test_entrypoint_replaces_the_images_and_its_command(plugrun, busybox):
    assert plugrun("run", "--rm", "--entrypoint", "echo", busybox, "a", "b").ok().line == "a b"


def test_bind_mounts(plugrun, busybox, tmp_path):
    (tmp_path / "file").write_text("from the host")
    plugrun("run", "--rm", "-v", f"{tmp_path}:/data", busybox, "sh", "-c", "cat /data/file > /data/copy").ok()
    assert (tmp_path / "copy").read_text() == "from the host"
    result = plugrun("run", "--rm", "-v", f"{tmp_path}:/data:ro", busybox, "touch", "/data/x")
    assert result.code == 1
    assert "Read-only" in result.stderr


def test_read_only_and_tmpfs(plugrun, busybox):
    script = "touch /x 2>/dev/null && echo writable; touch /tmp/x && df -k /tmp | tail -n 1 | awk '{print $2}'"
    result = plugrun("run", "--rm", "--read-only", "--tmpfs", "/tmp:size=1m", busybox, "sh", "-c", script).ok()
    assert result.line == "1024"


def test_limits_reach_the_kernel(plugrun, busybox):
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max; ulimit -n"
    if not os.path.isdir("/sys/fs/cgroup/memory"):
        script = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max; ulimit -n"
    limits = ["--memory", "64m", "--pids-limit", "50", "--ulimit", "nofile=99:99"]
    result = plugrun("run", "--rm", *limits, busybox, "sh", "-c", script).ok()
    assert result.stdout.split() == [str(64 << 20), "50", "99"]


def test_init_reaps_and_is_not_the_command(plugrun, busybox):
    result = plugrun("run", "--rm", "--init", busybox, "sh", "-c", "cat /proc/1/comm; echo $$").ok()
    name, number = result.stdout.split()
    assert name == "init"
    assert number != "1"


def test_signals_are_forwarded(plugrun, busybox):
    script = "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        plugrun.argv("run", "--rm", busybox, "sh", "-c", script), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == (b"got it\n", b"", 5)


def test_a_reader_that_leaves_ends_a_container_made_to_be_removed(plugrun, busybox):
    process = subprocess.Popen(
        plugrun.argv("run", "--rm", "--stop-timeout", "0", busybox, "yes"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        process.stdout.read(2)
        process.stdout.close()
        process.wait(20)
    assert process.returncode == 128 + signal.SIGPIPE
    assert plugrun("ps", "-aq").stdout == ""


def test_detached_prints_the_id_and_goes_on(plugrun, busybox):
    container = plugrun("run", "-d", "--name", "web", busybox, "sleep", "1000").ok().line
    assert len(container) == 64
    (row,) = [json.loads(line) for line in plugrun("ps", "--format", "json").ok().stdout.splitlines()]
    assert (row["ID"], row["Names"], row["State"], row["Storage"]) == (container[:12], "web", "running", "overlay")
    assert row["Status"].startswith("Up ")


def test_detached_with_rm_is_removed_by_its_monitor(plugrun, busybox):
    container = plugrun("run", "-d", "--rm", busybox, "true").ok().line
    deadline = time.monotonic() + 20
    while plugrun("ps", "-aq").stdout:
        assert time.monotonic() < deadline, plugrun("inspect", container).stdout
    assert plugrun("wait", container).code == 1  # it is no container any more


def test_no_cidfile_is_left_without_a_container(plugrun, busybox, tmp_path):
    for command in ("run", "create"):
        assert plugrun(command, "--cidfile", str(tmp_path / "id"), "nosuch", "true").code == 125
        assert not (tmp_path / "id").exists()


def test_cidfile(plugrun, busybox, tmp_path):
    plugrun("run", "--cidfile", str(tmp_path / "cid"), "--name", "one", busybox, "true").ok()
    assert plugrun("inspect", "-f", "{{.Id}}", "one").line == (tmp_path / "cid").read_text()
    again = plugrun("run", "--cidfile", str(tmp_path / "cid"), busybox, "true")
    assert again.code == 125
    assert "exists already" in again.stderr


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_each_runtime_by_name_and_path(plugrun, busybox, runtime):
    for choice in (runtime, shutil.which(runtime)):
        assert plugrun("run", "--rm", "--runtime", choice, busybox, "echo", "hi").ok().line == "hi"
