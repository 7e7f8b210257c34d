"""Images that try to reach the host through their own file system, started for real.

Each attack is also made without the engine's guard where that shows something: the guard's worth is what then happens.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from images.archives import Parts, write_tar
from plugrun.container import ContainerConfig
from plugrun.errors import FailedPrecondition
from plugrun.oci import etc_files, resources, rootfs, runtime, user
from plugrun.oci.spec import SpecInputs, build_spec
from plugrun.rootfd import RootDir

pytestmark = pytest.mark.root

BUSYBOX = Path("/bin/busybox")
CANARY = Path("/run/canary")
MAKES_DEVICES_OUTSIDE = {"crun": (1, 28), "runc": (1, 3, 6)}  # the first versions that do not


@pytest.fixture
def canary():
    """A directory of the host that must stay as it is."""
    CANARY.mkdir()
    (CANARY / "file").write_text("untouched")
    yield CANARY
    for path in sorted(CANARY.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    CANARY.rmdir()


def content(directory):
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in directory.rglob("*")
    }


def tree(*, without=(), links=(), more=()):
    """A layer with busybox; ``links`` are (name, target), ``more`` are TarInfo with content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            if name not in without:
                info = tarfile.TarInfo(name)
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(info)
        program = tarfile.TarInfo("bin/busybox")
        program.size, program.mode = BUSYBOX.stat().st_size, 0o755
        archive.addfile(program, io.BytesIO(BUSYBOX.read_bytes()))
        for name, target in (("bin/sh", "busybox"), *links):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
        for info, data in more:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def load(plugrun, tmp_path, layer, **config):
    parts = Parts(layers=[layer], name="hostile:1", config={"config": {"Cmd": ["/bin/sh"], **config}})
    plugrun("load", "-i", write_tar(tmp_path / "image.tar", parts.docker())).ok()
    return "hostile:1"


def assert_refused(result):
    assert result.code == 125, result
    assert len(result.stderr.splitlines()) <= 2, result.stderr  # the message, and what to do
    assert "Traceback" not in result.stderr


# --- /dev, /proc, /sys -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
def test_an_image_whose_kernel_directory_is_a_link_is_refused(plugrun, tmp_path, canary, name):
    image = load(plugrun, tmp_path, tree(without=(name,), links=((name, str(canary)),)))
    before = content(canary)
    result = plugrun("run", "--rm", "--net", "none", image, "busybox", "true")
    assert_refused(result)
    assert f"/{name} is a symbolic link" in result.stderr
    assert content(canary) == before
    assert plugrun("ps", "-aq").stdout == ""


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "unguarded"])
def test_without_the_guard_old_runtimes_write_to_the_host(tmp_path, canary, runtime_name, guarded):
    """The same specification with and without the guard in between."""
    where = tmp_path / "bundle/rootfs"
    where.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(tree(without=("dev",), links=(("dev", str(canary)),)))) as archive:
        archive.extractall(where, filter="fully_trusted")
    (where / str(canary).lstrip("/")).mkdir(parents=True)  # some look inside the root first, and outside later
    before = content(canary)
    config = ContainerConfig(image="t", image_id="sha256:0", args=("/bin/busybox", "true"), hostname="t")
    with RootDir.at(where) as root:
        identity = user.resolve(root, "")
        if guarded:
            with pytest.raises(FailedPrecondition):
                rootfs.prepare(root, config, {})
            assert content(canary) == before
            return
    run_bundle(where.parent, config, identity, runtime_name)
    if version(runtime_name) < MAKES_DEVICES_OUTSIDE[runtime_name]:
        assert content(canary) != before, f"{runtime_name} is old but does not do it: is the guard tested at all?"


def run_bundle(bundle, config, identity, runtime_name):
    inputs = SpecInputs(
        container_id=os.urandom(8).hex(),
        rootfs=str(bundle / "rootfs"),
        identity=identity,
        netns=None,
        own_netns=False,
        etc_files={},
        binds=(),
        tmpfs={},
        init=None,
        cgroup_v2=os.path.exists("/sys/fs/cgroup/cgroup.controllers"),
        hard_limits=resources.own_hard_limits(),
    )
    (bundle / "config.json").write_text(json.dumps(build_spec(config, inputs)))
    program = runtime.choose(runtime_name)
    command = [*program.argv(str(bundle / "state")), "run", "--bundle", str(bundle), inputs.container_id]
    subprocess.run(command, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def version(runtime_name):
    return tuple(
        int(part) for part in runtime.version(runtime.choose(runtime_name).path).split("+")[0].split("-")[0].split(".")
    )


# --- The engine's own files ------------------------------------------------------------------------------------


def test_files_of_etc_that_are_links_to_the_host(plugrun, tmp_path, canary, runtime_name):
    names = ("hosts", "hostname", "resolv.conf", "mtab", "passwd", "group")
    image = load(plugrun, tmp_path, tree(links=[(f"etc/{name}", f"{canary}/{name}") for name in names]))
    before = content(canary)
    script = f"busybox cat /etc/hostname; busybox ls {canary}"
    result = plugrun("run", "--rm", "--net", "none", "--runtime", runtime_name, "-h", "box", image, "sh", "-c", script)
    assert result.ok().stdout.split() == ["box", "hostname", "hosts", "resolv.conf"]  # the image's own, not the host's
    assert content(canary) == before


def test_etc_that_is_a_link_to_the_host(plugrun, tmp_path, canary, runtime_name):
    image = load(plugrun, tmp_path, tree(without=("etc",), links=(("etc", str(canary)),)))
    before = content(canary)
    result = plugrun(
        "run", "--rm", "--net", "none", "--runtime", runtime_name, image, "busybox", "cat", "/etc/hostname"
    )
    result.ok()
    assert content(canary) == before


def test_a_passwd_that_never_ends(plugrun, tmp_path):
    info = tarfile.TarInfo("etc/passwd")
    info.type = tarfile.FIFOTYPE
    image = load(plugrun, tmp_path, tree(more=((info, b""),)))
    result = plugrun("run", "--rm", "--net", "none", image, "busybox", "true", timeout=10)
    assert_refused(result)
    assert "/etc/passwd" in result.stderr


# --- The working directory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("workdir", ["/proc/self/fd/7", "/dev/fd/7", "/leap"])
def test_a_working_directory_in_a_descriptor_of_the_runtime(plugrun, tmp_path, workdir):
    layer = tree(links=(("leap", "/proc/self/fd/7"),))
    image = load(plugrun, tmp_path, layer, WorkingDir=workdir)
    result = plugrun("run", "--rm", "--net", "none", image, "busybox", "ls", "../../..")
    assert_refused(result)
    assert workdir in result.stderr


def test_a_working_directory_behind_a_link_to_the_host(plugrun, tmp_path, canary, runtime_name):
    image = load(plugrun, tmp_path, tree(links=(("work", str(canary)),)), WorkingDir="/work/new")
    before = content(canary)
    result = plugrun("run", "--rm", "--net", "none", "--runtime", runtime_name, image, "busybox", "pwd").ok()
    assert result.line == f"{canary}/new"  # inside the image
    assert content(canary) == before


# --- What an image's configuration may not do ----------------------------------------------------------------------


def test_labels_and_unknown_fields_change_nothing(plugrun, tmp_path, private_root):
    labels = {
        "run.oci.handler": "krun",
        "org.systemd.property.ExecStartPre": "touch /run/owned",
        "io.plugrun.driver": "x",
    }
    image = load(
        plugrun,
        tmp_path,
        tree(),
        Labels=labels,
        Privileged=True,
        CapAdd=["ALL"],
        SecurityOpt=["seccomp=unconfined"],
        HostConfig={"Privileged": True, "Binds": ["/:/host"], "CapAdd": ["ALL"], "SecurityOpt": ["seccomp=unconfined"]},
    )
    container = plugrun("run", "-d", "--net", "none", image, "busybox", "sleep", "1000").ok().line
    bundle = private_root.run_root / "containers" / container / "config.json"
    spec = json.loads(bundle.read_text())
    assert not spec.get("annotations")
    assert not spec.get("hooks")
    assert not any(label in bundle.read_text() for label in labels)
    assert spec["linux"]["seccomp"]
    assert "CAP_SYS_ADMIN" not in spec["process"]["capabilities"]["bounding"]
    assert "/host" not in {mount["destination"] for mount in spec["mounts"]}
    assert json.loads(plugrun("inspect", container).ok().stdout)[0]["Config"]["Labels"] == labels


def test_the_images_environment_does_not_reach_the_engines_helpers(plugrun, tmp_path):
    marked = [f"{name}=/evil" for name in ("LD_PRELOAD", "PATH", "PYTHONPATH", "GCONV_PATH", "XDG_RUNTIME_DIR")]
    image = load(plugrun, tmp_path, tree(), Env=marked)
    container = plugrun("run", "-d", "--net", "none", image, "/bin/busybox", "sleep", "1000").ok().line
    found = [
        entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and name_of(entry) in {"conmon", "plugrun"}
    ]
    assert found
    for entry in found:
        assert b"/evil" not in (entry / "environ").read_bytes()
        assert os.readlink(entry / "cwd") != str(container)
    inside = plugrun("exec", container, "/bin/busybox", "env").ok().stdout
    assert "LD_PRELOAD=/evil" in inside  # it is the container's, and only there


def name_of(entry):
    try:
        return (entry / "comm").read_text().strip()
    except OSError:
        return ""


def test_the_engines_files_are_written_nowhere_else(tmp_path):
    """``etc_files`` replaces what is there, whatever it is, and never writes through it."""
    (tmp_path / "victim").write_text("untouched")
    for name in ("hosts", "hostname", "resolv.conf"):
        (tmp_path / name).symlink_to("victim")
    etc_files.write(tmp_path, etc_files.About("box"))
    assert (tmp_path / "victim").read_text() == "untouched"
    assert (tmp_path / "hostname").read_text() == "box\n"
