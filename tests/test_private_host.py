"""The host in which every real container of the suite runs: what it keeps apart, and that it leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from fixtures.host import look, wait_for_end_of_new

pytestmark = pytest.mark.root
CHECKOUT = Path(__file__).resolve().parents[1]
SCRIPT = CHECKOUT / "scripts" / "private-host"


def in_host(script: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPT), "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("exec /nonexistent", 127), ("exec /etc/passwd", 126)],
)
def test_exit_code_is_the_commands(script, code):
    assert in_host(script).returncode == code


def test_missing_command_is_127():
    assert subprocess.run([SCRIPT, "no-such-program"], capture_output=True, check=False).returncode == 127


def test_stdin_passes_through():
    assert in_host("cat", input="one\ntwo\n").stdout == "one\ntwo\n"


def test_processes_network_and_name_are_its_own():
    script = "echo $$; hostname; ls /sys/class/net; ls /proc | grep -c '^[0-9]'"
    lines = in_host(script).stdout.split()
    assert lines[:3] == ["2", "private-host", "lo"]
    assert int(lines[3]) <= 6


def test_loopback_carries_traffic():
    program = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"
    assert in_host(f'python3 -c "{program}"').returncode == 0


def test_control_groups_are_its_own_root():
    found = in_host("cut -d: -f3 /proc/self/cgroup | sort -u").stdout.split()
    assert set(found) <= {"/", "/init"}


@pytest.mark.parametrize("directory", ["/etc", "/var/lib", "/var/lib/plugrun", "/run", "/dev/shm"])
def test_writes_stay_inside(directory):
    name = f"{directory}/private-host-canary-{os.getpid()}"
    done = in_host(f"echo x > {name} && cat {name}")
    assert done.stdout == "x\n", done.stderr
    assert not os.path.exists(name)


def test_temporary_directory_can_hold_an_overlay():
    script = (
        "cd $TMPDIR && mkdir l u w m && touch l/f && mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m && ls m"
    )
    assert in_host(script).stdout == "f\n"


LEAVE_ALL_SORTS = """
mount -t tmpfs x /mnt
ip link add leak0 type bridge 2>/dev/null
for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir -p $d/leak/deeper 2>/dev/null; done
setsid sleep 1000 >/dev/null 2>&1 &
for f in /sys/fs/cgroup/pids/leak/deeper/cgroup.procs /sys/fs/cgroup/leak/deeper/cgroup.procs; do
  [ -e $f ] && echo $! > $f
done
(cd $TMPDIR && p=$(printf 'd/%.0s' $(seq 500)) && for i in 1 2 3; do mkdir -p $p && cd $p; done)
echo $TMPDIR
"""


@pytest.mark.parametrize("end", ["exit 3", "kill -KILL $$"])
def test_nothing_is_left(end):
    before = look()
    temporary = in_host(LEAVE_ALL_SORTS + end).stdout.strip()
    assert Path(temporary).parent.parent == Path(os.environ["TMPDIR"]).parent / "hosts"
    assert not os.path.exists(Path(temporary).parent)
    assert wait_for_end_of_new(before, patience=0) == []


def test_nothing_is_left_after_kill():
    """SIGKILL of the outside process cannot be caught, so somebody else must clean up."""
    before = look()
    command = [str(SCRIPT), "sh", "-c", LEAVE_ALL_SORTS + "echo ready; read x"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as outside:
        assert outside.stdout is not None
        assert b"ready\n" in iter(outside.stdout.readline, b"")
        assert wait_for_end_of_new(before, patience=0) != []  # the check sees a host that lives
        outside.kill()
    assert wait_for_end_of_new(before) == []


def test_hosts_inside_end_with_it():
    """Whoever would clean up after the inner one dies with the outer one."""
    before = look()
    inner = f"{SCRIPT} sh -c 'echo $TMPDIR; read x'"
    with subprocess.Popen(
        [str(SCRIPT), "sh", "-c", f"{inner}; exit 0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as outside:
        assert outside.stdout is not None
        temporary = Path(outside.stdout.readline().strip())
        assert temporary.is_dir()
        outside.kill()
    assert wait_for_end_of_new(before) == []
    deadline = time.monotonic() + 10
    while temporary.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not temporary.exists()


# Not a shell with a trap: one that gets the signal just before it reads runs the trap only after the read.
WAITING = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("ready", flush=True)
signal.sigwait([signal.SIGTERM])
sys.exit(9)
"""


def test_a_request_to_end_reaches_the_command():
    command = [str(SCRIPT), sys.executable, "-c", WAITING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as outside:
        assert outside.stdout is not None
        assert outside.stdout.readline() == b"ready\n"
        outside.send_signal(signal.SIGTERM)
        assert outside.wait(30) == 9


def test_without_root_it_says_so():
    # Somewhere that anybody may look into; the checkout may be below /root.
    with tempfile.TemporaryDirectory(dir="/run") as place:
        shutil.copytree(SCRIPT.parent, place, dirs_exist_ok=True)
        os.chmod(place, 0o755)
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"{place}/private-host", "true"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 125
    assert done.stderr == "scripts/private-host: needs root to make namespaces; run it with sudo\n"
