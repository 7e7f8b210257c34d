"""What a push takes from the image store."""

from __future__ import annotations

import json
import os

import pytest

from images import archives
from images.archives import Parts
from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound
from plugrun.images import layout, reference
from plugrun.images.store import ImageStore
from plugrun.registry import outgoing

NAME = "a.com/team/app"


@pytest.fixture
def store(tmp_path):
    return ImageStore(tmp_path / "images")


@pytest.fixture
def load(store, tmp_path):
    """Load an image under some names; return it taken apart."""

    def load(*tags, parts=None):
        parts = parts or Parts(name=None)
        path = archives.write_tar(tmp_path / "archive.tar", parts.oci())
        store.load(path)
        for name in tags:
            store.tag(store.resolve(parts.id), name)
        return parts

    return load


def damage(store, data):
    """Return the path of a blob, for damaging it."""
    return layout.blob_path(store.root, archives.sha256(data))


def test_a_name_is_one_reference_its_tag_defaulting(store, load):
    load(f"{NAME}:latest", f"{NAME}:1", "busybox")
    assert outgoing.references(store, NAME) == [reference.parse(NAME)]
    assert outgoing.references(store, f"{NAME}:1") == [reference.parse(f"{NAME}:1")]
    assert outgoing.references(store, "busybox") == [reference.parse("docker.io/library/busybox:latest")]


def test_all_tags_are_those_of_this_name(store, load):
    load(f"{NAME}:1", f"{NAME}:2", "a.com/team/app2:3", "b.com/team/app:4")
    entries = layout.read_index(store.root)
    pinned = {layout.REF_NAME: f"{NAME}@{entries[0].digest}"}  # as a pull by digest leaves it
    layout.write_index(store.root, [*entries, entries[0]._replace(annotations=pinned)])
    found = outgoing.references(store, NAME, all_tags=True)
    assert [ref.tag for ref in found] == ["1", "2"]
    with pytest.raises(InvalidArgument, match="has a tag") as caught:
        outgoing.references(store, f"{NAME}:1", all_tags=True)
    assert caught.value.hint == f"push {NAME}"
    with pytest.raises(NotFound, match=r"no image a\.com/team/none with any tag"):
        outgoing.references(store, "a.com/team/none", all_tags=True)
    with pytest.raises(InvalidArgument, match="has a digest"):
        outgoing.references(store, f"{NAME}@{archives.sha256(b'')}", all_tags=True)


def test_what_is_no_name_is_refused_with_what_to_do(store, load):
    parts = load(f"{NAME}:1")
    digest = store.resolve(parts.id).manifest_digest
    for name in (f"{NAME}@{digest}", f"{NAME}:1@{digest}", parts.id, parts.id[7:], parts.id[7:19], digest):
        for all_tags in (False, True) if "/" in name and ":1" not in name else (False,):
            with pytest.raises(InvalidArgument) as caught:
                outgoing.references(store, name, all_tags=all_tags)
            assert "plugrun tag" in caught.value.hint


def test_what_is_not_there_is_not_found(store, load):
    load(f"{NAME}:1")
    for name in (f"{NAME}:2", "a.com/team/other", "abc"):
        with pytest.raises(NotFound, match="no image"):
            outgoing.references(store, name)
    with pytest.raises(NotFound, match="no image"):
        outgoing.read(store.root, reference.parse(f"{NAME}:2"))


def test_the_manifest_is_as_it_came(store, load):
    parts = Parts(name=None)
    data = json.dumps(parts.manifest(), indent=7).encode()
    load(parts=parts)  # so that the layers are there
    path = f"{store.root.parent}/archive2.tar"
    with open(path, "wb") as archive:
        archive.write(archives.tar(parts.oci(data=data)))
    other = ImageStore(store.root.parent / "other")
    other.load(path)
    other.tag(other.resolve(parts.id), NAME)
    image = outgoing.read(other.root, reference.parse(NAME))
    assert (image.data, image.manifest.digest) == (data, archives.sha256(data))
    assert image.manifest.media_type == archives.OCI_MANIFEST
    contents = [parts.config_bytes, *parts.layers]
    assert [blob.digest for blob in image.blobs] == [archives.sha256(item) for item in contents]
    for blob, content in zip(image.blobs, contents, strict=True):
        with outgoing.open_blob(other.root, blob.digest) as stream:
            assert stream.read() == content


def test_a_layer_that_is_there_twice_goes_once(store, load):
    one = archives.layer({"a": b"a"})
    load(NAME, parts=Parts([one, archives.layer({"b": b"b"}), one], name=None))
    assert len(outgoing.read(store.root, reference.parse(NAME)).blobs) == 3


@pytest.mark.parametrize("which", ["config", "layer"])
def test_all_of_it_must_be_there(store, load, which):
    parts = load(NAME)
    path = damage(store, parts.config_bytes if which == "config" else parts.layers[1])
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(
        FailedPrecondition, match=f"blob sha256:{path.name} of {NAME}:latest has .* bytes, not"
    ) as caught:
        outgoing.read(store.root, reference.parse(NAME))
    assert caught.value.hint == "load or pull the image again"
    path.unlink()
    with pytest.raises(FailedPrecondition, match=f"blob sha256:{path.name} of {NAME}:latest is missing"):
        outgoing.read(store.root, reference.parse(NAME))
    with pytest.raises(FailedPrecondition, match=f"blob sha256:{path.name} is missing"):
        outgoing.open_blob(store.root, f"sha256:{path.name}")


def test_a_damaged_manifest_does_not_leave(store, load):
    load(NAME)
    (entry,) = layout.read_index(store.root)
    path = layout.blob_path(store.root, entry.digest)
    data = path.read_bytes()
    path.write_bytes(data.replace(b": ", b" :", 1))  # means the same, and is another document
    with pytest.raises(FailedPrecondition, match=f"the manifest of {NAME}:latest in the image store is damaged"):
        outgoing.read(store.root, reference.parse(NAME))


def test_a_blob_that_is_a_link_is_not_followed(store, load, tmp_path):
    parts = load(NAME)
    path = damage(store, parts.layers[0])
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FailedPrecondition, match="symbolic links"):
        outgoing.open_blob(store.root, f"sha256:{path.name}")


def test_of_an_index_this_machines_image_goes(store, load):
    parts = load("other.com/x")
    entry = layout.read_index(store.root)[0]
    config = json.loads(parts.config_bytes)
    here = {"os": config["os"], "architecture": config["architecture"]}
    there = archives.descriptor(archives.OCI_MANIFEST, b"absent", platform={"os": "plan9", "architecture": "mips"})
    mine = {"mediaType": archives.OCI_MANIFEST, "digest": entry.digest, "size": entry.size, "platform": here}
    data = archives.encode({"schemaVersion": 2, "mediaType": archives.OCI_INDEX, "manifests": [there, mine]})
    damage(store, data).write_bytes(data)
    annotations = {layout.REF_NAME: f"{NAME}:latest"}
    index = archives.descriptor(archives.OCI_INDEX, data, annotations=annotations)
    content = json.loads((store.root / "index.json").read_text())
    content["manifests"].append(index)
    (store.root / "index.json").write_text(json.dumps(content))
    image = outgoing.read(store.root, reference.parse(NAME))
    assert image.manifest.digest == entry.digest
    assert len(image.blobs) == 3


def test_neighbours_are_other_repositories_of_the_same_registry(store, load):
    shared = archives.layer({"shared": b"s" * 100})
    load("a.com/x:1", "a.com/x:2", "b.com/y", NAME, parts=Parts([shared], name=None))
    load("a.com/z", parts=Parts([shared, archives.layer({"z": b"z"})], name=None))
    found = outgoing.neighbours(store.root, reference.parse(NAME))
    assert found[archives.sha256(shared)] == ["x", "z"]
    assert all("y" not in repositories for repositories in found.values())
    assert outgoing.neighbours(store.root, reference.parse("c.com/x")) == {}


def test_a_damaged_neighbour_does_not_matter(store, load):
    load("a.com/x")
    good = load("a.com/z", parts=Parts([archives.layer({"z": b"z"})], name=None))
    os.unlink(layout.blob_path(store.root, store.resolve("a.com/x").manifest_digest))
    found = outgoing.neighbours(store.root, reference.parse(NAME))
    assert found[archives.sha256(good.layers[0])] == ["z"]
