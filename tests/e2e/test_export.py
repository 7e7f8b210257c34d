"""``export``: the whole root file system, nothing of the host, whatever it is called."""

from __future__ import annotations

import os
import subprocess

import pytest

from e2e.test_commit import tree_of, until
from terminals import Terminal
from trees import differences, survey

pytestmark = pytest.mark.root

STORY = r"""
mkdir /d; cd /d; touch ./-rf '*' "$(printf 'a\nb')" .wh.x; ln -s / root; ln -s ../../../../../../etc/shadow out
ln /etc/passwd same; mkfifo fifo; dd if=/dev/zero of=sparse bs=1 count=1 seek=5000000 2>/dev/null; rm /bin/wget
"""


def unpacked(archive, target):
    target.mkdir()
    options = ["--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--delay-directory-restore"]
    subprocess.run(["tar", "-xpf", archive, "-C", target, *options], check=True)
    return survey(target)


def test_a_stopped_one_and_a_running_one(storage, plugrun, busybox, tmp_path):
    plugrun("--storage", storage, "run", "-d", "--name", "web", busybox, "sh", "-c", f"{STORY} sleep 1000").ok()
    until(lambda: plugrun("exec", "web", "ls", "/bin/wget").code)
    running, stopped = tmp_path / "running.tar", tmp_path / "stopped.tar"
    running.write_bytes(subprocess.run(plugrun.argv("export", "web"), capture_output=True, check=True).stdout)
    plugrun("stop", "-t", "0", "web").ok()
    plugrun("export", "-o", str(stopped), "web").ok()
    assert running.read_bytes() == stopped.read_bytes()
    assert stopped.stat().st_size < 4 << 20  # the hole is none of it
    assert not differences(unpacked(stopped, tmp_path / "tree"), tree_of(plugrun, "web"))
    assert os.readlink(tmp_path / "tree/d/out") == "../../../../../../etc/shadow"


def test_and_imported(plugrun, busybox, tmp_path):
    plugrun("run", "--name", "web", busybox, "sh", "-c", "echo hello > /greeting; ln /greeting /same").ok()
    plugrun("export", "-o", str(tmp_path / "a.tar"), "web").ok()
    plugrun("import", str(tmp_path / "a.tar"), "made").ok()
    assert plugrun("run", "--rm", "made", "cat", "/same").ok().line == "hello"
    plugrun("create", "--name", "two", "made", "true").ok()
    assert not differences(tree_of(plugrun, "two"), tree_of(plugrun, "web"))


def test_volumes_are_not_in_it(plugrun, busybox, tmp_path):
    (tmp_path / "host").mkdir()
    (tmp_path / "host/secret").write_text("secret")
    mount = f"{tmp_path}/host:/data"
    plugrun("run", "-d", "--name", "web", "-v", mount, busybox, "sleep", "1000").ok()
    plugrun("export", "-o", str(tmp_path / "a.tar"), "web").ok()
    shown = subprocess.run(["tar", "tf", tmp_path / "a.tar"], capture_output=True, text=True, check=True).stdout
    assert "data/\n" in shown
    assert "secret" not in shown


def test_not_to_a_terminal(plugrun, busybox):
    plugrun("create", "--name", "web", busybox, "true").ok()
    with Terminal(plugrun.argv("export", "web")) as terminal:
        terminal.expect("an archive is not for a terminal")


def test_wrong_arguments(plugrun, busybox, tmp_path):
    plugrun("create", "--name", "web", busybox, "true").ok()
    for arguments in (("nope",), ("-o", str(tmp_path / "none/a.tar"), "web"), ("-o", str(tmp_path), "web")):
        refused = plugrun("export", *arguments)
        assert (refused.code, refused.stdout, len(refused.stderr.splitlines())) == (1, "", 1)
    refused = plugrun("export", "-o", "/dev/full", "web")
    assert (refused.code, "No space left" in refused.stderr) == (1, True)
    assert os.listdir(tmp_path) == ["root"]


def test_the_reader_goes(plugrun, busybox):
    plugrun("create", "--name", "web", busybox, "true").ok()
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(plugrun.argv("export", "web"), stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.stderr == b""
    plugrun("rm", "web").ok()
