"""The guard before the runtime: what it refuses, what it makes, and that nothing happens outside the root."""

from __future__ import annotations

import os
import stat

import pytest

from plugrun.container import BindMount, ContainerConfig
from plugrun.errors import FailedPrecondition, InvalidArgument
from plugrun.oci import rootfs
from plugrun.rootfd import RootDir

pytestmark = pytest.mark.root

CONFIG = ContainerConfig(image="test", image_id="sha256:0", args=("true",))


@pytest.fixture
def place(tmp_path):
    """An image's root, with a directory of the host beside it that nothing may touch."""
    for name in ("root/dev", "root/proc", "root/sys", "root/etc", "canary", "volume"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").write_text("content")
    (tmp_path / "canary/file").write_text("untouched")
    before = look(tmp_path / "canary")
    yield tmp_path
    assert look(tmp_path / "canary") == before


def look(directory):
    found = {}
    for where, directories, files in os.walk(directory):
        for name in (".", *directories, *files):
            status = os.lstat(os.path.join(where, name))
            found[os.path.join(where, name)] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns)
    return found


def prepare(place, *, etc_files=None, **changes):
    with RootDir.at(place / "root") as root:
        return rootfs.prepare(root, CONFIG._replace(**changes), etc_files or {})


def bind(place, destination, source="volume", *, read_only=False):
    return BindMount(source=str(place / source), destination=destination, read_only=read_only)


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
@pytest.mark.parametrize("kind", ["link", "relative link", "dangling link", "file", "fifo"])
def test_the_kernels_directories_must_be_directories(place, name, kind):
    path = place / "root" / name
    path.rmdir()
    match kind:
        case "link":
            path.symlink_to(place / "canary")
        case "relative link":
            path.symlink_to("etc")
        case "dangling link":
            path.symlink_to("nowhere")
        case "file":
            path.write_text("")
        case "fifo":
            os.mkfifo(path)
    with pytest.raises(FailedPrecondition, match=f"/{name} is {'a symbolic link' if 'link' in kind else 'not a'}"):
        prepare(place)


def test_missing_kernel_directories_are_made(place):
    for name in ("dev", "proc", "sys"):
        (place / "root" / name).rmdir()
    old = os.umask(0o077)
    try:
        prepare(place)
    finally:
        os.umask(old)
    for name in ("dev", "proc", "sys"):
        assert stat.S_IMODE((place / "root" / name).lstat().st_mode) == 0o755


@pytest.mark.parametrize(
    "destination", ["/", "/..", "/dev", "/proc", "/sys", "//proc/", "/etc/../proc", "/proc/sys", "/sys/firmware"]
)
@pytest.mark.parametrize("kind", ["bind", "read-only bind", "tmpfs"])
def test_nothing_hides_what_isolates(place, destination, kind):
    mounts = {"tmpfs": {destination: ""}} if kind == "tmpfs" else {}
    if "bind" in kind:
        mounts = {"binds": (bind(place, destination, read_only="read-only" in kind),)}
    with pytest.raises(InvalidArgument):
        prepare(place, **mounts)


@pytest.mark.parametrize("target", ["/proc", "../../proc", "/proc/sys", "/", "/dev", "/sys"])
def test_nor_through_a_link_of_the_image(place, target):
    (place / "root/data").symlink_to(target)
    with pytest.raises(InvalidArgument):
        prepare(place, binds=(bind(place, "/data"),))


def test_destinations_are_resolved_inside_the_image(place):
    (place / "root/run").mkdir()
    (place / "root/var").mkdir()
    (place / "root/var/run").symlink_to("/run")  # legal, and in every Debian
    (place / "root/evil").symlink_to("../../../../../../canary")
    (place / "root/worse").symlink_to(place / "canary")
    found = prepare(
        place,
        binds=(bind(place, "/var/run/app"), bind(place, "/evil/file", "file"), bind(place, "/worse/x")),
        tmpfs={"/var/run/lock": "size=1m"},
    )
    assert [one.destination for one in found.binds] == ["/run/app", "/canary/file", f"{place}/canary/x"]
    assert found.tmpfs == {"/run/lock": "size=1m"}
    assert (place / "root/run/app").is_dir()
    assert (place / "root/run/lock").is_dir()
    assert (place / "root/canary/file").is_file()  # inside the root; the fixture looks at the other canary


def test_mount_points_have_the_kind_of_their_source(place):
    prepare(place, binds=(bind(place, "/a/b"), bind(place, "/c/d", "file")))
    assert (place / "root/a/b").is_dir()
    assert (place / "root/c/d").is_file()
    with pytest.raises(InvalidArgument):
        prepare(place, binds=(bind(place, "/c/d"),))
    with pytest.raises(InvalidArgument):
        prepare(place, binds=(bind(place, "/a/b", "file"),))


def test_one_mount_for_one_place(place):
    (place / "root/alias").symlink_to("/data")
    with pytest.raises(InvalidArgument, match="/data"):
        prepare(place, binds=(bind(place, "/data"), bind(place, "/alias")))
    with pytest.raises(InvalidArgument, match="/data"):
        prepare(place, binds=(bind(place, "/data"),), tmpfs={"/alias": ""})
    with pytest.raises(InvalidArgument, match="/data"):
        prepare(place, tmpfs={"/data": "", "/alias": ""})


@pytest.mark.parametrize("name", ["hosts", "hostname", "resolv.conf"])
def test_the_engines_files_replace_links_without_following_them_out(place, name):
    (place / "root/etc" / name).symlink_to(place / "canary/file")
    found = prepare(place, etc_files={f"/etc/{name}": "/host"})
    assert found.etc_files == {f"{place}/canary/file": "/host"}  # below the root: the fixture guards the real one
    assert (place / "root" / str(place).lstrip("/") / "canary/file").read_text() == ""


def test_etc_itself_may_be_a_link(place):
    (place / "root/etc").rmdir()
    (place / "root/etc").symlink_to(place / "canary")
    found = prepare(place, etc_files={"/etc/hosts": "/host"})
    assert found.etc_files == {f"{place}/canary/hosts": "/host"}


@pytest.mark.parametrize("target", ["/proc/sys/kernel", "/sys/kernel", "/dev/fd"])
def test_but_not_into_the_kernels_file_systems(place, target):
    (place / "root/etc").rmdir()
    (place / "root/etc").symlink_to(target)
    with pytest.raises(FailedPrecondition, match=r"/etc/hosts"):
        prepare(place, etc_files={"/etc/hosts": "/host"})


def test_the_users_own_hosts_file_wins(place):
    found = prepare(place, binds=(bind(place, "/etc/hosts", "file"),), etc_files={"/etc/hosts": "/host"})
    assert found.etc_files == {}


def test_the_working_directory_is_made_as_docker_does(place):
    old = os.umask(0o077)
    try:
        prepare(place, workdir="/srv/app", user="1000")
    finally:
        os.umask(old)
    status = (place / "root/srv/app").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o755, 0, 0)


def test_an_existing_working_directory_stays_as_it_is(place):
    (place / "root/app").mkdir()
    (place / "root/app").chmod(0o1770)
    prepare(place, workdir="/app")
    assert stat.S_IMODE((place / "root/app").stat().st_mode) == 0o1770


@pytest.mark.parametrize(
    "workdir",
    ["/proc/self/fd/7", "/proc/self/cwd", "/proc/1/root", "/sys/fs", "/dev/fd/7", "/etc/../proc/self/fd/3", "srv", ""],
)
def test_no_working_directory_in_the_kernels_file_systems(place, workdir):
    with pytest.raises(InvalidArgument):
        prepare(place, workdir=workdir)


@pytest.mark.parametrize("target", ["/proc/self/fd/7", "proc/self/fd/8", "/dev/fd/9", "../../../proc/self/fd/3"])
def test_nor_through_a_link(place, target):
    (place / "root/app").symlink_to(target)
    with pytest.raises(InvalidArgument):
        prepare(place, workdir="/app")


def test_a_working_directory_behind_a_link_is_made_inside(place):
    (place / "root/app").symlink_to(place / "canary")
    prepare(place, workdir="/app/new")
    assert not (place / "canary/new").exists()
    assert (place / "root" / str(place).lstrip("/") / "canary/new").is_dir()


def test_a_working_directory_that_is_a_file_is_an_error(place):
    (place / "root/app").write_text("")
    with pytest.raises(InvalidArgument, match="app"):
        prepare(place, workdir="/app")
    with pytest.raises(InvalidArgument, match="app"):
        prepare(place, workdir="/app/below")


def test_shared_memory_may_be_the_working_directory(place):
    prepare(place, workdir="/dev/shm")
