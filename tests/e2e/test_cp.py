"""``plugrun cp`` on real containers, running and not: Docker's table, both ways, and everything that can be wrong."""

from __future__ import annotations

import gzip
import io
import os
import sqlite3
import stat
import subprocess
import tarfile
import threading
from contextlib import closing
from pathlib import Path

import pytest

from fixtures.tools import needs_podman
from terminals import Terminal, until

pytestmark = pytest.mark.root

STATES = ("running", "stopped", "created")


def make_box(plugrun, image, state, *options, name="web"):
    plugrun("create", "--name", name, "--net", "none", *options, image, "sleep", "1000").ok()
    if state != "created":
        plugrun("start", name).ok()
    if state == "stopped":
        plugrun("kill", name).ok()
        plugrun("wait", name).ok()
    return name


@pytest.fixture(params=STATES)
def state(request):
    return request.param


@pytest.fixture
def box(plugrun, busybox, state):
    """A container that runs, has run, or never did."""
    return make_box(plugrun, busybox, state)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory for paths of the host."""
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def content(plugrun, path):
    """What a container has at a path: the names below a directory, with the bytes of files."""
    out = subprocess.run(plugrun.argv("cp", path, "-"), capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        return {m.name: archive.extractfile(m).read() if m.isreg() else m.type for m in archive}


def test_both_ways_on_every_driver(storage, plugrun, busybox, here, state):
    make_box(plugrun, busybox, state, "--storage", storage)
    (here / "d/e").mkdir(parents=True)
    (here / "d/e/f").write_text("content")
    (here / "d/hard").hardlink_to(here / "d/e/f")
    (here / "d/link").symlink_to("e/f")
    plugrun("cp", "d", "web:/tmp").ok()
    plugrun("cp", "web:/tmp/d", "back").ok()
    assert (here / "back/e/f").read_text() == "content"
    assert (here / "back/hard").stat().st_ino == (here / "back/e/f").stat().st_ino
    assert os.readlink(here / "back/link") == "e/f"
    if state != "running":
        plugrun("start", "web").ok()
    assert plugrun("exec", "web", "cat", "/tmp/d/link").ok().stdout == "content"


# docs.docker.com/reference/cli/docker/container/cp, in its order: what is where afterwards; None for an error.
TABLE = [
    ("file", "nothing", {"nothing": "f"}),
    ("file", "nothing/", None),
    ("file", "old", {"old": "f"}),
    ("file", "dir", {"dir/file": "f"}),
    ("file", "dir/", {"dir/file": "f"}),
    ("file", "no/such", None),
    ("file", "old/", None),
    ("file/", "nothing", None),
    ("file/.", "nothing", None),
    ("tree", "nothing", {"nothing/in": "i"}),
    ("tree", "nothing/", {"nothing/in": "i"}),
    ("tree", "old", None),
    ("tree", "dir", {"dir/tree/in": "i"}),
    ("tree/", "dir", {"dir/tree/in": "i"}),
    ("tree/.", "dir", {"dir/in": "i"}),
    ("tree/.", "nothing", {"nothing/in": "i"}),
    ("tree", "no/such", None),
    ("no", "nothing", None),
    ("link", "nothing", {"nothing": "->file"}),
    ("file", "to-dir", {"dir/file": "f"}),
    ("file", "to-old", {"old": "f"}),
]
PODMAN_DIFFERS = {
    ("tree", "nothing/"),
    ("tree/", "dir"),
    ("link", "nothing"),
    ("file", "nothing/"),
    ("file/.", "nothing"),
    ("file/", "nothing"),
}


def sources(root):
    (root / "tree").mkdir(parents=True)
    (root / "tree/in").write_text("i")
    (root / "file").write_text("f")
    (root / "link").symlink_to("file")


def destinations(root):
    (root / "dir").mkdir(parents=True)
    (root / "old").write_text("old")
    (root / "to-dir").symlink_to("dir")
    (root / "to-old").symlink_to("old")


def files(root):
    return {
        str(path.relative_to(root)): f"->{os.readlink(path)}" if path.is_symlink() else path.read_text()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def expected(changes):
    start = {"old": "old", "to-dir": "->dir", "to-old": "->old"}
    return start if changes is None else start | changes


def outcome_in(cp, here, number, row):
    """Copy one row of the table into a container; return whether that went well, and what is there."""
    destinations(here / "fresh")
    assert cp("fresh", f"web:/row{number}") == 0
    code = cp(f"from/{row[0]}", f"web:/row{number}/{row[1]}")
    assert cp(f"web:/row{number}", "result") == 0
    found = files(here / "result")
    subprocess.run(["rm", "-rf", here / "fresh", here / "result"], check=True)
    return code == 0, found


def test_dockers_table_into_a_container(plugrun, busybox, here):
    make_box(plugrun, busybox, "running")
    sources(here / "from")
    for number, row in enumerate(TABLE):
        found = outcome_in(lambda *words: plugrun("cp", *words).code, here, number, row)
        assert found == (row[2] is not None, expected(row[2])), row


def test_dockers_table_out_of_a_container(plugrun, busybox, here):
    make_box(plugrun, busybox, "created")
    sources(here / "from")
    plugrun("cp", "from", "web:/").ok()
    for row in TABLE:
        destinations(here / "to")
        result = plugrun("cp", f"web:/from/{row[0]}", f"to/{row[1]}")
        assert (result.code == 0, files(here / "to")) == (row[2] is not None, expected(row[2])), row
        assert len(result.stderr.splitlines()) == (row[2] is None), result.stderr
        subprocess.run(["rm", "-rf", here / "to"], check=True)


@needs_podman
def test_podman_agrees_where_it_follows_docker(podman, busybox_archive, here):
    podman("load", "-q", "-i", busybox_archive)
    podman("create", "--name", "web", "--net", "none", "busybox", "true")

    def cp(*words):
        try:
            podman("cp", *words)
        except AssertionError:
            return 1
        return 0

    sources(here / "from")
    for number, row in enumerate(TABLE):
        if row[:2] not in PODMAN_DIFFERS:
            assert outcome_in(cp, here, number, row) == (row[2] is not None, expected(row[2])), row


# --- what a copy has of the original -------------------------------------------------------------------------------


def test_owners_are_roots_inside_and_the_callers_outside(plugrun, box, here):
    (here / "f").touch()
    os.chown(here / "f", 1234, 2345)
    os.chmod(here / "f", 0o4755)
    os.utime(here / "f", (1_000_000_000, 1_000_000_000))
    plugrun("cp", "f", "web:/plain").ok()
    plugrun("cp", "-a", "f", "web:/kept").ok()
    inside = {}
    for name in ("plain", "kept"):
        out = subprocess.run(plugrun.argv("cp", f"web:/{name}", "-"), capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(out)) as archive:
            inside[name] = archive.getmember(name)
    assert [(m.uid, m.gid, m.mode, m.mtime) for m in inside.values()] == [
        (0, 0, 0o4755, 1_000_000_000),
        (1234, 2345, 0o4755, 1_000_000_000),
    ]
    plugrun("cp", "web:/kept", "out").ok()
    plugrun("cp", "-a", "web:/kept", "archived").ok()
    out, archived = (here / "out").stat(), (here / "archived").stat()
    assert (out.st_uid, out.st_gid, stat.S_IMODE(out.st_mode)) == (os.geteuid(), os.getegid(), 0o755)
    assert (archived.st_uid, archived.st_gid, stat.S_IMODE(archived.st_mode)) == (1234, 2345, 0o4755)


def test_a_link_at_the_end_is_followed_when_asked(plugrun, box, here):
    sources(here / "from")
    (here / "from/dirlink").symlink_to("tree")
    plugrun("cp", "from", "web:/").ok()
    (here / "empty").mkdir()
    plugrun("cp", "empty", "web:/to").ok()
    (here / "out").mkdir()
    for source, target in (("web:/from/{}", "out/"), ("from/{}", "web:/to/")):
        plugrun("cp", "-L", source.format("link"), target).ok()
        plugrun("cp", "-L", source.format("dirlink"), target).ok()
        plugrun("cp", source.format("dirlink/"), f"{target}slash").ok()
    plugrun("cp", "web:/to", "inside").ok()
    assert files(here / "out") == files(here / "inside") == {"link": "f", "dirlink/in": "i", "slash/in": "i"}


def test_absolute_links_inside_keep_working(plugrun, box, here):
    """What a fix of CVE-2018-15664 once broke: /var/run is a link to /run."""
    (here / "x").write_text("content")
    (here / "var").mkdir()
    (here / "var/run").symlink_to("/run")
    (here / "run").mkdir()
    plugrun("cp", "var/run", "web:/var/run").ok()
    plugrun("cp", "run", "web:/").ok()
    plugrun("cp", "x", "web:/var/run/x").ok()
    assert content(plugrun, "web:/run/x") == {"x": b"content"}
    plugrun("cp", "web:/var/run/x", "out").ok()
    assert (here / "out").read_text() == "content"


@pytest.mark.parametrize("name", ["-rf", "*", "a\nb", "...", " ", "\x1b[2J", "a:b"])
def test_odd_names(plugrun, busybox, here, name):
    make_box(plugrun, busybox, "created")
    (here / "d").mkdir()
    (here / "d" / name).write_text("content")
    plugrun("cp", f"./d/{name}", "web:/").ok()
    plugrun("cp", f"web:{name}", ".").ok()
    assert (here / name).read_text() == "content"
    plugrun("cp", "d/.", "web:/tmp").ok()
    plugrun("cp", "web:/tmp/.", "all").ok()
    assert os.listdir(here / "all") == [name]
    missing = plugrun("cp", f"web:/no/{name}", ".")
    assert missing.code == 1
    assert len(missing.stderr.splitlines()) == 1
    assert "\x1b" not in missing.stderr


# --- archives ------------------------------------------------------------------------------------------------------


def test_archives_both_ways(plugrun, box, here):
    (here / "d").mkdir()
    (here / "d/f").write_text("content")
    os.chown(here / "d/f", 5, 6)
    archive = subprocess.run(["tar", "cz", "d"], stdout=subprocess.PIPE, check=True).stdout
    plugrun("cp", "-", "web:/tmp", input=archive).ok()
    plugrun("cp", "-a", "-", "web:/home", input=archive).ok()
    assert content(plugrun, "web:/tmp/.")["d/f"] == b"content"
    for place, owner in (("tmp", (0, 0)), ("home", (5, 6))):
        out = subprocess.run(plugrun.argv("cp", f"web:/{place}/d/f", "-"), capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(out)) as found:
            assert (found.getmember("f").uid, found.getmember("f").gid) == owner
    for bad in ("web:/no", "web:/tmp/d/f"):
        assert plugrun("cp", "-", bad, input=archive).code == 1


def test_nothing_is_no_archive_but_one_of_nothing_is(plugrun, box):
    for nothing in (b"", gzip.compress(b"")):
        refused = plugrun("cp", "-", "web:/tmp", input=nothing)
        assert (refused.code, refused.stderr.count("\n")) == (1, 1)
        assert "standard input is empty, which is no archive; pipe one into it" in refused.stderr
    for archive in (bytes(1024), gzip.compress(bytes(10240))):
        assert plugrun("cp", "-", "web:/tmp", input=archive).ok().stderr == ""


def test_from_one_container_to_another_in_two_steps(plugrun, busybox, here):
    make_box(plugrun, busybox, "running")
    make_box(plugrun, busybox, "created", name="db")
    refused = plugrun("cp", "web:/etc", "db:/x")
    assert refused.code == 1
    assert "plugrun cp web:/etc - | plugrun cp - db:DIRECTORY" in refused.stderr
    with subprocess.Popen(plugrun.argv("cp", "web:/etc", "-"), stdout=subprocess.PIPE) as first:
        subprocess.run(plugrun.argv("cp", "-", "db:/tmp"), stdin=first.stdout, check=True)
    assert content(plugrun, "db:/tmp/etc").keys() >= {"etc", "etc/passwd"}


def test_a_reader_who_leaves_is_no_error_of_ours(plugrun, busybox):
    make_box(plugrun, busybox, "created")
    with subprocess.Popen(plugrun.argv("cp", "web:/", "-"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""


# --- volumes, read-only things, the kernel's -----------------------------------------------------------------------


def test_volumes_are_seen(plugrun, busybox, here, state):
    for name in ("data", "ro", "nested"):
        (here / name).mkdir()
        (here / name / "old").write_text(name)
    (here / "single").write_text("single")
    make_box(
        plugrun,
        busybox,
        state,
        *("-v", f"{here}/data:/data", "-v", f"{here}/ro:/ro:ro"),
        *("-v", f"{here}/nested:/data/nested", "-v", f"{here}/single:/etc/single"),
    )
    (here / "f").write_text("new")
    assert content(plugrun, "web:/data")["data/nested/old"] == b"nested"
    assert content(plugrun, "web:/etc/single") == {"single": b"single"}
    plugrun("cp", "f", "web:/data/nested/").ok()
    assert (here / "nested/f").read_text() == "new"
    plugrun("cp", "f", "web:/etc/single").ok()
    assert (here / "single").read_text() == "new"
    refused = plugrun("cp", "f", "web:/ro/")
    assert (refused.code, "read-only" in refused.stderr) == (1, True)
    assert os.listdir(here / "ro") == ["old"]
    assert sorted(os.listdir(here / "data")) == ["nested", "old"]


def test_named_volumes_are_seen(plugrun, busybox, here, state):
    fill = "mkdir /x/sub; echo part > /x/sub/old; echo old > /x/old"
    plugrun("run", "--rm", "--net", "none", "-v", "data:/x", busybox, "sh", "-c", fill).ok()
    part = "src=data,dst=/data/nested,volume-subpath=sub"
    image = f"type=image,src={busybox},dst=/image"
    make_box(plugrun, busybox, state, "-v", "data:/data", "-v", "data:/ro:ro", "--mount", part, "--mount", image)
    (here / "f").write_text("new")
    found = content(plugrun, "web:/data")
    assert (found["data/old"], found["data/nested/old"]) == (b"old\n", b"part\n")
    assert "passwd" in content(plugrun, "web:/image/etc/passwd")
    plugrun("cp", "f", "web:/data/nested/").ok()
    refused = plugrun("cp", "f", "web:/ro/")
    assert (refused.code, "read-only" in refused.stderr) == (1, True)
    show = ["run", "--rm", "--net", "none", "-v", "data:/x", busybox, "find", "/x", "-type", "f"]
    assert sorted(plugrun(*show).ok().stdout.split()) == ["/x/old", "/x/sub/f", "/x/sub/old"]
    assert os.listdir(plugrun.roots.run_root / "staging") == []


def test_a_volume_has_what_the_image_has_before_the_first_start(plugrun, busybox, here):
    """Else what is copied into it would keep the image's files out for good."""
    (here / "f").write_text("new")
    make_box(plugrun, busybox, "created", "-v", "data:/etc")
    plugrun("cp", "f", "web:/etc/").ok()
    assert {"etc/f", "etc/passwd"} <= content(plugrun, "web:/etc").keys()
    plugrun("start", "web").ok()
    assert {"etc/f", "etc/passwd"} <= content(plugrun, "web:/etc").keys()


def test_a_named_volume_that_is_gone(plugrun, busybox, here):
    (here / "f").touch()
    make_box(plugrun, busybox, "created", "-v", "data:/data")
    with closing(sqlite3.connect(plugrun.roots.root / "state.db")) as database, database:
        database.execute("DELETE FROM volumes")
    refused = plugrun("cp", "f", "web:/tmp/")
    assert (refused.code, "volume data cannot be shown at /data: no such volume" in refused.stderr) == (1, True)
    rescued = plugrun("cp", "web:/etc/passwd", "out").ok()
    assert "warning" in rescued.stderr
    assert (here / "out").exists()
    plugrun("rm", "web").ok()


def test_mounts_of_the_host_outlive_a_copy(plugrun, busybox, here):
    """A volume with something mounted below, in a shared tree: taking our view down must not take theirs."""
    (here / "data").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "--make-shared", "tmpfs", here / "data"], check=True)
    (here / "data/below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", here / "data/below"], check=True)
    try:
        (here / "data/below/f").write_text("content")
        make_box(plugrun, busybox, "created", "-v", f"{here}/data:/data")
        assert content(plugrun, "web:/data")["data/below/f"] == b"content"
        assert (here / "data/below/f").exists()
        plugrun("rm", "-f", "web").ok()
    finally:
        subprocess.run(["umount", "-R", here / "data"], check=True)


def test_what_is_mounted_below_a_bind_is_as_in_the_container(plugrun, busybox, here, state):
    (here / "data/below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", here / "data/below"], check=True)
    try:
        (here / "data/below/f").write_text("content")
        bind = f"type=bind,src={here}/data,dst="
        mounts = ("--mount", f"{bind}/without,bind-nonrecursive", "--mount", f"{bind}/some,ro,bind-recursive=writable")
        make_box(plugrun, busybox, state, *mounts)
        assert "without/below/f" not in content(plugrun, "web:/without")
        plugrun("cp", "data/below/f", "web:/some/below/g").ok()
        assert (here / "data/below/g").read_text() == "content"
        assert plugrun("cp", "data/below/f", "web:/some/").code == 1
        plugrun("rm", "-f", "web").ok()
    finally:
        subprocess.run(["umount", "-R", here / "data/below"], check=True)


def test_a_volume_that_is_gone(plugrun, busybox, here):
    (here / "data").mkdir()
    (here / "f").touch()
    make_box(plugrun, busybox, "created", "-v", f"{here}/data:/data")
    (here / "data").rmdir()
    refused = plugrun("cp", "f", "web:/tmp/")
    assert (refused.code, "cannot be shown at /data" in refused.stderr) == (1, True)
    rescued = plugrun("cp", "web:/etc/passwd", "out").ok()
    assert "warning" in rescued.stderr
    assert (here / "out").exists()


def test_a_read_only_container(plugrun, busybox, here, state):
    (here / "data").mkdir()
    (here / "f").write_text("new")
    make_box(plugrun, busybox, state, "--read-only", "-v", f"{here}/data:/data")
    refused = plugrun("cp", "f", "web:/tmp/")
    assert (refused.code, "read-only" in refused.stderr) == (1, True)
    plugrun("cp", "f", "web:/data/").ok()
    assert (here / "data/f").read_text() == "new"


def test_a_running_containers_tmpfs_and_etc_files(plugrun, busybox, here):
    make_box(plugrun, busybox, "running", "--tmpfs", "/scratch")
    (here / "f").write_text("10.0.0.1 other\n")
    plugrun("cp", "f", "web:/scratch/").ok()
    plugrun("cp", "f", "web:/etc/hosts").ok()
    assert plugrun("exec", "web", "cat", "/scratch/f", "/etc/hosts").ok().stdout == "10.0.0.1 other\n" * 2
    assert " /etc/hosts " in plugrun("exec", "web", "cat", "/proc/mounts").ok().stdout  # not taken away


@pytest.mark.parametrize("path", ["/proc/version", "/sys/kernel", "/proc"])
def test_the_kernels_file_systems_are_left_alone(plugrun, busybox, here, path):
    make_box(plugrun, busybox, "running")
    refused = plugrun("cp", f"web:{path}", "out")
    assert (refused.code, "file system of the kernel's" in refused.stderr) == (1, True)


def test_a_whole_container(plugrun, box, here):
    plugrun("cp", "web:/", "out").ok()
    assert (here / "out/bin/busybox").stat().st_size > 100_000
    assert os.listdir(here / "out/proc") == []
    assert not any(stat.S_ISCHR(path.lstat().st_mode) for path in (here / "out").rglob("*"))


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("nope:/x", "."), 1, "no such container: nope"),
        (("web:/no", "."), 1, "there is no web:/no"),
        (("web:/etc/passwd/x", "."), 1, "web:/etc/passwd/x"),
        (("no", "web:/"), 1, "there is no no"),
        (("a", "b"), 1, "neither 'a' nor 'b' is in a container"),
        (("-", "-"), 1, "neither '-' nor '-'"),
        (("", "web:/"), 1, "a path to copy is empty"),
        ((":x", "web:/"), 1, "names no container"),
        (("web:/etc/passwd", "no/such"), 1, "cp makes no parent directories"),
        (("web:/etc/passwd", "/dev/null"), 1, "neither a directory nor a regular file"),
        (("web:/" + "x" * 300, "."), 1, "File name too long"),
        (("web:/x",), 125, "Missing argument 'DEST'"),
        (("web:/x", "a", "b"), 125, "unexpected extra argument"),
    ],
)
def test_bad_input_is_one_clear_line(plugrun, busybox, here, arguments, code, says):
    make_box(plugrun, busybox, "created")
    result = plugrun("cp", *arguments)
    assert (result.code, result.stdout) == (code, "")
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert os.listdir(here) == []


def test_archives_and_terminals(plugrun, busybox):
    make_box(plugrun, busybox, "created")
    for arguments in (("web:/etc", "-"), ("-", "web:/tmp")):
        with Terminal(plugrun.argv("cp", *arguments)) as terminal:
            terminal.expect("terminal")
            assert terminal.end() == 1


def test_a_person_is_told_that_it_went_well(plugrun, busybox, here):
    make_box(plugrun, busybox, "created")
    (here / "f").write_bytes(b"x" * 1540)
    with Terminal(plugrun.argv("cp", "f", "web:/tmp/")) as terminal:
        terminal.expect("Successfully copied 1.54kB to web:/tmp/")
        assert terminal.end() == 0
    with Terminal(plugrun.argv("cp", "-q", "f", "web:/tmp/")) as terminal:
        assert terminal.end() == 0
        assert terminal.screen == ""
    assert plugrun("cp", "f", "web:/tmp/").ok().stderr == ""


def test_a_full_host_disk(plugrun, busybox, here, file_system):
    make_box(plugrun, busybox, "created")
    (here / "big").write_bytes(os.urandom(24 << 20))
    plugrun("cp", "big", "web:/").ok()
    small = file_system("ext4", here / "small", size=16 << 20)
    result = plugrun("cp", "web:/big", str(small))
    assert (result.code, "no space left" in result.stderr) == (1, True)
    assert os.listdir(small) == ["lost+found"]


# --- beside other commands -----------------------------------------------------------------------------------------


def test_a_start_waits_for_a_copy_and_an_interrupt_leaves_nothing(plugrun, busybox, here, private_root):
    """The tree of a container that does not run is mounted once only; nothing of it stays after Ctrl-C."""
    make_box(plugrun, busybox, "created")
    copying = subprocess.Popen(plugrun.argv("cp", "-", "web:/tmp"), stdin=subprocess.PIPE)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as made:
        info = tarfile.TarInfo("f")
        info.size = 1 << 20
        made.addfile(info, io.BytesIO(bytes(1 << 20)))
    copying.stdin.write(archive.getvalue()[: 600 << 10])
    copying.stdin.flush()
    staging = private_root.run_root / "staging"
    until(lambda: any(staging.iterdir()))
    starting = threading.Thread(target=lambda: plugrun("start", "web").ok())
    starting.start()
    copying.send_signal(2)
    copying.stdin.close()
    assert copying.wait(30) in {130, -2}
    starting.join(30)
    assert plugrun("exec", "web", "ls", "/tmp").ok().stdout == ""
    assert list(staging.iterdir()) == []
    assert str(staging) not in Path("/proc/self/mountinfo").read_text()


def test_after_a_kill_the_next_command_cleans_up(plugrun, busybox, here, private_root):
    make_box(plugrun, busybox, "created", "-v", f"{here}:/data")
    with subprocess.Popen(plugrun.argv("cp", "-", "web:/tmp"), stdin=subprocess.PIPE) as copying:
        staging = private_root.run_root / "staging"
        until(lambda: str(staging) in Path("/proc/self/mountinfo").read_text())
        copying.kill()
    plugrun("image", "prune", "-f").ok()
    assert str(staging) not in Path("/proc/self/mountinfo").read_text()
    assert here.exists()
    plugrun("cp", "web:/etc/passwd", "out").ok()
