"""Ctrl-C at any moment: what had been begun is undone, at once or by the next command."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plugrun import programs

# A crun that tells when it has come to a subcommand, and then takes its time.
SLOW = """#!/bin/sh
for word in {words}; do
    case " $* " in *" $word "*) touch {marks}/$word; sleep 1 ;; esac
done
exec {crun} "$@"
"""

# Interrupts itself as soon as it imports the command line.
EARLY = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == "plugrun.cli.app":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from plugrun.__main__ import main
main()
"""


@pytest.fixture
def slow(tmp_path):
    """Return a function that makes a runtime which is slow at some subcommands."""

    def make(*words):
        runtime = tmp_path / "crun"
        runtime.write_text(SLOW.format(words=" ".join(words), marks=tmp_path, crun=programs.find("crun")))
        runtime.chmod(0o755)
        return str(runtime)

    return make


def interrupted(plugrun, tmp_path, *arguments, at):
    """Run a command and send it SIGINT at each of the marks; return its exit code."""
    with subprocess.Popen(plugrun.argv(*arguments), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        for mark in at:
            until((tmp_path / mark).exists)
            process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert b"Traceback" not in stderr
    return process.returncode


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def mounted(plugrun):
    run_root = str(plugrun.roots.run_root)
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if run_root in line]


def state(plugrun, name):
    return plugrun("inspect", "-f", "{{.State.Status}}", name).ok().line


@pytest.mark.root
@pytest.mark.parametrize("moment", ["create", "start"])
def test_a_start_is_undone(plugrun, busybox, slow, tmp_path, moment):
    plugrun("create", "--runtime", slow(moment), "--name", "web", busybox, "sleep", "1000").ok()
    assert interrupted(plugrun, tmp_path, "start", "web", at=[moment]) == 130
    assert state(plugrun, "web") == "created"
    assert not mounted(plugrun)
    assert plugrun("start", "web").ok().line == "web"


@pytest.mark.root
@pytest.mark.parametrize("moment", ["create", "start"])
def test_a_run_with_rm_leaves_nothing(plugrun, busybox, slow, tmp_path, moment):
    runtime = slow(moment)
    assert interrupted(plugrun, tmp_path, "run", "--rm", "--runtime", runtime, busybox, "sleep", "1000", at=[moment])
    assert plugrun("ps", "-aq").ok().stdout == ""
    assert not mounted(plugrun)


@pytest.mark.root
def test_an_interrupted_undo_is_finished_by_the_next_command(plugrun, busybox, slow, tmp_path):
    plugrun("create", "--runtime", slow("start", "delete"), "--name", "web", busybox, "sleep", "1000").ok()
    assert interrupted(plugrun, tmp_path, "start", "web", at=["start", "delete"]) == 130
    assert state(plugrun, "web") == "starting"
    assert plugrun("rm", "web").ok().line == "web"
    assert not mounted(plugrun)
    assert not list((plugrun.roots.run_root / "containers").iterdir())
    assert not list((plugrun.roots.run_root / "netns").iterdir())


def test_before_anything_is_done_it_just_ends():
    done = subprocess.run([sys.executable, "-I", "-c", EARLY, "ps"], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")
