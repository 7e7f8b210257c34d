"""What an image has where something will be mounted does not count: it could lead the engine astray."""

from __future__ import annotations

import pytest

from plugrun.container import BindMount, ContainerConfig
from plugrun.errors import FailedPrecondition, InvalidArgument
from plugrun.oci import rootfs
from plugrun.rootfd import RootDir

pytestmark = pytest.mark.root

CONFIG = ContainerConfig(image="test", image_id="sha256:0", args=("true",))


@pytest.fixture
def image(tmp_path):
    root = tmp_path / "root"
    for name in ("dev", "proc/self/fd", "sys/fs", "etc", "home", "data"):
        (root / name).mkdir(parents=True)
    return root


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    return str(tmp_path / "source")


def prepare(image, *, etc_files=None, **changes):
    with RootDir.at(image) as root:
        return rootfs.prepare(root, CONFIG._replace(**changes), etc_files or {})


def binds(source, *destinations):
    return tuple(BindMount(source=source, destination=destination) for destination in destinations)


@pytest.mark.parametrize("written", ["/proc/self/fd/7", "/app", "/proc/self/../self/fd/7"])
def test_a_working_directory_in_proc_is_refused_whatever_the_image_has_there(image, written):
    (image / "proc/self/fd/7").symlink_to("/home")  # in the container it would be a descriptor of the runtime's
    (image / "app").symlink_to("/proc/self/fd/7")
    with pytest.raises(InvalidArgument, match="working directory"):
        prepare(image, workdir=written)
    assert prepare(image, workdir="/home").workdir == "/home"


def test_the_runtime_gets_a_working_directory_without_dots_and_links(image):
    (image / "proc/self/fd/7").symlink_to("/home")
    (image / "link").symlink_to("/home/me")
    assert prepare(image, workdir="/proc/self/fd/7/../../../../etc").workdir == "/etc"
    assert prepare(image, workdir="/link/../you").workdir == "/home/you"
    assert (image / "home/you").is_dir()


@pytest.mark.parametrize("place", ["/dev/shm", "/dev/shm/cache", "/dev/dri", "/sys/fs/cgroup"])
def test_a_mount_in_the_kernels_file_systems_stays_where_it_was_asked_for(image, source, place):
    trap = image / place.lstrip("/")
    trap.parent.mkdir(exist_ok=True)
    trap.symlink_to("/etc")
    assert [bind.destination for bind in prepare(image, binds=binds(source, place)).binds] == [place]
    assert prepare(image, tmpfs={place: ""}).tmpfs == {place: ""}
    trap.unlink()
    prepare(image, tmpfs={place: ""})
    assert not trap.exists()


def test_files_that_lxcfs_replaces_may_be_replaced(image, source, tmp_path):
    (tmp_path / "meminfo").write_text("")
    [bind] = prepare(image, binds=binds(str(tmp_path / "meminfo"), "/proc/meminfo")).binds
    assert bind.destination == "/proc/meminfo"
    for refused in ({"binds": binds(source, "/proc/meminfo")}, {"tmpfs": {"/proc/meminfo": ""}}):
        with pytest.raises(InvalidArgument, match="/proc/meminfo"):
            prepare(image, **refused)


@pytest.mark.parametrize("target", ["/dev/shm", "/sys/fs/cgroup", "/dev/console"])
def test_but_an_image_may_not_lead_a_mount_there(image, source, target):
    (image / "app").symlink_to(target)
    with pytest.raises(InvalidArgument, match=target):
        prepare(image, binds=binds(source, "/app"))


def test_a_mount_below_another_is_not_led_away_by_what_the_other_hides(image, source):
    (image / "data/cache").symlink_to("/etc")
    found = prepare(image, binds=binds(source, "/data/cache", "/data"))
    assert [bind.destination for bind in found.binds] == ["/data/cache", "/data"]
    assert prepare(image, binds=binds(source, "/data/cache")).binds[0].destination == "/etc"  # nothing hides it here


def test_the_same_through_a_link_to_the_other(image, source):
    (image / "data/cache").symlink_to("/etc")
    (image / "link").symlink_to("/data")
    found = prepare(image, binds=binds(source, "/link/cache"), tmpfs={"/data": ""})
    assert [bind.destination for bind in found.binds] == ["/data/cache"]


def test_nothing_is_made_below_a_mount(image, source):
    prepare(image, binds=binds(source, "/data", "/data/sub"), tmpfs={"/data/tmp": ""}, workdir="/data/app")
    assert list((image / "data").iterdir()) == []
    prepare(image, binds=binds(source, "/data/sub"), workdir="/data/app")
    assert sorted(path.name for path in (image / "data").iterdir()) == ["app", "sub"]


def test_an_engines_file_below_a_users_mount_is_left_out(image, source):
    files = {"/etc/hosts": "/state/hosts"}
    assert prepare(image, binds=binds(source, "/etc"), etc_files=files).etc_files == {}
    assert prepare(image, tmpfs={"/etc": ""}, etc_files=files).etc_files == {}
    assert not (image / "etc/hosts").exists()
    assert prepare(image, etc_files=files).etc_files == files
    assert (image / "etc/hosts").is_file()


def test_an_engines_file_is_not_led_out_of_the_kernels_places(image):
    (image / "proc/hosts").symlink_to("/etc/passwd")
    (image / "etc/hosts").symlink_to("/proc/hosts")
    with pytest.raises(FailedPrecondition, match="/etc/hosts"):
        prepare(image, etc_files={"/etc/hosts": "/state/hosts"})


def test_the_source_of_a_mount_must_still_be_there(image, source):
    with pytest.raises(FailedPrecondition, match=f"{source}/gone"):
        prepare(image, binds=binds(f"{source}/gone", "/data/new"))
    assert not (image / "data/new").exists()
