"""``--mount`` and ``--volume`` as texts: what each means, and what is said of those that mean nothing."""

from __future__ import annotations

import os

import pytest

from plugrun.cli import file_options, mount_option
from plugrun.cli.file_options import HostPath, Tmpfs
from plugrun.container import BindMount, ImageMount, VolumeMount
from plugrun.errors import InvalidArgument, NotFound
from plugrun.request import ContainerRequest, VolumeRequest

MEANINGS = {
    "type=bind,source=/etc,target=/x": HostPath(BindMount("/etc", "/x")),
    "type=bind,src=/etc,dst=/x,ro": HostPath(BindMount("/etc", "/x", read_only=True)),
    "type=bind,src=/etc,destination=/x/,readonly=false": HostPath(BindMount("/etc", "/x")),
    "TYPE=bind,SRC=/etc,DST=/x,readonly=1": HostPath(BindMount("/etc", "/x", read_only=True)),
    "type=bind,src=/etc,dst=/x,bind-propagation=rslave": HostPath(BindMount("/etc", "/x", propagation="rslave")),
    "type=bind,src=/etc,dst=/x,bind-nonrecursive": HostPath(BindMount("/etc", "/x", recursive="disabled")),
    "type=bind,src=/etc,dst=/x,ro,bind-recursive=writable": HostPath(
        BindMount("/etc", "/x", read_only=True, recursive="writable")
    ),
    "type=bind,src=/nosuch/x,dst=/x,bind-create-src": HostPath(BindMount("/nosuch/x", "/x"), make=True),
    "type=bind,src=/etc,dst=/x,bind-create-src,consistency=cached": HostPath(BindMount("/etc", "/x")),
    'type=bind,src=/etc,"dst=/x,y"': HostPath(BindMount("/etc", "/x,y")),
    "src=data,dst=/x": VolumeRequest(VolumeMount("data", "/x")),
    "dst=/x": VolumeRequest(VolumeMount("", "/x")),
    "type=volume,src=data,dst=/x,ro,volume-nocopy,volume-subpath=a//b/": VolumeRequest(
        VolumeMount("data", "/x", read_only=True, subpath="a/b", nocopy=True)
    ),
    "src=data,dst=/x,volume-driver=btrfs,volume-opt=size=1g,volume-opt=a=b,volume-label=k=v,volume-label=l": (
        VolumeRequest(VolumeMount("data", "/x"), "btrfs", {"size": "1g", "a": "b"}, {"k": "v", "l": ""})
    ),
    "type=tmpfs,dst=/x": Tmpfs("/x", ""),
    "type=tmpfs,dst=/x,ro,tmpfs-size=1m,tmpfs-mode=1770": Tmpfs("/x", "ro,size=1048576,mode=1770"),
    "type=image,src=busybox,dst=/x,image-subpath=etc": ImageMount("busybox", "", "/x", "etc"),
    "type=image,src=busybox,dst=/x,ro": ImageMount("busybox", "", "/x"),
}


@pytest.mark.parametrize("text", MEANINGS)
def test_what_a_mount_means(text):
    assert mount_option.parse(text) == MEANINGS[text]


WRONG = {
    "": ["has no target"],
    "dst": ["has 'target' without a value"],
    "src=data": ["has no target", "target=/PLACE"],
    "dst=data": ["'data' is not absolute"],
    "dst=/": ["root cannot be mounted over"],
    "dst=/x/..": ["root cannot be mounted over"],
    "tarqet=/x": ["has the unknown key 'tarqet'", "did you mean target?"],
    "type=bind,src=/etc,dst=/x,readonyl": ["did you mean readonly?"],
    "type=bnid,src=/etc,dst=/x": ["has the unknown type 'bnid'", "did you mean bind?"],
    "type=zzz,dst=/x": ["has the unknown type 'zzz'", "use bind, volume, tmpfs, image"],
    "zzz": ["has the unknown key 'zzz'", "such as type=bind,source="],
    "type=bind,dst=/x": ["has no source"],
    "type=image,dst=/x": ["has no source"],
    "type=bind,src=etc,dst=/x": ["has the relative source 'etc'", "./etc"],
    "type=bind,src=,dst=/x": ["has an empty 'source'"],
    "type=bind,src=/a,src=/b,dst=/x": ["has 'source' twice"],
    "type=bind,src=/etc,dst=/x,source=/b": ["has 'source' twice"],
    "type=bind,src=/etc,dst=/x,volume-nocopy": ["has 'volume-nocopy', which is not for type=bind"],
    "type=bind,src=/etc,dst=/x,volume-opt=a=b": ["has 'volume-opt', which is not for type=bind"],
    "type=tmpfs,dst=/x,image-subpath=a": ["not for type=tmpfs"],
    "type=tmpfs,src=/etc,dst=/x": ["a tmpfs has none"],
    "type=tmpfs,dst=/x,tmpfs-size=big": ["'big' is not a size"],
    "type=tmpfs,dst=/x,tmpfs-mode=999": ["tmpfs-mode=999, which is no octal number"],
    "type=tmpfs,dst=/x,tmpfs-mode=77777": ["which is too large"],
    "type=bind,src=/etc,dst=/x,ro=maybe": ["readonly=maybe, neither true nor false"],
    "type=bind,src=/etc,dst=/x,bind-propagation=sharde": ["unknown bind-propagation=sharde", "rshared"],
    "type=bind,src=/etc,dst=/x,bind-recursive=some": ["unknown bind-recursive=some"],
    "type=bind,src=/etc,dst=/x,bind-recursive=readonly": ["without readonly"],
    "type=bind,src=/etc,dst=/x,ro,bind-recursive=readonly,bind-propagation=rslave": ["use rprivate"],
    "type=bind,src=/etc,dst=/x,bind-nonrecursive,bind-recursive=enabled": ["has both"],
    "src=../x,dst=/x": ["'../x' cannot be a volume name"],
    "src=x,dst=/x": ["'x' cannot be a volume name", "2 to 128"],
    "src=data,dst=/x,volume-subpath=/etc": ["volume-subpath=/etc, which leads out"],
    "src=data,dst=/x,volume-subpath=a/../../b": ["which leads out"],
    "dst=/x,volume-subpath=a": ["a subpath in a volume without a name"],
    "src=data,dst=/x,volume-opt=size": ["volume-opt 'size' is not KEY=VALUE"],
    "type=image,src=busybox,dst=/x,ro=false": ["images are mounted read-only"],
    'type=bind,"src=/etc': ["is not comma-separated"],
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_said_of_a_mount_that_means_nothing(text):
    with pytest.raises(InvalidArgument) as caught:
        mount_option.parse(text)
    said = f"{caught.value}; {caught.value.hint}"
    for words in WRONG[text]:
        assert words in said
    assert "\n" not in said


def test_a_bind_of_nothing_is_refused_and_a_volume_of_it_is_made():
    with pytest.raises(NotFound, match="no /nosuch on this host"):
        mount_option.parse("type=bind,src=/nosuch,dst=/x")
    assert add(volume=["/nosuch:/x"]).directories == ["/nosuch"]
    assert add(volume=["/etc:/x"]).directories == []


def add(**options):
    every = {"volume": (), "mount": (), "tmpfs": (), "volumes_from": (), "driver": None}
    return file_options.add(ContainerRequest(image="busybox"), **{**every, **options})


def test_volumes():
    found = add(volume=["/x", "data:/y:ro,nocopy,Z", "/etc:/z:rshared"], driver="btrfs")
    assert found.volumes == [
        VolumeRequest(VolumeMount("", "/x"), "btrfs"),
        VolumeRequest(VolumeMount("data", "/y", read_only=True, nocopy=True), "btrfs"),
    ]
    assert found.binds == [BindMount("/etc", "/z", propagation="rshared")]
    relative = add(volume=["./nosuch:/x"]).directories
    assert relative == [f"{os.getcwd()}/nosuch"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"volume": ["data"]}, "--volume 'data': the place in the container 'data' is not absolute"),
        ({"tmpfs": ["data:ro"]}, "--tmpfs 'data:ro': the place in the container 'data' is not absolute"),
        ({"mount": ["dst=data"]}, "--mount 'dst=data': the place in the container 'data' is not absolute"),
        ({"volume": ["data:/"]}, "--volume 'data:/': the container's root cannot be mounted over"),
        ({"volume": ["data:/x:ro,rw"]}, "--volume 'data:/x:ro,rw' has both ro and rw"),
        ({"volume": ["/etc:/x:slave,ro,shared"]}, "--volume '/etc:/x:slave,ro,shared' has both shared and slave"),
    ],
)
def test_what_is_said_of_a_wrong_place_or_mode(options, said):
    with pytest.raises(InvalidArgument) as caught:
        add(**options)
    assert str(caught.value) == said


def test_a_driver_that_a_mount_names_goes_before_that_of_all_volumes():
    found = add(mount=["src=data,dst=/x,volume-driver=overlay"], driver="btrfs")
    assert [one.storage for one in found.volumes] == ["overlay"]


def test_volumes_from():
    assert add(volumes_from=["web", "db:ro", "app:rw"]).volumes_from == [("web", False), ("db", True), ("app", False)]
