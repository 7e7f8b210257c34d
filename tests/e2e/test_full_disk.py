"""A full disk, a read-only one: one clear line each, a way out by removing things, and all works again afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess

import pytest

from e2e.refusals import assert_refused, containers, files, nothing_made
from fixtures.engine import Cli, Roots
from images import archives
from images.archives import Parts

pytestmark = pytest.mark.root

FULL = "No space left on device"


class Disk:
    """A small file system of its own, with an engine on it."""

    def __init__(self, point, run_root):
        self.point = point
        self.plugrun = Cli(Roots(point / "root", run_root))
        self.ballast = point / "ballast"

    def fill(self, *, leave=0):
        """Write until nothing goes in any more, then give ``leave`` bytes back."""
        with open(self.ballast, "ab", buffering=0) as stream:
            for size in (1 << 20, 4096, 512):
                with contextlib.suppress(OSError):
                    while stream.write(bytes(size)):
                        pass
            os.fsync(stream.fileno())
        os.truncate(self.ballast, self.ballast.stat().st_size - leave)

    def free(self):
        self.ballast.unlink()

    def remount(self, how):
        subprocess.run(["mount", "-o", f"remount,{how}", self.point], check=True)


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, private_root, tmp_path):
    point = tmp_path / "disk"
    point.mkdir()
    if request.param == "ext4":
        (tmp_path / "blocks").touch()
        os.truncate(tmp_path / "blocks", 12 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", tmp_path / "blocks"], check=True)
        subprocess.run(["mount", "-o", "loop", tmp_path / "blocks", point], check=True)
    else:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", point], check=True)
    made = Disk(point, private_root.run_root)
    yield made
    made.remount("rw")
    made.ballast.unlink(missing_ok=True)
    made.plugrun.remove_all()
    subprocess.run(["umount", point], check=True)


def test_a_load_that_does_not_fit(disk, busybox_archive):
    disk.plugrun("images").ok()
    disk.plugrun("ps").ok()
    for leave in (0, 1 << 20):  # not even a directory, and a part of it
        disk.fill(leave=leave)
        assert_refused(disk.plugrun("load", "-i", str(busybox_archive)), 1, "cannot write to the image store", FULL)
        found = [path for path in files(disk.plugrun.roots.root) if path.startswith("images/")]
        assert not [path for path in found if path.endswith(".new") or "ingest/" in path.removesuffix("ingest/lock")]
        assert not [path for path in found if "blobs/sha256/" in path]
        assert disk.plugrun("images", "-q").ok().stdout == ""
    disk.free()
    disk.plugrun("load", "-i", str(busybox_archive)).ok()
    assert disk.plugrun("run", "--rm", "busybox", "echo", "hello").ok().line == "hello"


def test_a_pull_that_does_not_fit(disk, plain_registry):
    """With no room at all, with room for a part of a blob, and with room for the blob alone."""
    noise = random.Random(1).randbytes(3 << 20)
    parts = Parts(layers=[archives.layer({"small": b"s"}), archives.layer({"noise": noise})], config={"config": {}})
    place = disk.point.parent / "layout.tar"
    plugrun, name = disk.plugrun, plain_registry.name("full/disk:1")
    plain_registry.push(f"oci-archive:{archives.write_tar(place, parts.oci())}", "full/disk:1")
    plugrun("images").ok()
    plugrun("ps").ok()
    for leave in (0, 1 << 20, 4 << 20):
        disk.fill(leave=leave)
        refused = plugrun("pull", "-q", name)
        # With no room at all, there is none for the driver's directory either.
        assert_refused(refused, 1, *([f"cannot pull {name}"] if leave else []), "o space left")
        found = [path for path in files(plugrun.roots.root) if path.startswith("images/")]
        assert not [path for path in found if "blobs/sha256/" in path or "ingest/" in path.removesuffix("ingest/lock")]
        assert not [path for path in files(plugrun.roots.root) if "staging-" in path]
        assert plugrun("images", "-q").ok().stdout == ""
        disk.free()
        plugrun("image", "prune", "-f").ok()
    plugrun("pull", "-q", name).ok()
    plugrun("create", "--pull", "never", name, "true").ok()


@pytest.mark.parametrize("command", ["run", "create"])
def test_an_image_that_does_not_fit_unpacked(disk, busybox_archive, command):
    plugrun = disk.plugrun
    plugrun("load", "-i", str(busybox_archive)).ok()
    disk.fill(leave=1 << 20)
    refused = plugrun(command, "busybox", "true")  # makes the driver's directories
    with nothing_made(plugrun):
        assert_refused(refused, 125, "no space left", "free some space there")
        assert plugrun(command, "busybox", "true").stderr == refused.stderr
    assert not [path for path in files(plugrun.roots.root) if "staging-" in path or path.startswith("locks/layer-")]
    assert plugrun("rmi", "busybox").ok().stdout.startswith("Untagged: busybox:latest\nDeleted: ")
    disk.free()
    plugrun("load", "-i", str(busybox_archive)).ok()
    assert plugrun("run", "--rm", "busybox", "echo", "hello").ok().line == "hello"


def test_a_full_disk_can_be_looked_at_and_emptied(disk, busybox_archive, tmp_path):
    plugrun = disk.plugrun
    plugrun("load", "-i", str(busybox_archive)).ok()
    plugrun("create", "--name", "made", "busybox", "true").ok()
    plugrun("run", "--name", "ended", "busybox", "echo", "hello").ok()
    plugrun("run", "-d", "--name", "running", "busybox", "sleep", "1000").ok()
    disk.fill()
    with nothing_made(plugrun):
        assert_refused(plugrun("run", "--rm", "busybox", "true"), 125, FULL)
        small = archives.write_tar(tmp_path / "small.tar", Parts().docker())
        assert_refused(plugrun("load", "-i", small), 1, FULL)  # what is held back for records is not for images
    assert_refused(plugrun("start", "made"), 1, FULL)
    assert not [path for path in files(plugrun.roots.root) if path.endswith(".new")]
    assert len(plugrun("ps", "-aq").ok().stdout.split()) == 3
    assert not (plugrun.roots.root / "state.db-wal").exists()  # there was room to finish
    assert plugrun("logs", "ended").ok().line == "hello"
    assert plugrun("exec", "running", "echo", "alive").ok().line == "alive"
    plugrun("stop", "-t", "0", "running").ok()
    assert plugrun("inspect", "-f", "{{.State.ExitCode}}", "running").ok().line == "137"
    plugrun("rm", "made", "ended", "running").ok()
    plugrun("rmi", "busybox").ok()
    assert containers(plugrun.roots.root / "state.db") == []
    assert os.listdir(plugrun.roots.root / "containers") == []
    assert os.listdir(plugrun.roots.run_root / "locks") == []
    disk.free()
    plugrun("load", "-i", str(busybox_archive)).ok()
    assert plugrun("run", "--rm", "busybox", "echo", "hello").ok().line == "hello"


def test_a_disk_full_from_the_beginning(disk, busybox_archive):
    plugrun = disk.plugrun
    disk.fill()
    for arguments, code in ((["ps"], 1), (["run", "busybox"], 125), (["load", "-i", str(busybox_archive)], 1)):
        assert_refused(plugrun(*arguments), code)
    disk.free()
    plugrun("load", "-i", str(busybox_archive)).ok()
    assert plugrun("run", "--rm", "busybox", "echo", "hello").ok().line == "hello"


def test_a_read_only_disk(disk, busybox_archive):
    plugrun = disk.plugrun
    disk.remount("ro")
    for arguments, code in ((["ps"], 1), (["run", "busybox"], 125), (["load", "-i", str(busybox_archive)], 1)):
        assert_refused(plugrun(*arguments), code, "Read-only file system", "--root")
    disk.remount("rw")
    plugrun("load", "-i", str(busybox_archive)).ok()
    plugrun("create", "--name", "web", "busybox", "echo", "hello").ok()
    disk.remount("ro")
    for arguments, code in (
        (["ps", "-a"], 1),
        (["run", "--rm", "busybox", "true"], 125),
        (["create", "busybox", "true"], 125),
        (["start", "web"], 1),
        (["rm", "web"], 1),
        (["rmi", "-f", "busybox"], 1),
        (["load", "-i", str(busybox_archive)], 1),
    ):
        assert_refused(plugrun(*arguments), code)
    assert plugrun("images", "-q").ok().stdout
    doctor = plugrun("doctor")
    assert (doctor.code, doctor.stderr) == (1, "")
    assert "cannot be used" in doctor.stdout
    disk.remount("rw")
    assert plugrun("start", "-a", "web").ok().line == "hello"
    plugrun("rm", "web").ok()
