"""The suite's own guards: root tests that cannot hide that they did not run, and the leak check."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.host import look, wait_for_end_of_new
from terminals import until

TESTS = Path(__file__).parent


@pytest.fixture
def inner(tmp_path):
    """Run pytest on one test body in a directory of its own; return its closing output."""

    def run(body: str, **environment: str) -> str:
        lines = ["import os, subprocess, pytest", "@pytest.mark.root", "def test_it():", f"    {body}"]
        (tmp_path / "test_inner.py").write_text("\n".join(lines))
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = root: needs root\n")
        command = [sys.executable, "-m", "pytest", "-p", "fixtures.host", "-p", "no:cacheprovider", "-ra", "-q"]
        env = {**os.environ, "PYTHONPATH": str(TESTS), "PLUGRUN_LEAK_PATIENCE": "0.2", **environment}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False).stdout

    return run


def test_root_tests_are_skipped_outside_a_private_host(inner):
    output = inner("pass", PLUGRUN_PRIVATE_HOST="", PLUGRUN_REQUIRE_ROOT="")
    assert "1 skipped" in output
    assert "needs root" in output or "needs a private host" in output


def test_root_tests_fail_there_when_they_are_required(inner):
    output = inner("pass", PLUGRUN_PRIVATE_HOST="", PLUGRUN_REQUIRE_ROOT="1")
    assert "1 error" in output
    assert "PLUGRUN_REQUIRE_ROOT=1, but needs" in output


@pytest.mark.root
def test_a_clean_root_test_passes(inner):
    assert "1 passed" in inner("subprocess.run(['true'])")


@pytest.mark.root
def test_what_a_root_test_leaves_fails_it(inner):
    output = inner("subprocess.run(['mount', '-t', 'tmpfs', 'leak', '/mnt'], check=True)")
    subprocess.run(["umount", "/mnt"], check=True)
    assert "1 passed, 1 error" in output
    assert "left behind:" in output
    assert "  mount: /mnt (tmpfs)" in output


@pytest.mark.root
def test_what_a_modules_fixtures_leave_fails_it(inner):
    fixture = "@pytest.fixture(scope='module', autouse=True)\ndef leak():"
    output = inner(f"pass\n{fixture}\n    subprocess.run('ip link add leak1 type bridge', shell=True, check=True)")
    subprocess.run(["ip", "link", "del", "leak1"], check=True)
    assert "1 passed, 1 error" in output
    assert "left behind: leak1" in output


@pytest.mark.root
@pytest.mark.parametrize(
    ("leak", "mend", "kind"),
    [
        ("mkdir /sys/fs/cgroup/pids/leak", "rmdir /sys/fs/cgroup/pids/leak", "control group: /sys/fs/cgroup/pids/leak"),
        ("ip link add leak0 type bridge", "ip link del leak0", "network device: leak0"),
        ("mkdir -p /run/netns; touch /run/netns/leak", "rm -r /run/netns", "network namespace: leak"),
    ],
)
def test_leaks_are_seen(leak, mend, kind):
    if not os.path.isdir("/sys/fs/cgroup/pids"):  # cgroup v2 has one tree
        leak, mend, kind = (text.replace("/pids/", "/") for text in (leak, mend, kind))
    before = look()
    subprocess.run(leak, shell=True, check=True)
    found = wait_for_end_of_new(before, patience=0)
    subprocess.run(mend, shell=True, check=True)
    assert found == [f"  {kind}"]


@pytest.mark.root
def test_a_process_that_outlives_its_test_is_seen():
    before = look()
    with subprocess.Popen(["sleep", "1000"]) as process:
        until(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes())  # the kernel shows it just after execve(2)
        found = wait_for_end_of_new(before, patience=0)
        process.kill()
    assert found == [f"  process: {process.pid} sleep 1000"]
