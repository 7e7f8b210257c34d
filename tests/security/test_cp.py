"""Hostile containers while they are copied from and to.

A container exchanges a directory with a link to the host's files as fast as the kernel can (CVE-2018-15664,
CVE-2026-41568), with a volume below. Each race has a positive control: the same copy done by paths, with a check
before, loses it.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import trees
from plugrun.copying import copy as copying
from plugrun.copying import paths
from plugrun.engine import Engine
from plugrun.errors import PlugrunError
from plugrun.paths import Paths

pytestmark = pytest.mark.root

ROUNDS = 300
NAIVE_ROUNDS = 20_000
INSIDE, HOST = "inside", "a secret of the host"


@pytest.fixture(scope="session")
def racer(tmp_path_factory):
    """A static program that exchanges two names for ever."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc to build the race")
    program = tmp_path_factory.mktemp("race") / "race"
    source = Path(__file__).with_name("race.c")
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", program, source], check=True)
    return program


@pytest.fixture
def victim(tmp_path):
    """What of the host the container is after."""
    (tmp_path / "victim/vol").mkdir(parents=True)
    for name in ("secret", "vol/secret"):
        (tmp_path / "victim" / name).write_text(HOST)
    return tmp_path / "victim"


@pytest.fixture
def race(plugrun, busybox, racer, victim, tmp_path, private_root):
    """An engine, and a running container whose /r/dir is now a directory, now a link to the victim."""
    (tmp_path / "vol").mkdir()
    (tmp_path / "vol/secret").write_text(INSIDE)
    script = 'mkdir -p /r/dir && echo -n inside > /r/dir/secret && ln -s "$0" /r/link && exec /race /r/dir /r/link'
    mounts = ("-v", f"{racer}:/race:ro", "-v", f"{tmp_path}/vol:/r/dir/vol")
    plugrun("run", "-d", "--name", "web", "--net", "none", *mounts, busybox, "sh", "-c", script, str(victim)).ok()
    engine = Engine(Paths(private_root.root, private_root.run_root), warn=lambda message: None)
    with contextlib.closing(engine):
        root = Path(f"/proc/{engine.containers.find('web').pid}/root/r")
        wait_for_race(root)
        yield engine, root


def wait_for_race(root):
    seen = set()
    while len(seen) < 2:
        seen.add((root / "dir").is_symlink())


def attempt(engine, source, destination, write=None):
    """Copy once; losing a name to the race is an error, and fine."""
    sides = paths.sides(str(source), str(destination))
    try:
        copying.copy(engine, *sides, copying.Options(), copying.Progress(tell=lambda: None), write=write)
    except PlugrunError:
        return False
    return True


def naive(root, act):
    """Check, then use the path: what the copies here must not do."""
    for _ in range(NAIVE_ROUNDS):
        if not (root / "dir").is_symlink():
            with contextlib.suppress(OSError):
                if act(root / "dir"):
                    return True
    return False


PLACES = ["dir/secret", "dir/vol/secret"]


@pytest.mark.parametrize("place", PLACES)
def test_a_race_while_copying_out(race, tmp_path, place):
    engine, _ = race
    won = 0
    for _ in range(ROUNDS):
        if attempt(engine, f"web:/r/{place}", tmp_path / "out"):
            won += 1
            assert (tmp_path / "out").read_text() == INSIDE
    assert won  # else nothing was raced for


@pytest.mark.parametrize("name", ["secret", "vol/secret"])
def test_a_naive_copy_out_loses_it(race, name):
    assert naive(race[1], lambda directory: (directory / name).read_text() == HOST)


def test_a_race_while_copying_a_tree_out(race, tmp_path):
    engine, _ = race
    won = 0
    for number in range(ROUNDS):
        out = tmp_path / f"out{number}"
        if attempt(engine, "web:/r", out):
            found = [path.read_text() for path in out.rglob("*") if path.is_file() and not path.is_symlink()]
            assert HOST not in found
            won += INSIDE in found
        shutil.rmtree(out, ignore_errors=True)
    assert won


def test_a_race_while_writing_an_archive(race):
    engine, _ = race
    for _ in range(ROUNDS):
        for source in ("web:/r", "web:/r/dir/", "web:/r/dir/vol"):
            out = io.BytesIO()
            if attempt(engine, source, "-", out.write):
                assert HOST.encode() not in out.getvalue()


@pytest.mark.parametrize("place", ["dir/new", "dir/", "dir/vol/new"])
def test_a_race_while_copying_in(race, tmp_path, victim, place):
    engine, _ = race
    before = trees.survey(victim)
    (tmp_path / "new").write_text("ours")
    won = sum(attempt(engine, tmp_path / "new", f"web:/r/{place}") for _ in range(ROUNDS))
    assert trees.survey(victim) == before
    assert won


def test_a_race_while_copying_a_tree_in(race, tmp_path, victim):
    engine, _ = race
    before = trees.survey(victim)
    (tmp_path / "tree/dir/vol").mkdir(parents=True)
    for name in ("dir/secret", "dir/new", "dir/vol/secret"):
        (tmp_path / "tree" / name).write_text("ours")
    for _ in range(ROUNDS):
        attempt(engine, f"{tmp_path}/tree/.", "web:/r")
    assert trees.survey(victim) == before


def test_a_race_while_an_archive_is_read(race, tmp_path, victim, monkeypatch):
    engine, _ = race
    before = trees.survey(victim)
    with tarfile.open(tmp_path / "archive", "w") as archive:
        for name in ("dir/new", "dir/secret", "dir/vol/new", "link/new"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"ours"))
    for _ in range(ROUNDS):
        with (tmp_path / "archive").open("rb") as stream:
            monkeypatch.setattr(copying, "STDIN", stream.fileno())
            attempt(engine, "-", "web:/r")
    assert trees.survey(victim) == before


@pytest.mark.parametrize("name", ["new", "vol/new"])
def test_a_naive_copy_in_loses_it(race, victim, name):
    def act(directory):
        (directory / name).write_text("ours")
        return (victim / name).exists()

    assert naive(race[1], act)


# --- code of the container -----------------------------------------------------------------------------------------

MARKER = Path("/run/marker")
PROGRAMS = ("tar", "xz", "gzip", "zstd", "unpigz", "cp", "sh-host", "ld.so")
LIBRARIES = ("libnss_files.so.2", "libnss_evil.so.2", "libc.so.6", "libz.so.1")
LIBRARY_PATHS = ("lib", "lib64", "usr/lib", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu")
MODULES = ("pwd", "grp", "encodings/idna", "encodings/__init__", "tarfile", "sitecustomize", "plugrun/__init__")


@pytest.fixture
def marked(plugrun, busybox, tmp_path):
    """A container full of code that leaves a marker on whatever machine runs it; the marker."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc to build a library")
    tree = tmp_path / "evil"
    library = tmp_path / "evil.so"
    source = Path(__file__).with_name("marker.c")
    subprocess.run(["gcc", "-shared", "-fPIC", f'-DMARKER="{MARKER}"', "-o", library, source], check=True)
    for directory in LIBRARY_PATHS:
        (tree / directory).mkdir(parents=True, exist_ok=True)
        for name in LIBRARIES:
            shutil.copy(library, tree / directory / name)
    (tree / "etc").mkdir()
    (tree / "etc/nsswitch.conf").write_text("passwd: evil files\ngroup: evil files\nhosts: evil\n")
    (tree / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (tree / "usr/bin").mkdir(parents=True)
    for name in PROGRAMS:
        (tree / "usr/bin" / name).write_text(f"#!/bin/sh\n: > {MARKER}\n")
        (tree / "usr/bin" / name).chmod(0o755)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for place in (f"usr/lib/{version}", f"usr/local/lib/{version}", os.path.dirname(os.__file__).lstrip("/")):
        for name in MODULES:
            path = tree / place / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"open({str(MARKER)!r}, 'w').close()\n")
    plugrun("create", "--name", "web", "--net", "none", busybox, "sleep", "1000").ok()
    plugrun("cp", f"{tree}/.", "web:/").ok()
    yield tree
    MARKER.unlink(missing_ok=True)


@pytest.mark.parametrize("state", ["created", "running"])
def test_no_code_of_the_container_runs(plugrun, marked, tmp_path, state):
    if state == "running":
        plugrun("start", "web").ok()
    archive = subprocess.run(["tar", "cz", "-C", marked, "etc"], stdout=subprocess.PIPE, check=True).stdout
    plugrun("cp", "web:/etc", str(tmp_path / "out")).ok()
    plugrun("cp", "-a", "web:/usr", str(tmp_path / "usr")).ok()
    plugrun("cp", "-a", "-", "web:/tmp", input=archive).ok()
    plugrun("cp", "-a", str(marked), "web:/tmp").ok()
    plugrun("cp", "web:/", "-").ok()
    assert not MARKER.exists()


def test_that_code_would_leave_a_marker(marked):
    commands = [
        [str(marked / "usr/bin/tar")],
        [sys.executable, "-c", f"import ctypes; ctypes.CDLL('{marked}/lib/libnss_files.so.2')"],
        [sys.executable, "-c", f"import runpy; runpy.run_path('{marked}/usr/lib/python3.11/tarfile.py')"]
        if (marked / "usr/lib/python3.11").exists()
        else [str(marked / "usr/bin/xz")],
    ]
    for command in commands:
        subprocess.run(command, check=True)
        assert MARKER.exists()
        MARKER.unlink()


def test_a_copy_changes_no_root_and_enters_no_namespace(plugrun, busybox, tmp_path):
    """Seen from outside: chroot(2), setns(2), unshare(2) and execve(2) of anything are absent."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    plugrun("run", "-d", "--name", "web", "--net", "none", busybox, "sleep", "1000").ok()
    log = tmp_path / "calls"
    calls = "trace=chroot,pivot_root,setns,unshare,execve,openat,mkdir,mkdirat"
    for arguments in (("web:/etc", str(tmp_path / "out")), (str(tmp_path / "out"), "web:/tmp")):
        command = ["strace", "-f", "-o", log, "-e", calls, *plugrun.argv("cp", *arguments)]
        subprocess.run(command, check=True, timeout=120)
        lines = [line for line in log.read_text().splitlines() if "+++" not in line and "---" not in line]
        found = [
            line for line in lines if any(f"{name}(" in line for name in ("chroot", "pivot_root", "setns", "unshare"))
        ]
        assert found == []
        assert sum("execve(" in line for line in lines) == 1  # plugrun itself
        made = [line for line in lines if "O_CREAT" in line or "mkdir" in line]
        assert [line for line in made if '"/tmp/' in line and str(tmp_path) not in line] == []
