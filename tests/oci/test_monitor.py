"""Creating containers under conmon: what it reports, what it is given, what is left when it fails."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from oci.containers import Container, Sink, container, readable
from plugrun import logs, programs
from plugrun.errors import CommandNotExecutable, CommandNotFound, DriverError, FailedPrecondition, Unavailable
from plugrun.oci import conmon, monitor

pytestmark = pytest.mark.root


@pytest.fixture
def box(tmp_path, real_runtime):
    with container(tmp_path, real_runtime) as made:
        yield made


def rest(box: Container) -> set[str]:
    """What a failed create left behind."""
    left = {path.name for path in box.run_dir.iterdir()} - {"config.json", "rootfs"}
    return left | {path.name for path in Path(box.client.state_root).iterdir()}


@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 0", 0), ("exit 1", 1), ("exit 255", 255), ("kill -9 $$", 137), ("trap 'exit 9' TERM; kill $$; sleep 9", 9)],
)
def test_exit_codes(box, command, code):
    box.create("sh", "-c", command)
    assert monitor.exit_code(box.run_dir, box.id) is None
    box.start()
    # process 1 of a namespace cannot kill itself, so that shell goes on to its end
    assert box.wait() == (0 if "kill -9" in command else code)


def test_death_by_a_signal_from_outside(box):
    box.create("sleep", "1000").start()
    os.kill(box.handle.pid, signal.SIGKILL)
    assert box.wait() == 137


def test_log_has_both_streams(box):
    box.create("sh", "-c", "echo out; echo err >&2; printf unfinished").start()
    box.wait()
    pieces = list(logs.read(box.log))
    assert b"".join(piece.data for piece in pieces if piece.stream == "stdout") in {
        b"out\nunfinished",
        b"out\nunfinished\n",
    }
    assert [piece.data for piece in pieces if piece.stream == "stderr"] == [b"err\n"]
    assert stat.S_IMODE(box.log.stat().st_mode) == 0o600


def test_started_again(box):
    box.create("false").start()
    assert box.wait() == 1
    box.remove()
    box.create("true")
    assert monitor.exit_code(box.run_dir, box.id) is None  # that of the first run is gone
    box.start()
    assert box.wait() == 0


@pytest.mark.parametrize("command", ["nosuch", "/bin/nosuch"])
@pytest.mark.parametrize("tty", [False, True])
def test_missing_command(box, command, tty):
    with pytest.raises(CommandNotFound, match=f"'{command}'"):
        box.create(command, tty=tty)
    assert rest(box) == set()


@pytest.mark.parametrize("command", ["/etc/plain", "/etc"])
@pytest.mark.parametrize("tty", [False, True])
def test_command_that_cannot_be_executed(box, command, tty):
    with pytest.raises(CommandNotExecutable, match=f"'{command}'"):
        box.create(command, tty=tty)
    assert rest(box) == set()


@pytest.mark.parametrize("tty", [False, True])
def test_failed_create_leaves_nothing(box, tty):
    with pytest.raises(DriverError, match=f"{box.runtime.name} cannot create") as caught:
        box.create(
            "true",
            tty=tty,
            process={"cwd": "relative"}
            if box.runtime.name == "runc"
            else {"rlimits": [{"type": "NO", "soft": 1, "hard": 1}]},
        )
    assert "\n" not in str(caught.value)
    assert rest(box) == set()
    box.create("true").start()  # and the id can be used again
    assert box.wait() == 0


def test_id_taken(box, tmp_path):
    box.create("sleep", "1000")
    other = tmp_path / "other"
    other.mkdir()
    with container(other, box.runtime) as second:
        second.id = box.id
        request = second.request(runtime_root=box.client.state_root)
        (second.run_dir / "config.json").write_text((box.run_dir / "config.json").read_text())
        with pytest.raises(DriverError, match="exist"):
            monitor.create(request)
        second.id = "0" * 64


def test_no_conmon(box, monkeypatch):
    monkeypatch.setattr(programs, "SEARCH_PATH", "/nonexistent")
    with pytest.raises(Unavailable, match="conmon"):
        box.create("true")


def test_log_that_cannot_be_made(box):
    box.log.mkdir()
    with pytest.raises(Unavailable, match=r"container\.log"):
        box.create("true")
    assert rest(box) == set()


@pytest.mark.parametrize("target", ["/dev/null", "elsewhere"])
def test_log_that_is_a_link(box, target):
    (box.log.parent / "elsewhere").touch()
    box.log.symlink_to(target)
    with pytest.raises(Unavailable, match=r"container\.log"):
        box.create("true")


@pytest.mark.parametrize("with_reader", [False, True])
def test_log_that_is_a_fifo(box, with_reader):
    os.mkfifo(box.log)
    reader = os.open(box.log, os.O_RDONLY | os.O_NONBLOCK) if with_reader else -1
    with pytest.raises(Unavailable, match=r"container\.log"):
        box.create("true")
    if with_reader:
        os.close(reader)


def test_runtime_that_hangs(box, monkeypatch, tmp_path):
    slow = tmp_path / "slow"
    slow.write_text('#!/bin/sh\ncase "$*" in *create*) exec sleep 1000;; esac\n')
    slow.chmod(0o755)
    monkeypatch.setattr(conmon, "CREATE_TIMEOUT", 0.3)
    from plugrun.oci.runtime import Runtime

    (box.run_dir / "config.json").write_text("{}")
    with pytest.raises(DriverError, match="did not answer in time"):
        monitor.create(box.request(runtime=Runtime("slow", str(slow))))
    assert rest(box) == set()  # and no process: the host's check


def test_conmon_gets_nothing_of_ours(box, monkeypatch):
    monkeypatch.setenv("SECRET", "leak")
    leak = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        box.create("sleep", "1000")
    finally:
        os.close(leak)
    process = Path(f"/proc/{box.handle.monitor_pid}")
    names = {line.partition(b"=")[0] for line in (process / "environ").read_bytes().split(b"\0") if line}
    assert names <= {b"PATH", b"_OCI_SYNCPIPE"}
    targets = {int(fd.name): os.readlink(fd) for fd in (process / "fd").iterdir()}
    assert {targets[number] for number in (0, 1, 2)} == {"/dev/null"}
    assert "/etc/passwd" not in targets.values()
    files = {target for target in targets.values() if target.startswith("/")}
    assert files <= {"/dev/null", str(box.log), str(box.run_dir / "ctl"), str(box.run_dir / "winsz")} | {
        # of the container's memory; /proc/<its pid>/cgroup says which, and is closed again
        target
        for target in files
        if target.endswith(("/cgroup", "cgroup.event_control")) or "memory" in target
    }
    assert os.getsid(box.handle.monitor_pid) == box.handle.monitor_pid
    assert os.readlink(process / "cwd") == str(box.run_dir)


@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize("stdin_open", [False, True])
def test_container_has_three_descriptors(box, tty, stdin_open):
    leak = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        script = "for fd in /proc/1/fd/*; do readlink $fd; done"
        out, _, _ = box.create("sh", "-c", script, tty=tty, stdin_open=stdin_open).output()
    finally:
        os.close(leak)
    kinds = {line.partition(b":")[0] for line in out.split()}
    assert len(out.split()) == 3
    if tty:
        assert kinds == {b"/dev/pts/0"}
    else:
        assert kinds == ({b"pipe"} if stdin_open else {b"pipe", b"/dev/null"})


def test_environment_of_the_container(box, monkeypatch):
    monkeypatch.setenv("SECRET", "leak")
    out, _, _ = box.create("env").output()
    assert {line.partition(b"=")[0] for line in out.splitlines()} <= {b"PATH", b"COLOR", b"HOME"}


@pytest.mark.parametrize("tty", [False, True])
def test_no_abstract_sockets(box, tty):
    before = abstract_sockets()
    box.create("sleep", "1000", tty=tty).start()
    with monitor.connect(box.run_dir):
        assert abstract_sockets() == before


def abstract_sockets() -> list[str]:
    return [line for line in Path("/proc/net/unix").read_text().splitlines() if " @" in line]


def test_private_files_only(box):
    box.create("sleep", "1000", tty=True)
    for name in ("attach", "ctl", "winsz"):
        assert not (box.run_dir / name).stat().st_mode & 0o007
    assert not list(box.run_dir.glob("conmon-term*"))


def test_console_socket_never_in_tmp(box, tmp_path, monkeypatch):
    """The socket lives for milliseconds; a runtime that fails leaves it where it was made."""
    liar = tmp_path / "liar"
    liar.write_text('#!/bin/sh\necho "$@" >> ' + str(tmp_path / "arguments") + "\nexit 1\n")
    liar.chmod(0o755)
    from plugrun.oci.runtime import Runtime

    (box.run_dir / "config.json").write_text("{}")
    with pytest.raises(DriverError):
        monitor.create(box.request(runtime=Runtime("liar", str(liar)), tty=True))
    arguments = (tmp_path / "arguments").read_text().split()
    assert arguments[arguments.index("--console-socket") + 1].startswith(f"/proc/{os.getpid()}/fd/")


def test_very_long_paths(tmp_path, real_runtime):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    for tty in (False, True):
        with container(deep, real_runtime) as box:
            out, _, _ = box.create("echo", "far", tty=tty).output()
            assert out.strip() == b"far"
        import shutil

        shutil.rmtree(deep)
        deep.mkdir()


def test_exit_command(box, tmp_path):
    mark = tmp_path / "mark"
    script = f'cp {box.run_dir}/{box.id} "$1"; env >> "$1"; pwd >> "$1"'
    box.create("sh", "-c", "exit 3", exit_command=("/bin/sh", "-c", script, "sh", str(mark)))
    assert not mark.exists()
    box.start()
    assert box.wait() == 3
    lines = mark.read_text().splitlines()
    assert lines[0].startswith("3")
    assert not any("SECRET" in line for line in lines)


def test_exit_command_with_option_like_arguments(box, tmp_path):
    mark = tmp_path / "mark"
    command = ("/bin/sh", "-c", 'printf "%s|" "$@" > ' + str(mark), "sh", "--nonblock", "-I", "a b", "")
    box.create("true", exit_command=command).start()
    box.wait()
    assert mark.read_text() == "--nonblock|-I|a b||"


def test_connecting_to_an_ended_one(box):
    box.create("true").start()
    box.wait()
    with pytest.raises(FailedPrecondition):
        monitor.connect(box.run_dir)
    monitor.resize(box.run_dir, 10, 10)  # no harm


def test_killed_monitor(box):
    box.create("sleep", "1000").start()
    os.kill(box.handle.monitor_pid, signal.SIGKILL)
    assert readable(box.ended)
    assert monitor.exit_code(box.run_dir, box.id) is None
    assert box.client.state(box.id).status == "running"  # it does not take the container with it


def test_out_of_memory(box):
    limit = Path("/sys/fs/cgroup/memory")
    if not limit.is_dir():
        pytest.skip("no cgroup v1 memory controller here")
    import json

    box.create("true").remove()
    config = json.loads((box.run_dir / "config.json").read_text())
    config["process"]["args"] = ["sh", "-c", "x=x; while :; do x=$x$x; done"]
    config["linux"]["resources"] = {"memory": {"limit": 16 << 20}}
    (box.run_dir / "config.json").write_text(json.dumps(config))
    assert not monitor.oom_killed(box.run_dir)
    box.handle = monitor.create(box.request())
    box.ended = os.pidfd_open(box.handle.monitor_pid)
    box.start()
    assert box.wait() == 137
    assert monitor.oom_killed(box.run_dir)
    assert not Path("/oom").exists()


def test_input_that_never_ends(box):
    """``run -d -i``: clients come and go, the container's input stays open."""
    box.create("cat", stdin_open=True, stdin_once=False).start()
    for word in (b"one\n", b"two\n"):
        with monitor.connect(box.run_dir) as client:
            client.send(word)
            assert client.recv(100)[1:] == word
    assert box.client.state(box.id).status == "running"


def test_descriptors_are_not_leaked(box):
    def round_trip() -> None:
        box.create("true", tty=True)
        box.output()
        box.wait()
        box.remove()
        with pytest.raises(CommandNotFound):
            box.create("nosuch")

    round_trip()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        round_trip()
    assert len(os.listdir("/proc/self/fd")) == before


def test_sink_helper_keeps_everything():
    with Sink() as sink:
        os.write(sink.write_end, b"x" * 1000)
        assert sink.content() == b"x" * 1000


def test_forged_records_are_content(box):
    forged = "2026-01-01T00:00:00.000000000+00:00 stderr F forged"
    script = f"printf 'a\\n{forged}\\nb\\r{forged}\\n\\000{forged}\\n'"
    box.create("sh", "-c", script).start()
    box.wait()
    pieces = list(logs.read(box.log))
    expected = f"a\n{forged}\nb\r{forged}\n\0{forged}\n".encode()
    assert b"".join(piece.data for piece in pieces) == expected
    assert {piece.stream for piece in pieces} == {"stdout"}


def test_long_line(box):
    size = 8 << 20
    box.create("sh", "-c", f"head -c {size} /dev/zero; echo").start()
    box.wait()
    pieces = list(logs.read(box.log))
    assert sum(len(piece.data) for piece in pieces) == size + 1
    assert [piece.first for piece in pieces].count(True) == 1
    assert max(len(piece.data) for piece in pieces) <= 65536
