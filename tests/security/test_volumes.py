"""What volumes must not give away: the host, by links, by mounts below, by names; and each other's contents."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from security.images import link

pytestmark = pytest.mark.root


def run(plugrun, *arguments, **options):
    return plugrun("run", "--rm", "--net", "none", *arguments, **options)


def mountpoint(plugrun, name):
    return Path(plugrun("volume", "inspect", "-f", "{{.Mountpoint}}", name).ok().line)


# --- Names --------------------------------------------------------------------------------------------------------


NAMES = ["../x", "..", ".", "a/b", "/x", "x", "-x", "a\nb", "ab\n", "a b", "a\x1b[2J", "ü2", "", "a" * 129]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_could_be_paths_or_move_the_cursor(plugrun, busybox, name):
    for arguments in (("volume", "create", "--", name), ("run", "--mount", f'"src={name}",dst=/x', busybox, "true")):
        result = plugrun(*arguments)
        assert result.code == (1 if arguments[0] == "volume" else 125), arguments
        assert result.stderr.count("\n") == 1
        assert result.stderr.rstrip("\n").isprintable()
    for command in ("rm", "inspect", "clone"):
        result = plugrun("volume", command, "--", *[name, "new"][: 2 if command == "clone" else 1])
        assert result.code in {1, 125}
        assert result.stderr.rstrip("\n").isprintable()
    assert plugrun("volume", "ls", "-q").ok().stdout == ""


# --- Links --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/run/canary", "../../run/canary", "/proc/self/root/run/canary"])
def test_copy_up_of_a_volume_of_the_image_behind_a_link(plugrun, canary, evil, target):
    """As CVE-2022-23648: what the host has there must not come into the volume."""
    image = evil({"v": link(target), "run": None, "run/mine": b"mine\n"}, Volumes={"/v": {}})
    plugrun("create", "--net", "none", "--name", "web", image, "true").ok()
    plugrun("start", "-a", "web")
    [volume] = plugrun("volume", "ls", "-q").ok().stdout.split()
    assert not {"passwd", "hosts"} & set(os.listdir(mountpoint(plugrun, volume)))


@pytest.mark.parametrize("place", ["/", "//", "/..", "data", "../x", ""])
def test_volumes_of_images_in_no_place(plugrun, evil, place):
    image = evil({}, Volumes={place: {}}, Cmd=["true"])
    result = run(plugrun, image)
    assert result.code == 125
    assert "where none can be" in result.stderr
    assert plugrun("ps", "-aq").ok().stdout == ""


def test_a_volume_of_an_image_over_what_is_the_kernels(plugrun, evil):
    for place in ("/proc", "/sys/../proc", "/dev"):
        result = run(plugrun, evil({}, Volumes={place: {}}, Cmd=["true"]))
        assert result.code == 125
        assert "is the kernel's" in result.stderr
    assert plugrun("volume", "ls", "-q").ok().stdout == ""  # with --rm they go too


@pytest.mark.parametrize("target", ["/run/canary", "../../../../../../../../run/canary"])
def test_a_part_of_a_volume_is_found_inside_of_it(plugrun, busybox, canary, target):
    run(plugrun, "-v", "data:/x", busybox, "ln", "-s", target, "/x/part").ok()
    result = run(plugrun, "--mount", "src=data,dst=/y,volume-subpath=part", busybox, "ls", "/y")
    assert result.code == 125
    assert "volume data has no 'part'" in result.stderr


def swapping(place, canary, stop):
    """Let ``part`` be a directory and a link to the host by turns, as fast as it goes; leaves the directory."""
    (place / "part").mkdir()
    (place / "part" / "mine").touch()
    (place / "evil").symlink_to(canary)
    while not stop.is_set():
        os.rename(place / "part", place / "kept")
        os.rename(place / "evil", place / "part")
        os.rename(place / "part", place / "evil")
        os.rename(place / "kept", place / "part")


def test_a_neighbour_cannot_swap_the_part_for_a_link(plugrun, busybox, canary):
    """As CVE-2021-25741. By the path, which is the control, the host is reached soon; the engine never gets there."""
    plugrun("volume", "create", "data").ok()
    place = mountpoint(plugrun, "data")
    stop = threading.Event()
    attacker = threading.Thread(target=swapping, args=(place, canary, stop))
    attacker.start()
    try:
        reached = 0
        for _ in range(200_000):
            try:
                reached += "passwd" in os.listdir(place / "part")
            except OSError:
                continue
            if reached:
                break
        assert reached, "the control must win the race"
        for _ in range(15):
            result = run(plugrun, "--mount", "src=data,dst=/y,volume-subpath=part", busybox, "ls", "/y")
            assert result.stdout in {"", "mine\n"}
            assert "passwd" not in result.stdout
    finally:
        stop.set()
        attacker.join()


# --- Mounts -------------------------------------------------------------------------------------------------------


def test_read_only_is_so_below_every_mount_of_the_host(plugrun, busybox, tmp_path):
    """``-v /:/h:ro``, with a file system mounted below."""
    below = tmp_path / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    try:
        (below / "file").touch()
        result = run(plugrun, "-v", "/:/h:ro", busybox, "sh", "-c", f"ls /h{below}; echo > /h{below}/new")
        assert result.stdout == "file\n"
        assert "Read-only file system" in result.stderr
        assert os.listdir(below) == ["file"]
        run(plugrun, "-v", "/:/h", busybox, "sh", "-c", f"echo > /h{below}/new").ok()  # the control
        assert (below / "new").exists()
    finally:
        subprocess.run(["umount", below], check=True)


def test_what_a_container_mounts_in_a_volume_stays_in_it(plugrun, busybox):
    plugrun("run", "-d", "--net", "none", "--name", "web", "-v", "data:/x", busybox, "sleep", "1000").ok()
    before = Path("/proc/self/mountinfo").read_text()
    script = "mkdir /x/m && mount -t tmpfs tmpfs /x/m && touch /x/m/inside && ls /x/m"
    assert run(plugrun, "--privileged", "-v", "data:/x", busybox, "sh", "-c", script).ok().stdout == "inside\n"
    assert Path("/proc/self/mountinfo").read_text() == before
    assert plugrun("exec", "web", "ls", "/x/m").ok().stdout == ""


def test_an_image_that_is_mounted_cannot_be_changed(plugrun, busybox):
    script = "mount -o remount,rw /y; mount -o remount,bind,rw /y; touch /y/new; chmod 777 /y"
    run(plugrun, "--privileged", "--mount", f"type=image,src={busybox},dst=/y", busybox, "sh", "-c", script)
    again = run(plugrun, "--mount", f"type=image,src={busybox},dst=/y", busybox, "ls", "/y").ok()
    assert "new" not in again.stdout.split()


def test_a_container_without_the_right_cannot_make_its_volume_writable(plugrun, busybox):
    script = "mount -o remount,rw /x; touch /x/new"
    result = run(plugrun, "-v", "data:/x:ro", busybox, "sh", "-c", script)
    assert result.code != 0
    assert os.listdir(mountpoint(plugrun, "data")) == []


def test_nobody_but_root_reaches_volumes_on_the_host(plugrun, busybox):
    run(plugrun, "-v", "data:/x", busybox, "sh", "-c", "cp /bin/busybox /x/su && chmod 4755 /x/su").ok()
    file = mountpoint(plugrun, "data") / "su"
    assert file.stat().st_mode & 0o4000
    seen = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", "test", "-e", file], check=False)
    assert seen.returncode == 1


def test_nothing_is_mounted_any_more_afterwards(plugrun, busybox):
    mounts = ["-v", "data:/x", "-v", "/y", "--mount", f"type=image,src={busybox},dst=/z"]
    plugrun("run", "-d", "--net", "none", "--name", "web", *mounts, busybox, "sleep", "1000").ok()
    where = str(plugrun.roots.run_root)
    assert Path("/proc/self/mountinfo").read_text().count(where) == 5  # the control, with the root and the network
    plugrun("rm", "-f", "web").ok()
    assert where not in Path("/proc/self/mountinfo").read_text()
    rows = map(json.loads, plugrun("system", "df", "--format", "json").ok().stdout.splitlines())
    assert {row["Type"]: row["TotalCount"] for row in rows}["Local Volumes"] == "2"
