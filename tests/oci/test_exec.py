"""Exec in real containers, in a program of its own so that its standard streams are real too."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from oci.containers import CAPABILITIES, DEADLINE, Container, config, container, readable
from plugrun.errors import CommandNotFound, FailedPrecondition
from plugrun.oci.exec import ExecRequest, ExecUser, exec_detached, process_spec
from plugrun.oci.runtime import Runtime

PROGRAM = str(Path(__file__).with_name("run_exec.py"))


def request(**values) -> ExecRequest:
    defaults = {
        "bundle": Path("/b"),
        "run_dir": Path("/r"),
        "runtime": Runtime("crun", "/usr/bin/crun"),
        "args": ("sh",),
    }
    return ExecRequest(**{"container_id": "c", "runtime_root": "/state", **defaults, **values})


class TestProcessSpec:
    def test_it_is_the_containers_own(self):
        own = config(["init"], apparmorProfile="strict", rlimits=[{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 9}])
        spec = process_spec(own, request(args=("ls", "-l")))
        assert spec == {**own["process"], "args": ["ls", "-l"]}
        assert spec["noNewPrivileges"] is True

    def test_what_the_user_says_wins(self):
        spec = process_spec(config(["init"]), request(env=("COLOR=blue", "NEW=1"), cwd="/tmp", tty=True))
        assert spec["env"] == ["PATH=/bin", "COLOR=blue", "NEW=1", "TERM=xterm"]
        assert (spec["cwd"], spec["terminal"]) == ("/tmp", True)

    def test_term_of_the_container_stays(self):
        own = config(["init"], env=["TERM=dumb"])
        assert process_spec(own, request(tty=True))["env"] == ["TERM=dumb"]

    def test_another_user_has_no_capabilities(self):
        spec = process_spec(config(["init"]), request(user=ExecUser(1000, 100, (5, 6))))
        assert spec["user"] == {"uid": 1000, "gid": 100, "additionalGids": [5, 6]}
        assert spec["capabilities"] == {"bounding": CAPABILITIES, "effective": [], "permitted": []}

    def test_root_has_those_of_the_bounding_set(self):
        own = config(
            ["init"],
            user={"uid": 5, "gid": 5},
            capabilities={
                "bounding": CAPABILITIES,
                "effective": [],
                "ambient": ["CAP_KILL"],
                "inheritable": ["CAP_KILL"],
            },
        )
        spec = process_spec(own, request(user=ExecUser(0, 0)))
        assert spec["capabilities"] == dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)

    def test_the_same_user_keeps_what_it_has(self):
        own = config(
            ["init"], user={"uid": 5, "gid": 5}, capabilities={"bounding": ["CAP_KILL"], "ambient": ["CAP_KILL"]}
        )
        assert process_spec(own, request(user=ExecUser(5, 6)))["capabilities"] == own["process"]["capabilities"]

    def test_the_configuration_is_not_changed(self):
        own = config(["init"])
        before = json.dumps(own)
        process_spec(own, request(env=("A=1",), user=ExecUser(7, 7), tty=True))
        assert json.dumps(own) == before


def test_a_container_that_does_not_run(tmp_path):
    with pytest.raises(FailedPrecondition, match="not running"):
        exec_detached(request(bundle=tmp_path, run_dir=tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def box(tmp_path, real_runtime):
    with container(tmp_path, real_runtime) as made:
        made.create("sleep", "1000").start()
        yield made
        wait_until_gone(made)


def sessions(box: Container) -> list[str]:
    place = box.run_dir / "exec"
    return [path.name for path in place.iterdir()] if place.exists() else []


def wait_until_gone(box: Container) -> None:
    """Wait until every session has cleaned up after itself."""
    deadline = time.monotonic() + DEADLINE
    while sessions(box):
        assert time.monotonic() < deadline, sessions(box)
        time.sleep(0.005)


def command(box: Container, *args: str, **values) -> list[str]:
    request = {
        "container_id": box.id,
        "bundle": str(box.run_dir),
        "run_dir": str(box.run_dir),
        "runtime": [box.runtime.name, box.runtime.path],
        "runtime_root": box.client.state_root,
        "args": args,
    }
    return [sys.executable, PROGRAM, json.dumps({**request, **values})]


def run(box: Container, *args: str, input: bytes = b"", **values) -> tuple[int, bytes, bytes]:  # noqa: A002
    done = subprocess.run(
        command(box, *args, **values), input=input, capture_output=True, timeout=DEADLINE, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.root
class TestContainer:
    @pytest.mark.parametrize("code", [0, 1, 3, 125, 126, 127, 255])
    def test_exit_codes(self, box, code):
        assert run(box, "sh", "-c", f"exit {code}") == (code, b"", b"")

    def test_death_by_signal(self, box):
        assert run(box, "sh", "-c", "kill -9 $$")[0] == 137

    def test_streams(self, box):
        assert run(box, "sh", "-c", "echo out; echo err >&2; exit 4") == (4, b"out\n", b"err\n")

    def test_short_output_is_never_lost(self, box):
        for number in range(10):
            assert run(box, "echo", str(number)) == (0, b"%d\n" % number, b"")

    def test_input(self, box):
        content = os.urandom(2_000_000)
        assert run(box, "cat", input=content, stdin_open=True) == (0, content, b"")

    def test_input_not_asked_for(self, box):
        assert run(box, "cat", input=b"nothing") == (0, b"", b"")

    @pytest.mark.parametrize("args", [("nosuch",), ("/bin/nosuch",)])
    @pytest.mark.parametrize("tty", [False, True])
    def test_missing_command(self, box, args, tty):
        code, out, err = run(box, *args, tty=tty)
        assert (code, out) == (127, b""), err
        assert err == f"command {args[0]!r} does not exist in the container\n".encode()

    @pytest.mark.parametrize("args", [("/etc/plain",), ("/etc",)])
    @pytest.mark.parametrize("tty", [False, True])
    def test_command_that_cannot_be_executed(self, box, args, tty):
        code, out, err = run(box, *args, tty=tty)
        assert (code, out) == (126, b"")
        assert err.startswith(f"command {args[0]!r} cannot be executed in the container: ".encode())
        assert err.count(b"\n") == 1

    def test_engine_error(self, box):
        code, out, err = run(box, "true", cwd="/nowhere")
        assert (code, out) == (125, b"")
        assert b"nowhere" in err
        assert err.count(b"\n") == 1

    def test_user_env_and_cwd(self, box):
        script = "id -u; id -g; pwd; echo $COLOR $SECRET; grep -h Cap /proc/self/status"
        code, out, _ = run(box, "sh", "-c", script, user=[1000, 100], env=["COLOR=blue"], cwd="/tmp")
        lines = out.decode().split("\n")
        assert (code, lines[:4]) == (0, ["1000", "100", "/tmp", "blue"])
        capabilities = dict(line.split(":\t") for line in lines[4:] if line)
        assert capabilities["CapEff"] == capabilities["CapPrm"] == capabilities["CapInh"] == "0" * 16
        assert int(capabilities["CapBnd"], 16) == (1 << 0) | (1 << 5)

    @pytest.mark.parametrize("tty", [False, True])
    def test_three_descriptors(self, box, tty):
        leak = os.open("/etc/passwd", os.O_RDONLY)
        script = "for fd in /proc/$$/fd/*; do readlink $fd; done; true"
        argv = command(box, "sh", "-c", script, stdin_open=not tty, tty=tty)
        try:
            done = subprocess.run(argv, capture_output=True, pass_fds=[leak], timeout=DEADLINE, check=True)
        finally:
            os.close(leak)
        kind = b"/dev/pts/0" if tty else b"pipe"
        assert [line.partition(b":")[0] for line in done.stdout.split()] == [kind] * 3

    def test_late_failure_of_a_terminal_session(self, box, tmp_path):
        """crun 1.8.1 at times reports success, and its child then finds no such command."""
        late = tmp_path / "late"
        late.write_text(
            f"""#!/bin/sh
log=$4
case "$*" in *exec*) ;; *) exec {box.runtime.path} "$@" ;; esac
sed -i 's/"nosuch"/"false"/' $(echo "$*" | sed 's/.*--process \\([^ ]*\\).*/\\1/')
{box.runtime.path} "$@" || exit
echo 'executable file `nosuch` not found in $PATH: No such file or directory' >> "$log"
"""
        )
        late.chmod(0o755)
        code, out, err = run(box, "nosuch", tty=True, runtime=["late", str(late)])
        assert (code, out) == (127, b"")
        assert err == b"command 'nosuch' does not exist in the container\n"

    def test_detached(self, box):
        code, out, err = run(box, "sleep", "1000", detached=True)
        assert (code, err) == (0, b"")
        pid = int(out)
        assert b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()
        os.kill(pid, signal.SIGKILL)

    def test_detached_missing_command(self, box):
        assert run(box, "nosuch", detached=True)[0] == 127

    def test_head_ends_the_pipeline(self, box):
        with subprocess.Popen(command(box, "yes"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.read(2) == b"y\n"
            process.stdout.close()
            assert process.wait(DEADLINE) == 141

    def test_signals_reach_the_process(self, box):
        script = "trap 'echo caught; exit 4' TERM; echo ready; while :; do sleep 0.1; done"
        with subprocess.Popen(command(box, "sh", "-c", script), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            process.terminate()
            assert process.stdout.read() == b"caught\n"
            assert process.wait(DEADLINE) == 4

    def test_background_child_does_not_hold_us(self, box):
        code, out, _ = run(box, "sh", "-c", "sleep 1000 & echo done")
        assert (code, out) == (0, b"done\n")

    def test_background_child_that_goes_on_writing(self, box):
        with subprocess.Popen(
            command(box, "sh", "-c", "yes & exit 3"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            out, err = process.communicate(timeout=DEADLINE)
        # either conmon found a moment without output, or we gave up
        assert process.returncode in {3, 125}
        assert len(out) < 16 << 20
        assert err.count(b"\n") <= 1

    def test_killed_caller_leaves_nothing(self, box):
        with subprocess.Popen(
            command(box, "cat", stdin_open=True), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"x\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"x\n"
            process.kill()  # conmon ends the input of cat, which ends, and the session with it

    def test_many_sessions_leave_no_descriptors(self, box, monkeypatch):
        monkeypatch.setenv("COUNT_FDS", "1")
        assert run(box, "true")[2] == b"fds=4\n"

    def test_terminal(self, box):
        master, slave = pty.openpty()
        resize(slave, 33, 101)
        process = subprocess.Popen(
            command(box, "sh", tty=True, stdin_open=True),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        before = termios.tcgetattr(slave)
        type_in(master, "stty size; tty\r", until="33 101")
        resize(slave, 44, 55)
        process.send_signal(signal.SIGWINCH)
        type_in(master, "until [ \"$(stty size)\" = '44 55' ]; do :; done; echo re''sized\r", until="resized")
        type_in(master, "exit 5\r", until="")
        assert process.wait(DEADLINE) == 5
        assert termios.tcgetattr(slave) == before
        os.close(master)
        os.close(slave)

    def test_detach_keys(self, box):
        master, slave = pty.openpty()
        process = subprocess.Popen(
            command(box, "sh", "-c", "echo re''ady; read x", tty=True, stdin_open=True),
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        type_in(master, "", until="ready")
        os.write(master, b"\x10\x11")
        assert process.wait(DEADLINE) == 0
        assert termios.tcgetattr(slave)[3] & termios.ICANON
        (session,) = sessions(box)
        pid = int((box.run_dir / "exec" / session / "pidfile").read_text())
        os.kill(pid, signal.SIGKILL)  # it goes on without us, until now
        os.close(master)
        os.close(slave)

    def test_the_terminal_is_restored_when_we_are_killed(self, box):
        master, slave = pty.openpty()
        process = subprocess.Popen(
            command(box, "sh", "-c", "echo re''ady; read x", tty=True, stdin_open=True),
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        type_in(master, "", until="ready")
        assert not termios.tcgetattr(slave)[3] & termios.ICANON  # the control: it was raw
        pid = int((box.run_dir / "exec" / sessions(box)[0] / "pidfile").read_text())
        process.terminate()
        assert process.wait(DEADLINE) == -signal.SIGTERM
        assert termios.tcgetattr(slave)[3] & termios.ICANON
        os.kill(pid, signal.SIGKILL)
        os.close(master)
        os.close(slave)


def resize(slave: int, rows: int, columns: int) -> None:
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def type_in(master: int, text: str, *, until: str) -> None:
    os.write(master, text.encode())
    seen = b""
    deadline = time.monotonic() + DEADLINE
    while until.encode() not in seen:
        assert readable(master, max(0.0, deadline - time.monotonic())), f"{until!r} not in {seen!r}"
        seen += os.read(master, 4096)


@pytest.mark.root
def test_descriptors_are_not_leaked(box):
    def once() -> None:
        values = {"container_id": box.id, "bundle": box.run_dir, "run_dir": box.run_dir, "runtime": box.runtime}
        values["runtime_root"] = box.client.state_root
        for tty in (False, True):
            exec_detached(request(**values, args=("true",), tty=tty))
        with pytest.raises(CommandNotFound):
            exec_detached(request(**values, args=("nosuch",)))

    once()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        once()
    assert len(os.listdir("/proc/self/fd")) == before
