"""Archives that are written: what is in them, the same bytes every time, and nothing of a damaged image."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from images import archives
from images.archives import REF_NAME, Parts, gzipped, sha256
from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound
from plugrun.images import ingest, layout, media
from plugrun.images.platform import Platform, host
from plugrun.images.save import Archive, Kind, _header
from plugrun.images.store import ImageStore

CONTAINERD_NAME = "io.containerd.image.name"
BASE = archives.layer({"base": b"base" * 500})
ONE = Parts([BASE, archives.layer({"one": b"1"})], "app:1")
TWO = Parts([BASE], "app:2", config={"author": "2"}, packed=gzipped, layer_type=f"{archives.OCI_LAYER}+gzip")
OTHER = Parts([BASE], "registry.example/other:latest", config={"author": "3"})


@pytest.fixture
def store(tmp_path):
    """A store with three images that share a layer."""
    store = ImageStore(tmp_path / "images")
    for number, image in enumerate((ONE, TWO, OTHER)):
        store.load(archives.write_tar(tmp_path / f"{number}.tar", image.oci()))
    return store


def save(store, *wanted, kind=Kind.DOCKER, platform=None, out=None, tell=lambda *_: None):
    written = io.BytesIO()
    store.save(wanted, Archive(out or written.write, tell, kind, platform))
    return written.getvalue()


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {one.name: archive.extractfile(one).read() if one.isfile() else b"" for one in archive.getmembers()}


def names(data):
    """Every name in the index, and every name for docker load."""
    files = members(data)
    index = json.loads(files["index.json"])["manifests"]
    docker = json.loads(files["manifest.json"])
    return (
        [entry.get("annotations", {}).get(CONTAINERD_NAME) for entry in index],
        [entry["RepoTags"] for entry in docker],
    )


def test_one_archive_is_a_layout_and_what_docker_loads(store):
    files = members(save(store, "app:1"))
    manifest = archives.encode(ONE.manifest())
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    name = "docker.io/library/app:1"
    assert json.loads(files["index.json"]) == {
        "schemaVersion": 2,
        "mediaType": media.OCI_INDEX,
        "manifests": [
            archives.descriptor(media.OCI_MANIFEST, manifest, annotations={CONTAINERD_NAME: name, REF_NAME: name})
        ],
    }
    (docker,) = json.loads(files["manifest.json"])
    assert docker["RepoTags"] == ["app:1"]
    assert files[docker["Config"]] == ONE.config_bytes
    assert [files[layer] for layer in docker["Layers"]] == ONE.layers
    blobs = {name for name in files if name.count("/") == 2}
    assert blobs == {archives.blob_name(data) for data in (manifest, ONE.config_bytes, *ONE.layers)}
    assert all(archives.blob_name(files[name]) == name for name in blobs)


def test_an_oci_archive_has_only_the_layout(store):
    docker, oci = (members(save(store, "app:1", kind=kind)) for kind in Kind)
    assert docker.keys() - oci.keys() == {"manifest.json"}
    assert oci.items() <= docker.items()


def test_shared_layers_are_written_once_and_names_stay_with_their_images(store):
    data = save(store, "app:1", "app:2", "registry.example/other")
    assert list(members(data)).count(archives.blob_name(BASE)) == 1
    assert data.count(BASE[:1024]) == 1
    assert names(data)[0] == ["docker.io/library/app:1", "docker.io/library/app:2", "registry.example/other:latest"]
    files = members(data)
    by_tag = {entry["RepoTags"][0]: entry for entry in json.loads(files["manifest.json"])}
    assert {tag: sha256(files[entry["Config"]]) for tag, entry in by_tag.items()} == {
        "app:1": ONE.id,
        "app:2": TWO.id,
        "registry.example/other:latest": OTHER.id,
    }


@pytest.mark.parametrize(
    ("wanted", "index", "docker"),
    [
        (["app:1"], ["docker.io/library/app:1"], [["app:1"]]),
        (["stable"], ["docker.io/library/stable:latest"], [["stable:latest"]]),
        (
            ["stable", "app:1"],
            ["docker.io/library/app:1", "docker.io/library/stable:latest"],
            [["app:1", "stable:latest"]],
        ),
        ([ONE.id], [None], [None]),
        ([ONE.id, "app:1"], ["docker.io/library/app:1"], [["app:1"]]),
        (["app"], ["docker.io/library/app:1", "docker.io/library/app:2"], [["app:1"], ["app:2"]]),
    ],
)
def test_the_words_of_the_command_decide_about_names(store, wanted, index, docker):
    store.tag(store.resolve("app:1"), "stable")
    found = names(save(store, *wanted))
    assert found[0] == index
    assert sorted(found[1], key=str) == docker


def test_a_name_with_a_digest_is_none_for_docker(store, tmp_path):
    digest = store.resolve("app:1").manifest_digest
    pinned = Parts(ONE.layers, f"pinned@{digest}")
    store.load(archives.write_tar(tmp_path / "pinned.tar", pinned.oci()))
    assert names(save(store, f"pinned@{digest}")) == ([f"docker.io/library/pinned@{digest}"], [None])
    assert store.resolve(f"pinned@{digest}").id == ONE.id
    store.tag(store.resolve("app:1"), "pinned:1")
    assert names(save(store, "pinned")) == (["docker.io/library/pinned:1"], [["pinned:1"]])  # it is no tag either


def test_the_same_images_make_the_same_bytes(store, tmp_path):
    first = save(store, "app:1", "app:2")
    again = ImageStore(tmp_path / "again")
    (tmp_path / "first.tar").write_bytes(first)
    again.load(str(tmp_path / "first.tar"))
    assert save(again, "app:2", "app:1", "app") == first
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        found = archive.getmembers()
    assert [one.name for one in found] == sorted(one.name for one in found)
    assert {(one.mtime, one.uid, one.gid, one.uname, one.gname) for one in found} == {(0, 0, 0, "", "")}
    assert len(first) % 10_240 == 0


def test_nothing_is_written_of_what_is_not_there(store):
    with pytest.raises(NotFound):
        save(store, "app:1", "absent", out=lambda _: pytest.fail("wrote"))
    with pytest.raises(InvalidArgument):
        save(store, "APP", out=lambda _: pytest.fail("wrote"))


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"X" + BASE[1:])])
def test_nothing_is_written_of_a_damaged_image(store, tmp_path, damage):
    damage(layout.blob_path(tmp_path / "images", sha256(BASE)))
    with pytest.raises(FailedPrecondition, match=sha256(BASE)) as refused:
        save(store, "app:1", out=lambda _: pytest.fail("wrote"))
    assert refused.value.hint == "load the image again"


def test_an_image_can_be_removed_while_it_is_written(store, tmp_path):
    whole = save(store, "app:1")
    written = io.BytesIO()

    def write(data):
        if not written.tell():
            store.remove("app:1", force=False, in_use=lambda _: [])
        written.write(data)

    save(store, "app:1", out=write)
    assert written.getvalue() == whole
    assert not layout.blob_path(tmp_path / "images", ONE.id).exists()  # the control
    assert [path.name for path in (tmp_path / "images/ingest").iterdir()] == ["lock"]


def test_memory_stays_flat_and_progress_is_told(tmp_path):
    store = ImageStore(tmp_path / "images")
    big = Parts([archives.layer({"big": bytes(5 << 20)})], "big")
    store.load(archives.write_tar(tmp_path / "big.tar", big.docker()))
    sizes, told = [], []
    save(store, "big", out=lambda data: sizes.append(len(data)), tell=lambda *what: told.append(what))
    assert max(sizes) == 1 << 20
    assert told[0] == ("Checking", 0, 3)
    assert told[-1][0] == "Saving"
    assert told[-1][1] >= told[-1][2] > 5 << 20
    assert [done for what, done, _ in told if what == "Saving"] == sorted(
        done for what, done, _ in told if what == "Saving"
    )


def test_a_platform_is_insisted_on(store):
    assert save(store, "app:1", platform=host()) == save(store, "app:1")
    with pytest.raises(NotFound, match=rf"app:1 is for {host()}, and there is none for plan9/386"):
        save(store, "app:1", platform=Platform("plan9", "386"), out=lambda _: pytest.fail("wrote"))


def test_an_error_of_the_writer_leaves_nothing_in_the_store(store, tmp_path):
    def fail(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(store, "app:1", out=fail)
    assert [path.name for path in (tmp_path / "images/ingest").iterdir()] == ["lock"]


def test_a_blob_that_no_ustar_header_holds_has_its_size():
    header = _header("blobs/sha256/x", 9 << 30)
    with tarfile.open(fileobj=io.BytesIO(header)) as archive:
        assert archive.firstmember.size == 9 << 30
    assert len(header) % 512 == 0


def test_chunks_are_those_of_the_blob(store, tmp_path):
    with ingest.session(tmp_path / "images", recover=lambda: None) as work:
        assert work.pin(sha256(BASE), len(BASE))
        assert b"".join(bytes(chunk) for chunk in work.chunks(sha256(BASE), 100)) == BASE
