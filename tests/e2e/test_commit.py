"""``commit``: what a container wrote is in the image, whichever driver it is in, whatever its files are called."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fixtures.tools import needs_podman, needs_umoci
from plugrun.lifecycle import trees
from trees import differences, survey

pytestmark = pytest.mark.root

STORY = """
echo new > /etc/new; rm /bin/wget; rm -r /home; mkdir /d; ln /etc/passwd /d/passwd; mkfifo /d/fifo; ln -s /x /d/link
chmod 4711 /bin/vi; chown 5:6 /d/link /tmp; touch -d 2001-02-03 /d
rm /etc/os-release; mkdir /etc/os-release; echo a > /etc/os-release/a; ln /bin/sed /bin/sed2
dd if=/dev/zero of=/d/sparse bs=1 count=1 seek=3000000 2>/dev/null; echo ready
"""


@pytest.fixture
def web(storage, plugrun, busybox):
    """The name of a running container in each driver, which has changed things."""
    plugrun("--storage", storage, "run", "-d", "--name", "web", busybox, "sh", "-c", f"{STORY} sleep 1000").ok()
    until(lambda: "ready" in plugrun("logs", "web").stdout)
    return "web"


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def tree_of(plugrun, name):
    """Survey a container's root file system on the host."""
    engine = plugrun.engine()
    try:
        record = engine.containers.find(name)
        with engine.locked(record.id), trees.own(engine, record) as tree:
            return survey(tree)
    finally:
        engine.close()


def same(storage, plugrun, name, image):
    plugrun("--storage", storage, "create", "--name", "result", image, "true").ok()
    found = differences(tree_of(plugrun, "result"), tree_of(plugrun, name))
    # What the engine made for its own mounts, where the image has nothing, is no part of it, nor is when it did.
    made = {b"etc/hosts", b"etc/hostname", b"etc/resolv.conf"}
    return [one for one in found if one.name not in made and (one.name, one.fact) != (b"etc", "mtime")]


def test_the_result_is_what_the_container_was(storage, plugrun, web):
    made = plugrun("commit", "-q", web, "result:v1").ok()
    assert (made.line, made.stderr) == (plugrun("images", "-q", "--no-trunc", "result:v1").ok().line, "")
    assert same(storage, plugrun, web, "result:v1") == []
    assert plugrun("exec", web, "cat", "/etc/new").ok().line == "new"  # it went on
    shown = plugrun("--storage", storage, "run", "--rm", "result:v1", "sh", "-c", "cat /etc/new; ls /home /bin/wget")
    assert shown.stdout == "new\n"
    again = plugrun("commit", web, "again").ok()
    assert "paused for" in again.stderr


def test_much_in_a_running_container(storage, plugrun, web):
    plugrun("exec", web, "sh", "-c", "head -c 10000000 /dev/urandom > /much; rm /etc/new").ok()
    plugrun("commit", web, "result").ok()
    assert same(storage, plugrun, web, "result") == []
    assert leftovers(plugrun) == []


def test_a_stopped_container_and_a_second_step(storage, plugrun, web):
    plugrun("commit", web, "first").ok()
    plugrun("--storage", storage, "run", "--name", "second", "first", "sh", "-c", "rm /d/fifo; echo 2 > /d/two").ok()
    done = plugrun("commit", "second", "second").ok()
    assert done.stderr == ""
    assert same(storage, plugrun, "second", "second") == []
    image = json.loads(plugrun("image", "inspect", "second").ok().stdout)[0]
    assert len(image["RootFS"]["Layers"]) == 3


def test_the_configuration_follows_the_container(plugrun, busybox):
    plugrun(
        *("create", "--name", "web", "-e", "A=1", "-l", "x=y", "-w", "/tmp", "-u", "5", "--entrypoint", "echo"),
        *("--stop-signal", "USR1", busybox, "one", "two"),
    ).ok()
    plugrun("commit", "-a", "me", "-m", "why", "-c", "ENV B=2", "-c", "EXPOSE 80", "web", "made").ok()
    image = json.loads(plugrun("image", "inspect", "made").ok().stdout)[0]
    config = image["Config"]
    assert config["Entrypoint"] == ["echo"]
    assert config["Cmd"] == ["one", "two"]
    assert [entry for entry in config["Env"] if not entry.startswith("PATH=")] == ["A=1", "B=2"]
    assert (config["Labels"], config["WorkingDir"], config["User"]) == ({"x": "y"}, "/tmp", "5")
    assert (config["StopSignal"], config["ExposedPorts"]) == ("USR1", {"80/tcp": {}})
    assert (image["Author"], image["Comment"]) == ("me", "why")
    assert plugrun("run", "--rm", "made").ok().line == "one two"


def test_nothing_changed_makes_an_image_without_a_layer(storage, plugrun, busybox):
    plugrun("--storage", storage, "run", "--name", "web", busybox, "true").ok()
    plugrun("commit", "web", "same").ok()
    ours, base = (json.loads(plugrun("image", "inspect", name).ok().stdout)[0] for name in ("same", busybox))
    assert ours["RootFS"] == base["RootFS"]
    assert ours["Id"] != base["Id"]
    assert plugrun("history", "same", "--format", "{{.Size}}").ok().stdout.splitlines()[0] == "0B"
    plugrun("run", "--rm", "same").ok()


@needs_podman
@needs_umoci
def test_others_take_it(web, plugrun, podman, tmp_path):
    plugrun("commit", web, "result").ok()
    plugrun("save", "-o", str(tmp_path / "a.tar"), "result").ok()
    podman("load", "-i", tmp_path / "a.tar")
    container = podman("create", "docker.io/library/result:latest", "true")
    theirs = survey(Path(podman("mount", container)))
    ours = tree_of(plugrun, web)
    for name in (b"etc/hosts", b"etc/hostname", b"etc/resolv.conf"):
        ours.pop(name, None)
        theirs.pop(name, None)
    assert {name: node.content for name, node in theirs.items() if name in ours} == {
        name: node.content for name, node in ours.items()
    }


@pytest.mark.parametrize("name", [".wh.bin", "d/.wh..wh..opq", ".wh.dir/x", "gone/.wh.x"])
def test_names_that_mean_removals(plugrun, busybox, name):
    script = f'mkdir -p "$(dirname /{name})"; echo kept > /{name}; echo'
    plugrun("run", "--name", "web", busybox, "sh", "-c", script).ok()
    refused = plugrun("commit", "web", "result")
    assert (refused.code, refused.stdout) == (1, "")
    assert "cannot be in an image" in refused.stderr
    assert plugrun("images", "-q").ok().stdout.split() == [plugrun("images", "-q", busybox).ok().line]
    assert leftovers(plugrun) == []
    out = plugrun.roots.root / "out.tar"
    plugrun("export", "-o", str(out), "web").ok()
    assert f"{name}\n" in subprocess.run(["tar", "tf", out], capture_output=True, text=True, check=True).stdout


def leftovers(plugrun):
    found = [path for path in (plugrun.roots.root / "images/ingest").iterdir() if path.name != "lock"]
    mounted = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "/staging/" in line]
    snapshots = list(plugrun.roots.root.glob("storage/*/*/staging-*"))
    return found + mounted + snapshots + list((plugrun.roots.run_root / "staging").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "no such container"),
        (("web", "UPPER"), "lower case"),
        (("web", "a@sha256:" + "0" * 64), "can be given a tag"),
        (("-c", "FROM x", "web"), "no instruction"),
        (("-c", "CMD", "web"), "no value"),
        (("-c", "ENV X", "web"), "not key=value"),
    ],
)
def test_wrong_wishes(plugrun, busybox, arguments, message):
    plugrun("create", "--name", "web", busybox, "true").ok()
    refused = plugrun("commit", *arguments)
    assert refused.code == 1
    assert message in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert len(plugrun("images", "-q", "-a").stdout.split()) <= 1


def test_the_image_has_been_removed(plugrun, busybox):
    plugrun("create", "--name", "web", busybox, "true").ok()
    plugrun("rmi", "-f", busybox).ok()
    refused = plugrun("commit", "web", "result")
    assert refused.code == 1
    assert "has been removed" in refused.stderr
    assert plugrun("images", "-q").ok().stdout == ""


def test_a_blob_of_the_image_is_missing(plugrun, busybox):
    plugrun("run", "--name", "web", busybox, "touch", "/x").ok()
    largest = max((plugrun.roots.root / "images/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    largest.unlink()
    refused = plugrun("commit", "web", "result")
    assert refused.code == 1
    assert "missing from the image store" in refused.stderr
    assert leftovers(plugrun) == []


BOMB = """
import os, sys
from pathlib import Path
from plugrun.engine import Engine
from plugrun.images import layer_tar
from plugrun.images.commit import CommitOptions
from plugrun.images.ingest import Ingest
from plugrun.lifecycle.commit import commit
from plugrun.paths import Paths

where, root, run_root = sys.argv[1:]
engine = Engine(Paths(Path(root), Path(run_root)))
die = lambda *_, **__: os._exit(9)
if where == "layer":
    layer_tar.write = die
elif where == "publish":
    Ingest.publish = die
elif where == "changes":
    driver = engine.storage("overlay", {})
    type(driver).changes = die
commit(engine, engine.containers.find("web"), CommitOptions(reference="result"))
"""


@pytest.mark.parametrize("size", [0, 10_000_000], ids=["little", "much"])
@pytest.mark.parametrize("where", ["changes", "layer", "publish"])
def test_killed_half_way(plugrun, busybox, where, size):
    ticking = (
        f"head -c {size} /dev/urandom > /data; touch /new; echo ready; while :; do echo >> /ticks; sleep 0.02; done"
    )
    plugrun("run", "-d", "--name", "web", busybox, "sh", "-c", ticking).ok()
    until(lambda: "ready" in plugrun("logs", "web").stdout)
    roots = plugrun.roots
    done = subprocess.run(
        [sys.executable, "-c", BOMB, where, str(roots.root), str(roots.run_root)], check=False, timeout=60
    )
    assert done.returncode == 9
    assert leftovers(plugrun)  # or the test proves nothing
    assert plugrun("images", "-q", "result").stdout == ""
    plugrun("image", "prune", "-f").ok()
    assert leftovers(plugrun) == []

    def ticks():
        return len(plugrun("exec", "web", "cat", "/ticks").ok().stdout)

    before = ticks()
    until(lambda: ticks() > before)  # and it goes on
    plugrun("commit", "web", "result").ok()
    assert plugrun("run", "--rm", "result", "ls", "/new").ok().line == "/new"
    assert leftovers(plugrun) == []


def test_a_full_disk(private_root, file_system, busybox_archive):
    from fixtures.engine import Cli

    file_system("ext4", private_root.root, size=16 << 20)
    plugrun = Cli(private_root)
    try:
        plugrun("load", "-i", str(busybox_archive)).ok()
        plugrun("run", "--name", "web", "busybox", "sh", "-c", "head -c 3000000 /dev/urandom > /data").ok()
        before = plugrun("images", "-q").ok().stdout
        subprocess.run(
            ["fallocate", "-l", f"{free(private_root.root) - (1 << 20)}", private_root.root / "ballast"], check=True
        )
        refused = plugrun("commit", "web", "result")
        assert refused.code == 1
        assert "No space left on device" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert leftovers(plugrun) == []
        assert plugrun("images", "-q").ok().stdout == before
        (private_root.root / "ballast").unlink()
        plugrun("commit", "web", "result").ok()
    finally:
        plugrun.remove_all()


def free(path):
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
