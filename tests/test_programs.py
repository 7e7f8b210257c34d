"""Helper programs get what they were given and nothing else."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from plugrun import programs
from plugrun.errors import DriverError, Unavailable

SH = "/bin/sh"


def sh(script: str, **options) -> programs.Completed:
    return programs.run([SH, "-c", script], **options)


def test_code_output_and_input():
    assert sh("cat; echo problem >&2; exit 7", input=b"in\n") == programs.Completed(7, "in\n", "problem\n")


def test_no_input_is_an_empty_one():
    assert sh("cat; echo end").stdout == "end\n"


def test_death_by_signal():
    assert sh("kill -9 $$").code == -9


def test_environment_is_clean(monkeypatch):
    for name in ("SECRET", "LD_PRELOAD", "PYTHONPATH", "OLDPWD"):
        monkeypatch.setenv(name, "leak")
    lines = programs.run(["/usr/bin/env"]).stdout.split()
    assert lines == [f"PATH={programs.SEARCH_PATH}"]


def test_working_directory_and_umask(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = os.umask(0)
    try:
        assert sh("pwd; umask").stdout.split() == ["/", "0022"]
    finally:
        os.umask(before)


def test_only_the_given_descriptors():
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    passed = os.memfd_create("passed")
    try:
        here = os.listdir("/proc/self/fd")
        assert str(leak) in here  # the control: it would be inherited
        out = sh("for fd in /proc/$$/fd/*; do readlink $fd; done", pass_fds=[passed]).stdout.split("\n")
    finally:
        os.close(leak)
        os.close(passed)
    assert sorted(line.partition(":")[0] for line in out) == ["", "/dev/null", "/memfd", "pipe", "pipe"]


def test_signals_are_as_after_boot():
    assert ignored(Path("/proc/self/status").read_text())  # the control: Python ignores SIGPIPE
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        status = programs.run(["/bin/cat", "/proc/self/status"]).stdout
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    assert not ignored(status)
    assert "SigBlk:\t0000000000000000" in status


def ignored(status: str) -> int:
    """Return the mask of ignored signals, without the two that glibc's posix_spawn keeps for itself (32 and 33)."""
    line = next(line for line in status.splitlines() if line.startswith("SigIgn:"))
    return int(line.split()[1], 16) & ~0x180000000


def test_long_output_is_bounded():
    done = sh("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 3")
    assert (done.code, len(done.stdout), len(done.stderr)) == (3, 1 << 20, 1 << 20)


def test_a_daemon_that_keeps_the_pipes_does_not_keep_us():
    begin = time.monotonic()
    done = sh("sleep 30 & echo $!")
    assert time.monotonic() - begin < 20
    os.kill(int(done.stdout), 9)


def test_timeout_kills():
    children, begin = Path(f"/proc/self/task/{os.getpid()}/children"), time.monotonic()
    before = children.read_text()  # multiprocessing keeps a helper when other tests have used it
    with pytest.raises(DriverError, match=r"did not end within 0\.2 seconds"):
        programs.run(["/bin/sleep", "30"], timeout=0.2)
    assert time.monotonic() - begin < 20
    assert children.read_text() == before


def test_descriptors_are_not_leaked():
    sh("true")
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        sh("cat", input=b"x")
    with pytest.raises(DriverError):
        programs.run(["/bin/sleep", "30"], timeout=0.01)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_search_ignores_the_callers_path(tmp_path, monkeypatch):
    (tmp_path / "crun").write_text("#!/bin/sh\n")
    (tmp_path / "crun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs.find("crun") != str(tmp_path / "crun")
    assert programs.find("sh") is not None


def test_a_missing_program_is_named():
    with pytest.raises(Unavailable, match="'no-such-program'") as caught:
        programs.require("no-such-program", package="things")
    assert "things" in (caught.value.hint or "")


def test_a_session_of_its_own():
    """The terminal's Ctrl-C is for us, not for a monitor that is being started."""
    stat = programs.run(["/bin/cat", "/proc/self/stat"]).stdout.rpartition(") ")[2].split()
    assert int(stat[3]) != os.getsid(0)
