"""One container's life with everything that can be done to what it has written, the same on every storage driver."""

from __future__ import annotations

import io
import tarfile

import pytest

pytestmark = pytest.mark.root

OTHER = {"overlay": "btrfs", "btrfs": "overlay"}


@pytest.fixture
def other(storage, plugrun):
    """Another storage driver, made to work in the same engine."""
    name = OTHER[storage]
    if name == "btrfs":
        plugrun("storage", "create", name, "--size", "512M").ok()
        yield name
        plugrun.remove_all()
        plugrun("storage", "rm", name).ok()
    else:
        yield name


def test_the_whole_story(storage, plugrun, busybox, other, tmp_path):
    def inside(name, *command):
        return plugrun("exec", name, *command).ok().stdout

    # run and write
    run = ("run", "-d", "--name", "web", "--net", "none", busybox)
    plugrun("--storage", storage, *run, "sh", "-c", "echo one > /data; rm /bin/vi; trap : TERM; sleep 1000 & wait").ok()
    plugrun("exec", "web", "sh", "-c", "until [ -e /data ]; do sleep 0.01; done; mkdir /srv; echo two > /srv/page").ok()

    # commit, and run the result
    plugrun("commit", "-m", "written", "web", "site:v1").ok()
    look = plugrun(
        "--storage", storage, "run", "--rm", "--net", "none", "site:v1", "sh", "-c", "cat /data /srv/page; ls /bin/vi"
    )
    assert look.stdout == "one\ntwo\n"
    assert look.code != 0, "what was deleted is there again"

    # diff
    changes = plugrun("diff", "web").ok().stdout.splitlines()
    assert {"A /data", "A /srv", "A /srv/page", "C /bin", "D /bin/vi"} <= set(changes)
    assert not [line for line in changes if line.endswith("/bin/sh")]

    # cp, in and out
    (tmp_path / "new").write_text("three")
    plugrun("cp", str(tmp_path / "new"), "web:/srv/new").ok()
    plugrun("cp", "web:/srv", str(tmp_path / "out")).ok()
    assert (tmp_path / "out" / "new").read_text() == "three"
    assert (tmp_path / "out" / "page").read_text() == "two\n"

    # export
    plugrun("export", "-o", str(tmp_path / "all.tar"), "web").ok()
    with tarfile.open(tmp_path / "all.tar") as archive:
        names = set(archive.getnames())
        assert archive.extractfile("srv/page").read() == b"two\n"
    assert {"data", "srv/new", "bin/sh"} <= names
    assert "bin/vi" not in names

    # snapshot, and rollback
    plugrun("snapshot", "create", "web", "good").ok()
    plugrun("exec", "web", "sh", "-c", "rm -r /srv; echo bad > /data").ok()
    assert plugrun("rollback", "web", "good").code != 0, "it runs"
    plugrun("rollback", "--stop", "web", "good").ok()
    plugrun("start", "web").ok()
    assert inside("web", "cat", "/srv/new") == "three"
    assert "good" in plugrun("snapshot", "ls", "web").ok().stdout

    # clone: two branches of one past
    plugrun("clone", "--start", "web", "branch").ok()
    plugrun("exec", "branch", "sh", "-c", "echo branched > /srv/page").ok()
    assert inside("web", "cat", "/srv/page") == "two\n"
    assert inside("branch", "cat", "/srv/page") == "branched\n"

    # move there and back
    plugrun("stop", "-t", "1", "web").ok()
    for target in (other, storage):
        plugrun("move", "web", "--storage", target).ok()
        assert f'"Driver": "{target}"' in plugrun("inspect", "web").ok().stdout
        plugrun("start", "web").ok()
        assert inside("web", "cat", "/srv/page") == "two\n"
        assert plugrun("exec", "web", "ls", "/bin/vi").code != 0
        plugrun("stop", "-t", "1", "web").ok()
    assert "good" in plugrun("snapshot", "ls", "web").ok().stdout

    # rm: not what would be lost unasked, and then everything
    refused = plugrun("rm", "web")
    assert refused.code != 0
    assert "good" in refused.stderr
    plugrun("snapshot", "rm", "web", "good").ok()
    plugrun("rm", "web").ok()
    plugrun("rm", "-f", "branch").ok()
    plugrun("rmi", "site:v1", busybox).ok()
    assert plugrun("ps", "-aq").ok().stdout == ""
    left = plugrun("system", "df", "--format", "{{.Type}} {{.TotalCount}}").ok().stdout.splitlines()
    assert {line.rpartition(" ")[2] for line in left} == {"0"}


def test_a_stream_of_tar_goes_in_and_comes_out(storage, plugrun, busybox):
    plugrun("--storage", storage, "create", "--name", "web", "--net", "none", busybox, "true").ok()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        entry = tarfile.TarInfo("sub/file")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"text"))
    plugrun("cp", "-", "web:/tmp", input=content.getvalue()).ok()
    plugrun("start", "web").ok()
    assert "sub/file" in plugrun("cp", "web:/tmp/.", "-").ok().stdout
