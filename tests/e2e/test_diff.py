"""``diff``: what a container changed, as docker and podman show it."""

from __future__ import annotations

import contextlib
import json
import os
import signal

import pytest

from fixtures.tools import needs_podman
from plugrun import mounts, processes
from plugrun.lifecycle import trees

pytestmark = pytest.mark.root

STORY = """
echo new > /etc/new; rm /bin/wget; rm -r /home; mkdir -p /d/e; touch /d/e/f; ln -s /x /d/link; chmod 600 /etc/passwd
rm /etc/os-release; mkdir /etc/os-release; touch /d-a
"""
EXPECTED = """\
C /bin
D /bin/wget
A /d
A /d-a
A /d/e
A /d/e/f
A /d/link
C /etc
A /etc/new
C /etc/os-release
C /etc/passwd
D /home
"""


@pytest.fixture
def ran(storage, plugrun, busybox):
    plugrun("--storage", storage, "run", "--name", "web", busybox, "sh", "-c", STORY).ok()
    return "web"


def test_the_story(ran, plugrun):
    assert plugrun("diff", ran).ok().stdout == EXPECTED
    assert plugrun("container", "diff", ran).ok().stdout == EXPECTED


def test_formats(ran, plugrun):
    rows = [json.loads(line) for line in plugrun("diff", "--format", "json", ran).ok().stdout.splitlines()]
    assert "".join(f"{row['Kind']} {row['Path']}\n" for row in rows) == EXPECTED
    assert plugrun("diff", "--format", "{{.Path}}", ran).ok().stdout.splitlines()[-1] == "/home"
    assert plugrun("diff", "--format", "table", ran).ok().stdout.startswith("KIND   PATH\nC      /bin\n")
    refused = plugrun("diff", "--format", "{{.Nope}}", ran)
    assert (refused.code, len(refused.stderr.splitlines())) == (1, 1)


def test_a_container_that_changed_nothing(storage, plugrun, busybox):
    plugrun("--storage", storage, "run", "-d", "--name", "web", busybox, "sleep", "1000").ok()
    assert plugrun("diff", "web").ok().stdout == ""
    plugrun("exec", "web", "touch", "/x").ok()
    assert plugrun("diff", "web").ok().stdout == "A /x\n"
    plugrun("exec", "web", "rm", "/x").ok()
    assert plugrun("diff", "web").ok().stdout == ""


def test_names_are_safe_to_print(plugrun, busybox):
    plugrun("run", "--name", "web", busybox, "sh", "-c", r"""touch "/$(printf '\033]0;x\007\nD')" """).ok()
    shown = plugrun("diff", "web").ok().stdout.splitlines()
    assert len(shown) == 1
    assert shown[0].startswith("A /\\x1b]0;x\\x07\\x0aD")
    assert shown[0].isprintable()


def test_no_such_container(plugrun):
    refused = plugrun("diff", "nope")
    assert (refused.code, refused.stdout, len(refused.stderr.splitlines())) == (1, "", 1)


@needs_podman
def test_podman_shows_the_same(ran, plugrun, podman, busybox_archive):
    podman("load", "-i", busybox_archive)
    podman("run", "--network", "none", "--name", "web", "docker.io/library/busybox:latest", "sh", "-c", STORY)
    theirs = sorted(podman("diff", "web").splitlines())
    assert sorted(plugrun("diff", ran).ok().stdout.splitlines()) == theirs


def test_the_tree_of_one_that_died_just_now_is_not_mounted_twice(storage, plugrun, busybox):
    """Its monitor died as well, so nobody has cleaned up; two mounts of one upper directory would be undefined."""
    plugrun("--storage", storage, "run", "-d", "--name", "web", "--net", "none", busybox, "sleep", "1000").ok()
    with contextlib.closing(plugrun.engine()) as engine:
        record = engine.containers.find("web")
        for pid, start in ((record.monitor_pid, record.monitor_start), (record.pid, record.pid_start)):
            os.kill(pid, signal.SIGKILL)
            assert processes.wait_ended(pid, start, 10)
        rootfs = str(engine.paths.rootfs(record.id))
        assert mounts.is_mount_point(rootfs)
        with engine.locked(record.id), trees.own(engine, record) as tree:
            assert (tree / "bin/sh").exists()
            assert not mounts.is_mount_point(rootfs)
        assert engine.containers.find("web").status == "exited"
