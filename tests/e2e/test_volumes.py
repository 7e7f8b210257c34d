"""Volumes and everything else that is mounted into a container, in each storage driver that works here."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from plugrun.lifecycle import trees, volume_mounts
from plugrun.manager import load
from plugrun.rootfd import RootDir
from security import images

pytestmark = pytest.mark.root


@pytest.fixture
def engine(storage, plugrun, busybox):
    """The program, its storage driver chosen, and a busybox image in it."""

    def call(*arguments, **options):
        return plugrun("--storage", storage, "--net", "none", *arguments, **options)

    return call


def inspect(call, name, template):
    return json.loads(call("inspect", "-f", f"{{{{json {template}}}}}", name).ok().line)


def names(call, *arguments):
    return call("volume", "ls", "-q", *arguments).ok().stdout.split()


@pytest.fixture
def image(engine, plugrun, tmp_path):
    """Load an image, ``image(entries, **config)``; it has ``/data`` unless told otherwise."""

    def load(entries, **config):
        plugrun("load", "-i", images.write(tmp_path / "image.tar", entries, **config)).ok()
        return "evil"

    return load


# --- The volumes themselves ---------------------------------------------------------------------------------------


def test_a_volume_from_its_making_to_its_end(engine, storage):
    assert engine("volume", "create", "--label", "a=b", "data").ok().line == "data"
    assert engine("volume", "create", "data").ok().line == "data"
    anonymous = engine("volume", "create").ok().line
    assert len(anonymous) == 64
    assert engine("volume", "ls").ok().stdout.splitlines()[0].split() == ["DRIVER", "VOLUME", "NAME"]
    assert sorted(names(engine)) == sorted([anonymous, "data"])
    [about] = json.loads(engine("volume", "inspect", "data").ok().stdout)
    assert (about["Name"], about["Driver"], about["Labels"]) == ("data", storage, {"a": "b"})
    engine("run", "--rm", "-v", "data:/x", "busybox", "sh", "-c", "echo kept > /x/file").ok()
    assert (Path(about["Mountpoint"]) / "file").read_text() == "kept\n"
    assert engine("run", "--rm", "-v", "data:/y", "busybox", "cat", "/y/file").ok().stdout == "kept\n"
    assert engine("volume", "rm", "data", anonymous).ok().stdout == f"data\n{anonymous}\n"
    assert names(engine) == []
    assert not Path(about["Mountpoint"]).exists()


def test_a_new_volume_belongs_to_root(engine):
    stat = engine("run", "--rm", "-v", "data:/x", "busybox", "stat", "-c", "%a %u %g", "/x").ok()
    assert stat.line == "755 0 0"


def test_filters_and_formats(engine, storage):
    engine("volume", "create", "--label", "kind=db", "data").ok()
    engine("volume", "create", "--label", "kind=web", "data2").ok()
    engine("create", "--name", "web", "-v", "data:/x", "busybox").ok()
    assert names(engine, "--filter", "label=kind=db") == ["data"]
    assert names(engine, "--filter", "label=kind") == ["data", "data2"]
    assert names(engine, "--filter", "name=ta2") == ["data2"]
    assert names(engine, "--filter", "dangling=true") == ["data2"]
    assert names(engine, "--filter", "dangling=false", "--filter", f"driver={storage}") == ["data"]
    assert names(engine, "--filter", "driver=nosuch") == []
    row = engine(
        "volume", "ls", "--format", "{{.Name}} {{.Driver}} {{.Links}} {{.Labels}}", "--filter", "name=ta2"
    ).ok()
    assert row.line == f"data2 {storage} 0 kind=web"


def test_a_volume_in_use_stays(engine):
    engine("create", "--name", "web", "-v", "data:/x", "busybox").ok()
    refused = engine("volume", "rm", "data")
    assert refused.code == 1
    assert refused.stderr == "plugrun: volume data is in use by web; remove what uses it first: plugrun rm web\n"
    assert engine("volume", "rm", "-f", "data").code == 1
    engine("rm", "web").ok()
    engine("volume", "rm", "data").ok()
    assert engine("volume", "rm", "data").code == 1
    assert engine("volume", "rm", "-f", "data").code == 0


def test_the_same_name_otherwise_is_refused(engine, storage):
    engine("volume", "create", "data").ok()
    other = next(iter({"overlay", "btrfs"} - {storage}))
    for options in (["--storage", other], ["--opt", "size=1g"]):
        result = engine("volume", "create", *options, "data")
        assert result.code == 1
        assert "there is a volume data already" in result.stderr


def test_the_driver_of_docker_is_whichever_is_the_default(engine, storage):
    engine("volume", "create", "--driver", "local", "data").ok()
    engine("volume", "create", "-d", "local", "data").ok()
    engine("run", "--rm", "--volume-driver", "local", "-v", "more:/x", "busybox", "true").ok()
    engine("run", "--rm", "--mount", "type=volume,src=most,dst=/x,volume-driver=local", "busybox", "true").ok()
    assert [inspect(engine, name, ".Driver") for name in ("data", "more", "most")] == [storage] * 3
    assert "no storage driver 'nfs' is installed" in engine("volume", "create", "-d", "nfs", "other").stderr


def test_prune_takes_anonymous_ones_that_nobody_uses(engine):
    engine("volume", "create", "named").ok()
    unused = engine("volume", "create").ok().line
    engine("create", "--name", "web", "-v", "/used", "busybox").ok()
    assert "nobody can be asked" in engine("volume", "prune").stderr
    pruned = engine("volume", "prune", "-f").ok().stdout
    assert pruned.startswith(f"Deleted Volumes:\n{unused}\n\nTotal reclaimed space: ")
    assert len(names(engine)) == 2
    engine("run", "--rm", "-v", "named:/x", "busybox", "dd", "if=/dev/zero", "of=/x/f", "bs=1M", "count=3").ok()
    pruned = engine("volume", "prune", "-f", "--filter", "label!=keep", "-a").ok().stdout
    assert pruned == "Deleted Volumes:\nnamed\n\nTotal reclaimed space: 3.15MB\n"
    assert len(names(engine)) == 1


def test_system_df_counts_volumes(engine):
    engine("volume", "create", "idle").ok()
    fill = "dd if=/dev/zero of=/x/f bs=1M count=2 2> /dev/null"
    engine("run", "--name", "web", "-v", "data:/x", "busybox", "sh", "-c", fill).ok()
    rows = [json.loads(line) for line in engine("system", "df", "--format", "json").ok().stdout.splitlines()]
    [row] = [row for row in rows if row["Type"] == "Local Volumes"]
    assert (row["TotalCount"], row["Active"], row["Size"]) == ("2", "1", "2.1MB")
    assert "data" in engine("system", "df", "-v").ok().stdout


def test_a_volume_with_a_limit(engine, storage):
    made = engine("volume", "create", "-o", "size=16m", "data")
    if "quota" not in load().storage[storage].spec.supports:
        assert made.code == 1
        assert "has no quotas" in made.stderr
        assert names(engine) == []
        return
    if made.code != 0:
        pytest.skip(made.stderr)  # the file system of the tests has none
    assert inspect(engine, "data", ".Options") == {"size": "16m"}
    fill = "head -c 40m /dev/urandom > /x/file; sync; wc -c < /x/file"
    full = engine("run", "--rm", "-v", "data:/x", "busybox", "sh", "-c", fill)
    assert int(full.stdout) < 20 << 20, full.stderr
    engine("volume", "clone", "data", "copy").ok()
    assert inspect(engine, "copy", ".Options") == {"size": "16m"}
    engine("volume", "rm", "data", "copy").ok()


@pytest.mark.parametrize(
    "options", [["-o", "size=x"], ["-o", "size=1"], ["-o", "size"], ["-o", "nosuch=1"], ["--label", "=x"]]
)
def test_options_that_make_no_volume(engine, options):
    result = engine("volume", "create", *options, "data")
    assert result.code == 1
    assert result.stderr.count("\n") == 1
    assert names(engine) == []


def test_a_clone_goes_its_own_way(engine, storage):
    if "clone" not in load().storage[storage].spec.supports:
        assert "does not copy snapshots" in engine("volume", "clone", "data", "copy").stderr
        return
    many = "for i in $(seq 2000); do echo > /x/$i; done; i=0; "  # so that the copy takes its time
    writing = "while true; do for f in a b c d; do echo $i > /x/t; mv /x/t /x/$f; done; i=$((i+1)); done"
    engine("run", "-d", "--name", "web", "-v", "data:/x", "busybox", "sh", "-c", many + writing).ok()
    engine("exec", "web", "sh", "-c", "until test -e /x/d; do true; done").ok()
    assert engine("volume", "clone", "data", "copy").ok().line == "copy"
    read = engine("run", "--rm", "-v", "copy:/x", "busybox", "cat", "/x/a", "/x/b", "/x/c", "/x/d").ok()
    found = list(map(int, read.stdout.split()))
    assert found[0] - found[-1] in {0, 1}  # of one moment
    assert found == sorted(found, reverse=True)
    engine("exec", "web", "true").ok()  # goes on
    engine("rm", "-f", "web").ok()
    engine("volume", "rm", "data").ok()
    assert engine("run", "--rm", "-v", "copy:/x", "busybox", "cat", "/x/a").ok().line == str(found[0])
    for source, new, words in (("nosuch", "new", "no such volume"), ("copy", "copy", "a volume copy already")):
        assert words in engine("volume", "clone", source, new).stderr


# --- Copy-up ------------------------------------------------------------------------------------------------------


def test_an_empty_volume_gets_what_the_image_has_there(engine, image):
    evil = image({"data": None, "data/file": b"image\n", "data/link": images.link("file"), "data/sub": None})
    engine("run", "--rm", "-v", "data:/data", evil, "sh", "-c", "rm /data/sub -r; echo mine > /data/new").ok()
    assert engine("run", "--rm", "-v", "data:/data", evil, "ls", "/data").ok().stdout.split() == ["file", "link", "new"]
    assert engine("run", "--rm", "-v", "data:/x", evil, "cat", "/x/link").ok().stdout == "image\n"
    assert engine("run", "--rm", "-v", "no:/data:nocopy", evil, "ls", "-A", "/data").ok().stdout == ""


def test_what_a_container_has_emptied_stays_empty(engine, image):
    evil = image({"data": None, "data/file": b"image\n"})
    script = "ls /data; rm -f /data/file"
    assert engine("run", "--name", "web", "-v", "data:/data", evil, "sh", "-c", script).ok().stdout == "file\n"
    assert engine("start", "-a", "web").ok().stdout == ""


def test_the_volume_gets_the_owner_of_an_empty_directory(engine, tmp_path, plugrun):
    engine("run", "--name", "maker", "busybox", "sh", "-c", "mkdir -m 1750 /data && chown 33:44 /data").ok()
    archive = engine("export", "maker", "-o", str(tmp_path / "x.tar"))
    if archive.code != 0:
        pytest.skip("needs export")
    plugrun("import", str(tmp_path / "x.tar"), "owned").ok()
    stat = engine("run", "--rm", "-v", "data:/data", "owned", "stat", "-c", "%a %u %g", "/data").ok()
    assert stat.line == "1750 33 44"


def test_the_images_own_volumes(engine, image):
    evil = image({"data": None, "data/file": b"image\n"}, Volumes={"/data": {}, "/new": {}}, Cmd=["true"])
    engine("run", "--name", "web", evil, "sh", "-c", "cat /data/file && echo > /new/file").ok()
    mounts = inspect(engine, "web", ".Mounts")
    assert [(mount["Type"], mount["Destination"]) for mount in mounts] == [("volume", "/data"), ("volume", "/new")]
    assert sorted(names(engine)) == sorted(mount["Name"] for mount in mounts)
    engine("create", "--name", "mine", "-v", "data:/data", "--tmpfs", "/new", evil).ok()
    assert len(names(engine)) == 3
    engine("rm", "web").ok()
    assert len(names(engine)) == 3
    engine("run", "--rm", evil, "true").ok()
    assert len(names(engine)) == 3
    engine("rm", "-v", "mine").ok()
    assert len(names(engine)) == 3  # it has a name
    engine("create", "--name", "web", evil).ok()
    engine("rm", "-v", "web").ok()
    assert len(names(engine)) == 3


# --- Mounts -------------------------------------------------------------------------------------------------------


def test_several_containers_share_a_volume_at_once(engine):
    engine("run", "-d", "--name", "web", "-v", "data:/x", "busybox", "sleep", "1000").ok()
    engine("run", "--rm", "-v", "data:/y", "busybox", "sh", "-c", "echo hello > /y/file").ok()
    assert engine("exec", "web", "cat", "/x/file").ok().stdout == "hello\n"


def test_volumes_from(engine):
    engine("create", "--name", "web", "-v", "/x", "-v", "data:/y", "--tmpfs", "/z", "busybox").ok()
    read = engine("run", "--name", "reader", "--volumes-from", "web:ro", "busybox", "touch", "/x/file")
    assert "Read-only file system" in read.stderr
    engine(
        "run", "--name", "writer", "--volumes-from", "web", "-v", "/y", "busybox", "touch", "/x/file", "/y/file"
    ).ok()
    assert (
        engine("run", "--rm", "--volumes-from", "web", "busybox", "ls", "/x", "/y").ok().stdout == "/x:\nfile\n\n/y:\n"
    )
    before = names(engine)
    engine("rm", "-v", "web").ok()
    assert names(engine) == before  # others use them
    engine("rm", "-v", "reader", "writer").ok()
    assert names(engine) == ["data"]


def test_a_part_of_a_volume(engine):
    make = (
        "mkdir -p /x/a/b && echo deep > /x/a/b/file && ln -s /a/b /x/link && ln -s ../../etc /x/out && mkfifo /x/fifo"
    )
    engine("run", "--rm", "-v", "data:/x", "busybox", "sh", "-c", make).ok()

    def part(subpath, *command):
        return engine("run", "--rm", "--mount", f"src=data,dst=/y,volume-subpath={subpath}", "busybox", *command)

    assert part("a/b", "ls", "/y").ok().stdout == "file\n"
    assert part("a/b/file", "cat", "/y").ok().stdout == "deep\n"
    assert part("link", "ls", "/y").ok().stdout == "file\n"  # as the volume is the root
    assert "has no 'nosuch'" in part("nosuch", "true").stderr
    assert "has no 'out'" in part("out", "true").stderr
    assert "neither a directory nor a regular file" in part("fifo", "true").stderr
    assert names(engine) == ["data"]


def test_the_file_system_of_an_image(engine, plugrun, tmp_path):
    plugrun("load", "-i", images.write(tmp_path / "tool.tar", {"tool": None, "tool/file": b"tool\n"})).ok()
    mount = "type=image,src=evil,dst=/y"
    engine("run", "-d", "--name", "web", "--mount", mount, "busybox", "sleep", "1000").ok()
    assert engine("exec", "web", "cat", "/y/tool/file").ok().stdout == "tool\n"
    assert "Read-only file system" in engine("exec", "web", "touch", "/y/new").stderr
    engine("rm", "-f", "web").ok()
    part = engine("run", "--rm", "--mount", f"{mount},image-subpath=tool", "busybox", "ls", "/y").ok()
    assert part.stdout == "file\n"
    engine("create", "--name", "web", "--mount", mount, "busybox").ok()
    for command in (("rmi", "evil"), ("rmi", inspect(engine, "evil", ".Id"))):
        used = engine(*command)
        assert (used.code, used.stderr.count("\n")) == (1, 1)
        assert "is in use by container web; remove them first, or use --force" in used.stderr
    engine("image", "prune", "-a", "-f").ok()
    engine("start", "-a", "web").ok()
    engine("rmi", "-f", "evil").ok()
    gone = engine("start", "web")
    assert gone.code == 1
    assert "image evil, which container web mounts at /y, is gone" in gone.stderr


def test_a_tmpfs_by_mount(engine):
    mount = "type=tmpfs,dst=/y,tmpfs-size=1m,tmpfs-mode=700"
    script = "stat -c %a /y; df -k /y | tail -1"
    shown = engine("run", "--rm", "--mount", mount, "busybox", "sh", "-c", script).ok().stdout.split()
    assert shown[:3] == ["700", "tmpfs", "1024"]


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_tmpfs_may_begin_with_what_the_image_has_there(engine, runtime):
    shown = engine("--runtime", runtime, "run", "--rm", "--tmpfs", "/etc:tmpcopyup", "busybox", "ls", "/etc").ok()
    assert "passwd" in shown.stdout.split()


def test_a_tmpfs_that_cannot_be_is_refused_before_anything_is_made(engine):
    for option in ("bogus", "size=x"):
        refused = engine("run", "-v", "data:/x", "--tmpfs", f"/y:{option}", "busybox", "true")
        assert (refused.code, refused.stderr.count("\n")) == (125, 1)
        assert refused.stderr.startswith(f"plugrun: --tmpfs '/y:{option}'")
    assert names(engine) == []
    assert engine("ps", "-aq").ok().stdout == ""


def test_a_missing_host_directory_is_made_by_volume_and_not_by_mount(engine, tmp_path):
    place = tmp_path / "new" / "er"
    old = os.umask(0o077)
    try:
        engine("run", "--rm", "-v", f"{place}:/x", "busybox", "touch", "/x/file").ok()
    finally:
        os.umask(old)
    assert (place / "file").exists()
    assert oct(place.parent.stat().st_mode) == oct(place.stat().st_mode) == "0o40755"
    refused = engine("run", "--rm", "--mount", f"type=bind,src={place}/gone,dst=/x", "busybox", "true")
    assert (refused.code, (place / "gone").exists()) == (125, False)
    engine("run", "--rm", "--mount", f"type=bind,src={place}/gone,dst=/x,bind-create-src", "busybox", "true").ok()
    assert (place / "gone").is_dir()


def test_what_is_mounted_below_a_bind(engine, tmp_path):
    (tmp_path / "source" / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "source" / "below"], check=True)
    (tmp_path / "source" / "below" / "file").touch()

    def below(options, command):
        mount = f"type=bind,src={tmp_path}/source,dst=/x{options}"
        return engine("run", "--rm", "--mount", mount, "busybox", *command)

    try:
        assert below("", ["ls", "/x/below"]).stdout == "file\n"
        assert below(",bind-recursive=disabled", ["ls", "/x/below"]).stdout == ""
        assert "Read-only" in below(",ro", ["touch", "/x/below/new"]).stderr
        assert "Read-only" in below(",ro,bind-recursive=readonly", ["touch", "/x/below/new"]).stderr
        below(",ro,bind-recursive=writable", ["touch", "/x/below/new"]).ok()
        assert "Read-only" in below(",ro,bind-recursive=writable", ["touch", "/x/new"]).stderr
    finally:
        subprocess.run(["umount", tmp_path / "source" / "below"], check=True)


def test_inspect_shows_every_mount_as_docker_does(engine, storage):
    engine("create", "--name", "web", "-v", "data:/x:ro", "-v", "/etc:/y:rslave", "--tmpfs", "/z", "busybox").ok()
    bind, volume, tmpfs = inspect(engine, "web", ".Mounts")
    assert bind == {
        "Type": "bind", "Source": "/etc", "Destination": "/y", "Mode": "", "RW": True, "Propagation": "rslave",
    }  # fmt: skip
    assert volume == {
        "Type": "volume", "Name": "data", "Source": inspect(engine, "data", ".Mountpoint"), "Destination": "/x",
        "Mode": "ro", "RW": False, "Propagation": "", "Driver": storage,
    }  # fmt: skip
    assert (tmpfs["Type"], tmpfs["Destination"], tmpfs["RW"]) == ("tmpfs", "/z", True)
    assert inspect(engine, "web", ".HostConfig.Binds") == ["/etc:/y:rslave", "data:/x:ro"]
    engine("create", "--name", "db", "-v", "data:/x", "-v", "more:/y:ro,nocopy", "-v", "/etc:/z", "busybox").ok()
    assert inspect(engine, "db", ".HostConfig.Binds") == ["/etc:/z", "data:/x", "more:/y:ro,nocopy"]
    engine("create", "--name", "bare", "-v", "/anonymous", "busybox").ok()
    assert inspect(engine, "bare", ".HostConfig.Binds") is None


@pytest.mark.parametrize("place", ["/proc", "/sys", "/dev", "/proc/self", "/sys/kernel"])
def test_a_volume_over_what_is_the_kernels_is_refused(engine, place):
    result = engine("run", "--rm", "-v", f"data:{place}", "busybox", "true")
    assert result.code == 125
    assert "is the kernel's" in result.stderr


def test_a_volume_of_a_driver_that_is_gone(engine, plugrun):
    engine("create", "--name", "web", "-v", "data:/x", "busybox").ok()
    with closing(sqlite3.connect(plugrun.roots.root / "state.db")) as connection, connection:
        connection.execute("UPDATE volumes SET storage = 'gone', record = json_set(record, '$.storage', 'gone')")
    start = engine("start", "web")
    assert start.code == 1
    assert "volume data cannot be reached: no storage driver 'gone' is installed" in start.stderr
    assert inspect(engine, "web", ".Mounts")[0]["Source"] == ""
    engine("rm", "web").ok()
    kept = engine("volume", "rm", "data")
    assert (kept.code, kept.stderr.count("\n")) == (1, 1)
    assert "volume data stays" in engine("volume", "prune", "-a", "-f").ok().stderr
    assert names(engine) == ["data"]
    engine("volume", "rm", "-f", "data").ok()
    assert names(engine) == []


def test_a_volume_whose_files_are_gone(engine):
    engine("create", "--name", "web", "-v", "data:/x", "busybox").ok()
    place = Path(inspect(engine, "data", ".Mountpoint"))
    key = next(part for part in place.parts if part.startswith("volume-"))
    top = Path(*place.parts[: place.parts.index(key) + 1])
    subprocess.run(["btrfs", "subvolume", "delete", top], check=False, capture_output=True)
    shutil.rmtree(top, ignore_errors=True)
    start = engine("start", "web")
    assert (start.code, start.stderr.count("\n")) == (1, 1)
    assert "volume data is not in storage driver" in start.stderr
    engine("rm", "web").ok()
    pruned = engine("volume", "prune", "-a", "-f").ok().stdout
    assert pruned == "Deleted Volumes:\ndata\n\nTotal reclaimed space: 0B\n"


def test_volumes_in_several_drivers_in_one_container(plugrun, busybox, private_root, file_system):
    file_system("btrfs", private_root.root / "storage" / "btrfs")
    (private_root.root / "storage" / "btrfs").chmod(0o700)
    made = plugrun("volume", "create", "--storage", "btrfs", "fast")
    if made.code != 0:
        pytest.skip(made.stderr)
    plugrun("volume", "create", "--storage", "overlay", "plain").ok()
    mounts = ("-v", "fast:/fast", "-v", "plain:/plain")
    plugrun("run", "--rm", "--net", "none", *mounts, busybox, "sh", "-c", "echo > /fast/a; echo > /plain/b").ok()
    assert plugrun("run", "--rm", "--net", "none", *mounts, busybox, "ls", "/fast", "/plain").ok().stdout == (
        "/fast:\na\n\n/plain:\nb\n"
    )


def test_options_that_the_driver_of_the_container_does_not_have(engine):
    """The driver is open already, without options, for the container's own layer."""
    mount = "src=data,dst=/x,volume-opt=colour=red"
    refused = engine("run", "--rm", "--mount", mount, "busybox", "true")
    assert (refused.code, refused.stderr.count("\n")) == (125, 1)
    assert "colour=red" in refused.stderr
    assert names(engine) == []


def test_what_a_stopped_container_has_mounted_can_be_reached(engine, plugrun):
    make = "mkdir /x/sub && echo > /x/sub/part && echo one > /x/one"
    engine("run", "--rm", "-v", "data:/x", "busybox", "sh", "-c", make).ok()
    mounts = ["-v", "data:/whole:ro", "-v", "/etc:/bind"]
    for part in ("src=data,dst=/part,volume-subpath=sub", "src=data,dst=/file,volume-subpath=one"):
        mounts += ["--mount", part]
    mounts += ["--mount", "type=image,src=busybox,dst=/image,image-subpath=etc", "--tmpfs", "/tmp"]
    engine("create", "--name", "web", *mounts, "busybox", "true").ok()
    opened = plugrun.engine()
    record = opened.containers.find("web")
    with (
        opened.locked(record.id),
        trees.own(opened, record) as own,
        RootDir.at(own) as root,
        volume_mounts.sources(opened, record, root, pytest.fail) as found,
    ):
        by_place = {one.destination: one for one in found}
        assert list(by_place) == ["/bind", "/whole", "/part", "/file", "/image"]
        assert by_place["/bind"].source == "/etc"
        assert sorted(os.listdir(by_place["/whole"].source)) == ["one", "sub"]
        assert os.listdir(by_place["/part"].source) == ["part"]
        assert Path(by_place["/file"].source).read_text() == "one\n"
        assert "passwd" in os.listdir(by_place["/image"].source)
        assert [one.read_only for one in found] == [False, True, False, False, True]
    opened.close()
    assert str(plugrun.roots.run_root) not in Path("/proc/self/mountinfo").read_text()
    assert os.listdir(plugrun.roots.run_root / "staging") == []
