"""Archives of images: what other tools write loads here, and what is wrong with one leaves the store as it was."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import shutil
import subprocess
import sys
import tracemalloc

import pytest

from images import archives
from images.archives import (
    OCI_INDEX,
    OCI_MANIFEST,
    REF_NAME,
    Link,
    Parts,
    blob_name,
    descriptor,
    encode,
    gzipped,
    sha256,
)
from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound, PlugrunError, Unavailable
from plugrun.images import compression, members
from plugrun.images.store import ImageStore

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@pytest.fixture
def root(tmp_path):
    return tmp_path / "images"


@pytest.fixture
def store(root):
    return ImageStore(root)


def contents(store, image):
    """Everything the layers hold, checked by the store itself."""
    found = []
    for layer in image.layers:
        with store.open_layer(layer) as stream:
            found.append(stream.read())
    return found


# --- Archives of every kind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["docker", "oci"])
@pytest.mark.parametrize("pack", [bytes, gzipped, zstd.compress], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("outer", [bytes, gzip.compress, zstd.compress, lzma.compress], ids=["tar", "gz", "zst", "xz"])
def test_every_archive_kind_and_compression_loads(store, tmp_path, kind, pack, outer):
    suffix = {bytes: "", gzipped: "+gzip", zstd.compress: "+zstd"}[pack]
    parts = Parts(packed=pack, layer_type=archives.OCI_LAYER + suffix)
    archive = tmp_path / "archive"
    archive.write_bytes(outer(archives.tar(getattr(parts, kind)())))
    (loaded,) = store.load(str(archive))
    assert loaded.id == parts.id
    assert loaded.references == ("docker.io/library/example:1",)
    image = store.resolve("example:1")
    assert image.id == parts.id
    assert contents(store, image) == parts.layers
    assert {layer.media_type for layer in image.layers} == {archives.OCI_LAYER + suffix}


@pytest.mark.parametrize("pack", [bytes, gzipped], ids=["plain", "gzip"])
def test_a_layout_directory_loads(store, tmp_path, pack):
    parts = Parts(packed=pack)
    store.load(archives.write_directory(tmp_path / "layout", parts.oci()))
    assert contents(store, store.resolve("example:1")) == parts.layers


def test_stdin_loads_through_a_pipe(store, tmp_path, root):
    archive = archives.write_tar(tmp_path / "a.tar", Parts().docker())
    program = "import sys; from pathlib import Path; from plugrun.images.store import ImageStore as Store"
    program += "; Store(Path(sys.argv[1])).load(None)"
    with open(archive, "rb") as stream, subprocess.Popen(["cat"], stdin=stream, stdout=subprocess.PIPE) as cat:
        subprocess.run([sys.executable, "-c", program, root], stdin=cat.stdout, check=True)
    assert store.resolve("example:1").id == Parts().id


def test_an_archive_of_several_images_loads_them_all_and_keeps_shared_layers_once(store, root, tmp_path):
    shared, one, two = archives.layer({"s": b"s"}), archives.layer({"1": b"1"}), archives.layer({"2": b"2"})
    first, second = Parts([shared, one], "one:1").docker(), Parts([shared, two], "two:1").docker()
    entries = json.loads(first["manifest.json"]) + json.loads(second["manifest.json"])
    entries[1]["Layers"] = ["0/layer.tar", "2/layer.tar"]
    second["2/layer.tar"] = second.pop("1/layer.tar")
    merged = {**second, **first, "manifest.json": encode(entries)}
    store.load(archives.write_tar(tmp_path / "a.tar", merged))
    assert contents(store, store.resolve("one:1")) == [shared, one]
    assert contents(store, store.resolve("two:1")) == [shared, two]
    assert len(list((root / "blobs/sha256").iterdir())) == 3 + 2 + 2


def test_an_image_without_a_name_loads_by_id(store, tmp_path):
    for kind in ("docker", "oci"):
        parts = Parts(name=None, config={"created": kind})
        (loaded,) = store.load(archives.write_tar(tmp_path / kind, getattr(parts, kind)()))
        assert loaded.references == ()
        assert store.resolve(loaded.id).references == ()
        assert store.resolve(loaded.id.removeprefix("sha256:")[:12]).id == parts.id


def test_docker_saves_symbolic_links_between_layers_are_followed_inside_the_archive(store, tmp_path):
    files = Parts().docker()
    files["shared.tar"] = files["1/layer.tar"]
    files["1/layer.tar"] = Link("../shared.tar")
    store.load(archives.write_tar(tmp_path / "a.tar", files))
    assert contents(store, store.resolve("example:1")) == Parts().layers


def test_a_layout_inside_a_docker_archive_wins(store, tmp_path):
    parts = Parts(packed=gzipped, layer_type=archives.OCI_LAYER + "+gzip")
    both = parts.oci() | {"manifest.json": b"not even JSON"}
    index = json.loads(both["index.json"])
    # as docker save writes them: the tag alone, and the whole name beside it
    index["manifests"][0]["annotations"] = {REF_NAME: "1", "io.containerd.image.name": "docker.io/library/example:1"}
    both["index.json"] = encode(index)
    store.load(archives.write_tar(tmp_path / "a.tar", both))
    assert store.resolve("example:1").id == parts.id


def test_leading_dots_and_directories_in_the_archive_do_not_matter(store, tmp_path):
    directory = tmp_path / "layout"
    archives.write_directory(directory, Parts().oci())
    subprocess.run(["tar", "-C", directory, "-cf", tmp_path / "a.tar", "."], check=True)
    store.load(str(tmp_path / "a.tar"))
    assert store.resolve("example:1").id == Parts().id


# --- Several platforms ----------------------------------------------------------------------------------------------


def index_of(members, *entries):
    """Replace the index by one whose only entry is another index of ``entries``."""
    nested = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)})
    top = {"schemaVersion": 2, "manifests": [descriptor(OCI_INDEX, nested, annotations={REF_NAME: "example:1"})]}
    return members | {"index.json": encode(top), blob_name(nested): nested}


OTHER = {"os": "linux", "architecture": "s390x"}


def here():
    found = archives.config([])
    return {key: found[key] for key in ("os", "architecture", "variant") if key in found}


def test_the_image_for_this_machine_is_taken_from_a_nested_index(store, tmp_path):
    parts = Parts()
    raw = encode(parts.manifest())
    absent = descriptor(OCI_MANIFEST, b"absent", platform=OTHER)
    files = index_of(parts.oci(), absent, descriptor(OCI_MANIFEST, raw, platform=here()))
    store.load(archives.write_tar(tmp_path / "a.tar", files))
    assert store.resolve("example:1").manifest_digest == sha256(raw)


def test_the_image_for_this_machine_is_taken_from_a_flat_index(store, tmp_path):
    parts = Parts()
    files = parts.oci()
    mine = descriptor(OCI_MANIFEST, encode(parts.manifest()), platform=here(), annotations={REF_NAME: "example:1"})
    other = descriptor(OCI_MANIFEST, b"absent", platform=OTHER, annotations={REF_NAME: "example:1"})
    files["index.json"] = encode({"schemaVersion": 2, "manifests": [other, mine]})
    store.load(archives.write_tar(tmp_path / "a.tar", files))
    assert [image.id for image in store.list()] == [parts.id]


def layout_of(*images, **more):
    """A layout of several images; ``more`` goes into the entry of each."""
    files, entries = {}, []
    for parts in images:
        own = parts.oci()
        entries += [entry | more for entry in json.loads(own["index.json"])["manifests"]]
        files |= own
    return files | {"index.json": encode({"schemaVersion": 2, "manifests": entries})}


ONE, TWO = ([archives.layer({name: b""})] for name in "12")


@pytest.mark.parametrize("more", [{}, {"platform": here()}], ids=["without platforms", "same platform"])
@pytest.mark.parametrize("name", [None, "example:1"])
def test_images_of_one_platform_that_share_a_name_or_have_none_all_load(store, tmp_path, name, more):
    one, two = Parts(ONE, name), Parts(TWO, name)
    loaded = store.load(archives.write_tar(tmp_path / "a.tar", layout_of(one, two, **more)))
    assert [image.id for image in loaded] == [one.id, two.id]
    assert {image.id for image in store.list()} == {one.id, two.id}
    if name:
        assert loaded[1].replaced == {"docker.io/library/example:1": one.id}
        assert store.resolve(name).id == two.id


def test_nameless_images_of_other_platforms_are_left_out(store, tmp_path):
    files = layout_of(Parts(ONE, None), Parts(TWO, None), platform=here())
    index = json.loads(files["index.json"])
    index["manifests"].insert(1, descriptor(OCI_MANIFEST, b"absent", platform=OTHER))
    store.load(archives.write_tar(tmp_path / "a.tar", files | {"index.json": encode(index)}))
    assert {image.id for image in store.list()} == {Parts(ONE).id, Parts(TWO).id}


# The grammar of image-spec, annotations.md, allows all of these.
@pytest.mark.parametrize("label", ["V1.0", "v1.0+build", "my-App", "a--b@c:d", "x@" + "0" * 64])
def test_a_label_that_is_no_reference_makes_no_name(store, tmp_path, label):
    parts = Parts(name=label)
    (loaded,) = store.load(archives.write_tar(tmp_path / "a.tar", parts.oci()))
    assert (loaded.id, loaded.references, loaded.label) == (parts.id, (), label)
    assert store.resolve(parts.id).references == ()


# --- What is wrong with archives ------------------------------------------------------------------------------------


def changed(members, name, content):
    assert name in members
    return members | {name: content}


def without(members, name):
    assert name in members
    return {key: value for key, value in members.items() if key != name}


def docker(**changes):
    """A docker-archive whose manifest.json entry has other values."""
    files = Parts().docker()
    entry = json.loads(files["manifest.json"])[0] | changes
    return files | {"manifest.json": encode([entry])}


def nested_twice():
    files = Parts().oci()
    manifest = json.loads(files["index.json"])["manifests"][0]
    files = index_of(files, manifest)
    for _ in range(2):
        files = index_of(files, json.loads(files["index.json"])["manifests"][0])
    return files


DOCKER, OCI, FOREIGN = Parts().docker(), Parts().oci(), Parts(config=OTHER)
LAYER0, LAYER1 = Parts().layers
CONFIG_NAME = Parts().id.removeprefix("sha256:") + ".json"
NAMED_BY_DIGEST = Parts(name="example@" + sha256(b"another"))

WRONG = {
    "no manifest": (without(DOCKER, "manifest.json"), "holds no image"),
    "an image that is only a root file system": ({"etc/passwd": b"x"}, "holds no image"),
    "docker save of 2014": ({"repositories": b"{}", "1/layer.tar": b""}, "holds no image"),
    "no images": (changed(DOCKER, "manifest.json", b"[]"), "holds no image"),
    "an object for a list": (changed(DOCKER, "manifest.json", b"{}"), "not a list"),
    "a list of numbers": (changed(DOCKER, "manifest.json", b"[1]"), "not a list"),
    "no JSON": (changed(DOCKER, "manifest.json", b"<html>"), "not valid JSON"),
    "deep JSON": (changed(DOCKER, "manifest.json", b"[" * 100_000), "nested too deeply"),
    "endless JSON": (changed(DOCKER, "manifest.json", b" " * (5 << 20)), "larger than 4 MiB"),
    "keys twice": (changed(DOCKER, "manifest.json", b'[{"Config": "a", "Config": "b"}]'), "appears twice"),
    "keys that only Go reads": (docker(layers=[]), "ambiguous"),
    "a missing layer": (without(DOCKER, "0/layer.tar"), "'0/layer.tar'.* is missing"),
    "a missing configuration": (without(DOCKER, CONFIG_NAME), "is missing"),
    "a layer of the host": (docker(Layers=["../../etc/shadow", "1/layer.tar"]), "is missing"),
    "an absolute layer": (docker(Layers=["/etc/shadow", "1/layer.tar"]), "is missing"),
    "a configuration of the host": (docker(Config="/etc/shadow"), "is missing"),
    "a layer that is a directory": (docker(Layers=["0/", "1/layer.tar"]), "is missing"),
    "one layer too few": (docker(Layers=["0/layer.tar"]), "1 layer files and 2 diff ids"),
    "one layer too many": (docker(Layers=["0/layer.tar"] * 3), "3 layer files and 2 diff ids"),
    "10,000 layers": (docker(Layers=["0/layer.tar"] * 10_000), "10000 layer files"),
    "swapped layers": (docker(Layers=["1/layer.tar", "0/layer.tar"]), "is corrupt"),
    "a flipped layer byte": (changed(DOCKER, "0/layer.tar", LAYER0[:700] + b"X" + LAYER0[701:]), "is corrupt"),
    "a shorter layer": (changed(DOCKER, "0/layer.tar", LAYER0[:-512]), "is corrupt"),
    "a longer layer": (changed(DOCKER, "0/layer.tar", LAYER0 + bytes(512)), "is corrupt"),
    "a gzip layer cut short": (changed(DOCKER, "0/layer.tar", gzipped(LAYER0)[:-9]), "ends too early"),
    "a gzip layer of other bytes": (changed(DOCKER, "0/layer.tar", gzipped(LAYER1)), "is corrupt"),
    "an xz layer": (changed(DOCKER, "0/layer.tar", lzma.compress(LAYER0)), "xz compression is not for layers"),
    "a flipped configuration byte": (
        changed(DOCKER, CONFIG_NAME, DOCKER[CONFIG_NAME].replace(b"A=b", b"A=c")),
        "is corrupt",
    ),
    "a configuration that is none": (changed(docker(Config="c"), "manifest.json", docker(Config="c")["manifest.json"])
                                     | {"c": b"{}"}, "no image configuration"),
    "another architecture": (FOREIGN.docker(), "for linux/s390x, and this machine is"),
    "an invalid name": (docker(RepoTags=["Example:1"]), "lower case"),
    "a name with control characters": (docker(RepoTags=["x\x1b]0;y\x07"]), "invalid image reference"),
    "a name with a digest": (docker(RepoTags=["x@" + sha256(b"")]), "cannot vouch for"),
    "a layer that is a link to the host": (changed(DOCKER, "0/layer.tar", Link("/etc/hostname")), "leaves the archive"),
    "a layer that is a link up": (changed(DOCKER, "0/layer.tar", Link("../../x")), "leaves the archive"),
    "a layer that is a link to itself": (changed(DOCKER, "0/layer.tar", Link("layer.tar")), "in a loop"),
    "a layer that is a link to nothing": (changed(DOCKER, "0/layer.tar", Link("x")), "is missing"),
    "a layer that is a hard link": (
        changed(DOCKER, "0/layer.tar", Link("/etc/hostname", hard=True)),
        "is a hard link, not a file",
    ),
    "a manifest that is a link to the host": (changed(DOCKER, "manifest.json", Link("/etc/passwd")), "holds no image"),
    "a member outside": (DOCKER | {"../x": b""}, "lies outside"),
    "a member in the middle outside": (DOCKER | {"a/../../x": b""}, "lies outside"),
    "an absolute member": (DOCKER | {"/x": b""}, "lies outside"),
    "a member twice": (DOCKER | {"./manifest.json": b"[]"}, "two members named"),
    "a blob whose name is too long": (DOCKER | {"blobs/sha512/" + "0" * 64: b""}, "is not sha256"),
    # OCI layouts
    "no index": (without(OCI, "index.json"), "holds no image"),
    "an empty index": (changed(OCI, "index.json", encode({"schemaVersion": 2, "manifests": []})), "holds no image"),
    "a newer layout": (changed(OCI, "oci-layout", b'{"imageLayoutVersion":"2.0.0"}'), "'2.0.0' is not 1.0.0"),
    "an index that is a manifest": (changed(OCI, "index.json", encode(Parts().manifest())), "announced as"),
    "a missing manifest": (without(OCI, blob_name(encode(Parts().manifest()))), "is missing"),
    "a missing blob": (without(OCI, blob_name(LAYER0)), "is missing"),
    "a flipped blob byte": (changed(OCI, blob_name(LAYER0), LAYER0[:700] + b"X" + LAYER0[701:]), "is corrupt"),
    "a flipped manifest byte": (changed(OCI, blob_name(encode(Parts().manifest())), b"{}"), "is corrupt"),
    "a shorter blob": (changed(OCI, blob_name(LAYER0), LAYER0[:-1]), "is corrupt"),
    "a blob that is a link to the host": (changed(OCI, blob_name(LAYER0), Link("/etc/hostname")), "leaves"),
    "a wrong size": (
        Parts().oci(Parts().manifest() | {"layers": [descriptor(archives.OCI_LAYER, LAYER0) | {"size": 7}] * 2}),
        "not 7",
    ),
    "a wrong diff id": (Parts(config={"rootfs": {"type": "layers", "diff_ids": [sha256(b"x"), sha256(b"y")]}}).oci(),
                        "is corrupt"),
    "fewer diff ids": (Parts(config={"rootfs": {"type": "layers", "diff_ids": [sha256(LAYER0)]}}).oci(),
                       "has 1 layers"),
    "a path for a digest": (
        Parts().oci(Parts().manifest() | {"layers": [descriptor(archives.OCI_LAYER, b"") | {"digest": "sha256:../x"}]}),
        "is not sha256",
    ),
    "an ambiguous manifest": (Parts().oci(Parts().manifest() | {"manifests": []}), "fields of both"),
    "keys of the manifest twice": (
        Parts().oci(data=b'{"schemaVersion": 2, "config": {}, "config": {}, "layers": []}'),
        "appears twice",
    ),
    "an unknown layer type": (Parts(layer_type="application/x-squashfs").oci(), "'application/x-squashfs' is not one"),
    "a foreign layer": (Parts(layer_type="application/vnd.oci.image.layer.nondistributable.v1.tar").oci(), "foreign"),
    "a chart": (
        Parts().oci(Parts().manifest() | {"config": descriptor("application/vnd.cncf.helm.config.v1+json", b"{}")}),
        "no container image",
    ),
    "another architecture in a layout": (FOREIGN.oci(), "for linux/s390x, and this machine is"),
    "only other architectures": (index_of(OCI, descriptor(OCI_MANIFEST, b"x", platform=OTHER)), "only for linux/s390x"),
    "an index in an index in an index": (nested_twice(), "nested more than twice"),
    "a name with the digest of another image": (NAMED_BY_DIGEST.oci(), "cannot be given to"),
    "an invalid name of containerd's in a layout": (
        changed(OCI, "index.json", OCI["index.json"].replace(REF_NAME.encode(), b"io.containerd.image.name")
                .replace(b"example:1", b"v1.0+build")),
        "invalid image reference",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_archive_is_one_clear_line_and_leaves_the_store_as_it_was(store, root, tmp_path, wrong):
    files, reason = WRONG[wrong]
    good = Parts([archives.layer({"good": b"good"})], "example:1")
    store.load(archives.write_tar(tmp_path / "good.tar", good.docker()))
    before = archives.tree(root)
    with pytest.raises((InvalidArgument, FailedPrecondition), match=reason) as caught:
        store.load(archives.write_tar(tmp_path / "a.tar", files))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert archives.tree(root) == before


@pytest.mark.parametrize("wrong", [name for name, (files, _) in WRONG.items() if files.keys() & {"oci-layout"}])
def test_a_wrong_directory_too(store, root, tmp_path, wrong):
    files, _ = WRONG[wrong]
    before = archives.tree(root)
    with pytest.raises((InvalidArgument, FailedPrecondition)) as caught:
        store.load(archives.write_directory(tmp_path / "layout", files))
    assert "\n" not in str(caught.value)
    after = archives.tree(root)
    assert {name for name in after if "blobs/sha" in name and not name.endswith(("sha256", "sha512"))} == set()
    assert before == {}


def test_the_honest_archives_that_the_wrong_ones_are_made_of_load(store, tmp_path):
    for number, files in enumerate(
        (docker(), Parts().oci(), index_of(OCI, json.loads(OCI["index.json"])["manifests"][0]))
    ):
        store.load(archives.write_tar(tmp_path / f"{number}", files))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"hello, world\n" * 100, "no tar archive"),
        (b"x", "no tar archive"),
        (bytes(10240), "holds no image"),
        (os.urandom(20_000), "no tar archive"),
        (archives.tar(DOCKER)[:3000], "archive is truncated"),
        (gzip.compress(archives.tar(DOCKER))[:-20], "ends too early"),
        (gzip.compress(archives.tar(DOCKER)) + b"x", "corrupt|too early"),
        (gzip.compress(b"hello"), "no tar archive"),
        (b"\x1f\x8bnonsense", "corrupt"),
        (b"\x28\xb5\x2f\xfdnonsense", "corrupt"),
    ],
    ids=["empty", "text", "one byte", "zeros", "noise", "cut", "gzip cut", "gzip and more", "gzip text", "gz?", "zst?"],
)
def test_what_is_no_archive_is_refused(store, root, tmp_path, data, reason):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(InvalidArgument, match=reason) as caught:
        store.load(str(tmp_path / "a"))
    assert "\n" not in str(caught.value)
    assert not list((root / "blobs/sha256").iterdir())
    assert os.listdir(root / "ingest") == ["lock"]


def test_a_truncated_archive_is_refused_wherever_it_is_cut(store, root, tmp_path):
    whole = archives.tar(Parts().oci())
    end = whole.rstrip(b"\0")
    for length in range(512, len(end), 1500):
        (tmp_path / "a").write_bytes(whole[:length])
        with pytest.raises(InvalidArgument):
            store.load(str(tmp_path / "a"))
    assert not list((root / "blobs/sha256").iterdir())


def test_what_is_no_file_is_refused(store, tmp_path):
    with pytest.raises(NotFound, match="no such file"):
        store.load(str(tmp_path / "absent"))
    with pytest.raises(InvalidArgument, match=r"directory .* holds no image"):
        store.load(str(tmp_path))
    with pytest.raises(InvalidArgument, match="is a device"):
        store.load("/dev/zero")


def test_a_fifo_in_a_layout_directory_is_not_waited_for(store, tmp_path):
    directory = tmp_path / "layout"
    archives.write_directory(directory, Parts().oci())
    victim = directory / blob_name(LAYER0)
    victim.unlink()
    os.mkfifo(victim)
    with pytest.raises(InvalidArgument, match="not a regular file"):
        store.load(str(directory))


def test_a_link_in_a_layout_directory_cannot_reach_out_of_it(store, tmp_path):
    (tmp_path / "secret").write_bytes(LAYER0)
    directory = tmp_path / "layout"
    archives.write_directory(directory, Parts().oci())
    victim = directory / blob_name(LAYER0)
    victim.unlink()
    victim.symlink_to(tmp_path / "secret")
    assert victim.read_bytes() == LAYER0  # the control: anybody who follows links gets it
    with pytest.raises(InvalidArgument, match="cannot be read"):
        store.load(str(directory))


def test_an_outer_bomb_ends_at_the_cap(store, root, tmp_path, monkeypatch):
    monkeypatch.setattr(compression, "RATIO_FREE", 8 << 20)
    (tmp_path / "a").write_bytes(gzip.compress(archives.tar({"a": bytes(16 << 20)})))
    with pytest.raises(InvalidArgument, match="more than 200 times its size"):
        store.load(str(tmp_path / "a"))
    assert os.listdir(root / "ingest") == ["lock"]


def test_a_layer_bomb_ends_at_the_cap(store, root, tmp_path, monkeypatch):
    monkeypatch.setattr(compression, "RATIO_FREE", 8 << 20)
    parts = Parts([archives.layer({"a": bytes(16 << 20)})], packed=gzipped)
    with pytest.raises(InvalidArgument, match="more than 200 times its size"):
        store.load(archives.write_tar(tmp_path / "a", parts.docker()))
    assert not list((root / "blobs/sha256").iterdir())


def test_an_archive_of_too_many_members_is_refused(store, tmp_path, monkeypatch):
    monkeypatch.setattr(members, "_LIMITS", members.Limits(members=50))
    files = DOCKER | {str(number): b"" for number in range(50)}
    with pytest.raises(InvalidArgument, match="more than 50 members"):
        store.load(archives.write_tar(tmp_path / "a", files))


@pytest.mark.parametrize("kind", ["tar", "directory"])
def test_an_endless_document_is_not_even_read(store, tmp_path, kind):
    files = Parts().oci() | {"index.json": b" " * (48 << 20)}
    write = archives.write_tar if kind == "tar" else archives.write_directory
    source = write(tmp_path / "a", files)
    del files
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgument, match="larger than 4 MiB"):
            store.load(source)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.root
def test_a_full_disk_is_one_clear_line_and_nothing_stays(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        store = ImageStore(small / "images")
        archive = archives.write_tar(tmp_path / "a", Parts([archives.layer({"a": os.urandom(2 << 20)})]).docker())
        with pytest.raises(Unavailable, match="No space left on device"):
            store.load(archive)
        assert os.listdir(small / "images/ingest") == ["lock"]
        assert store.list() == []
    finally:
        subprocess.run(["umount", small], check=True)


# --- Other tools ----------------------------------------------------------------------------------------------------

needs_skopeo = pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
needs_umoci = pytest.mark.skipif(not shutil.which("umoci"), reason="umoci is not installed")


def tool(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def layout(tmp_path):
    """An OCI layout as umoci makes it, with a gzip layer."""
    directory = tmp_path / "umoci"
    (tmp_path / "root").mkdir()
    (tmp_path / "root/hello").write_text("hello")
    tool("umoci", "init", "--layout", str(directory))
    tool("umoci", "new", "--image", f"{directory}:v1")
    tool("umoci", "insert", "--image", f"{directory}:v1", str(tmp_path / "root"), "/")
    tool("umoci", "config", "--image", f"{directory}:v1", "--config.cmd", "/hello")
    return directory


@needs_umoci
@needs_skopeo
@pytest.mark.parametrize("target", ["docker-archive:{}:made/elsewhere:v2", "oci-archive:{}:made/elsewhere:v2"])
@pytest.mark.parametrize("packing", [[], ["--dest-compress-format", "zstd"]], ids=["gzip", "zstd"])
def test_what_umoci_and_skopeo_write_loads(store, layout, tmp_path, target, packing):
    archive = tmp_path / "archive.tar"
    if packing and "oci" in target:  # docker-archive has no such choice, and neither has the archive transport
        tool("skopeo", "copy", *packing, f"oci:{layout}:v1", f"oci:{tmp_path}/zstd:made/elsewhere:v2")
        archive = tmp_path / "zstd"
    else:
        tool("skopeo", "copy", f"oci:{layout}:v1", target.format(archive))
    store.load(str(archive))
    image = store.resolve("made/elsewhere:v2")
    assert image.config.cmd == ("/hello",)
    assert b"hello" in contents(store, image)[0]


@needs_umoci
def test_a_layout_directory_of_umoci_loads(store, layout):
    (loaded,) = store.load(str(layout))
    assert loaded.references == ("docker.io/library/v1:latest",)
    assert store.resolve("v1").config.cmd == ("/hello",)


@needs_umoci
@needs_skopeo
def test_skopeo_and_umoci_read_the_store(store, root, tmp_path):
    from plugrun.images.importer import ImportOptions

    (tmp_path / "fs.tar").write_bytes(archives.tar({"hello": b"hello"}))
    image = store.import_tar(str(tmp_path / "fs.tar"), ImportOptions(reference="Host.example:5000/a/b:v1"))
    name = "Host.example:5000/a/b:v1"
    seen = json.loads(tool("skopeo", "inspect", f"oci:{root}:{name}"))
    assert seen["Digest"] == image.manifest_digest
    assert seen["Layers"] == [layer.digest for layer in image.layers]
    tool("skopeo", "copy", f"oci:{root}:{name}", f"docker-archive:{tmp_path}/out.tar:x:1")
    tool("umoci", "stat", "--image", f"{root}:{name}")
    tool("umoci", "raw", "unpack", "--rootless", "--image", f"{root}:{name}", str(tmp_path / "unpacked"))
    assert (tmp_path / "unpacked/hello").read_bytes() == b"hello"
    assert "Host.example:5000/a/b:v1" in tool("umoci", "ls", "--layout", str(root))


@needs_skopeo
def test_what_skopeo_copies_into_the_store_is_found(store, root, tmp_path):
    store.load(archives.write_tar(tmp_path / "a", Parts().oci()))
    archives.write_directory(tmp_path / "other", Parts(name="v1", config={"created": "x"}).oci())
    tool("skopeo", "copy", f"oci:{tmp_path}/other:v1", f"oci:{root}:docker.io/library/copied:1")
    assert store.resolve("copied:1").config.created
    assert store.resolve("example:1").id == Parts().id


def test_errors_name_the_source(store, tmp_path):
    archive = archives.write_tar(tmp_path / "broken.tar", without(DOCKER, "0/layer.tar"))
    with pytest.raises(PlugrunError, match=r"broken\.tar"):
        store.load(archive)
