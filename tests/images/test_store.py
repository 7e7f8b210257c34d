"""The content store: names, ids, removal, several processes at once, and processes that are killed."""

from __future__ import annotations

import json
import lzma
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from images import archives
from images.archives import REF_NAME, Parts, gzipped, sha256
from plugrun import locks
from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound
from plugrun.images import garbage, ingest, layout, names
from plugrun.images.importer import ImportOptions
from plugrun.images.store import ImageStore, Removed

BASE = archives.layer({"base": b"base" * 500})


def parts(name, *more, **changes):
    """An image on the common base layer."""
    return Parts([BASE, *more], name, **changes)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "images"


@pytest.fixture
def store(root):
    return ImageStore(root)


@pytest.fixture
def load(store, tmp_path):
    def add(image, kind="docker"):
        path = tmp_path / "archive.tar"
        path.write_bytes(archives.tar(getattr(image, kind)()))
        (loaded,) = store.load(str(path))
        return loaded

    return add


def blobs(root):
    return {f"sha256:{name}" for name in os.listdir(root / "blobs/sha256")}


def unused(image_id):
    return []


# --- Finding images -------------------------------------------------------------------------------------------------


def test_an_image_is_found_by_every_way_to_name_it(store, load):
    loaded = load(parts("busybox:1.36"))
    image = store.resolve("busybox:1.36")
    digits = loaded.id.removeprefix("sha256:")
    repository = "docker.io/library/busybox"
    for name in (
        "docker.io/library/busybox:1.36",
        loaded.id,
        digits,
        digits[:12],
        digits[:3],
        f"sha256:{digits[:8]}",
        image.manifest_digest,
        f"busybox@{image.manifest_digest}",
        f"{repository}:other@{image.manifest_digest}",  # the digest decides
    ):
        assert store.resolve(name) == image, name


@pytest.mark.parametrize(
    "name",
    ["absent", "busybox", "busybox:1.37", "ffffffffffff", "sha256:" + "0" * 64, "0" * 64, "busybox@sha256:" + "0" * 64],
)
def test_what_is_not_there_is_not_found_and_says_what_to_do(store, load, name):
    load(parts("busybox:1.36"))
    with pytest.raises(NotFound, match="no image") as caught:
        store.resolve(name)
    other = name.startswith("busybox")
    assert str(caught.value.hint).startswith("there is busybox:1.36; " if other else "plugrun images lists ")


def test_of_many_tags_some_are_told(store, load):
    for tag in "edcba":
        load(parts(f"app:{tag}"))
    load(parts("other:1"))
    with pytest.raises(NotFound) as caught:
        store.resolve("app")
    assert caught.value.hint == "there is app:a, app:b, app:c, and more; plugrun pull fetches others"


def test_a_name_with_a_digest_is_what_is_removed_not_a_tag_of_that_digest(store, load):
    load(parts("app:1"), "oci")
    pinned = f"docker.io/library/app@{store.resolve('app:1').manifest_digest}"
    load(parts(pinned), "oci")
    assert store.resolve(pinned) == store.resolve("app:1")
    assert store.remove(pinned, force=False, in_use=unused) == [Removed(untagged=pinned)]
    assert store.resolve("app:1").references == ("docker.io/library/app:1",)


def test_a_digest_of_another_repository_is_not_found(store, load):
    load(parts("one:1"))
    image = store.resolve("one:1")
    with pytest.raises(NotFound):
        store.resolve(f"two@{image.manifest_digest}")


def test_names_that_can_be_none_say_why(store):
    with pytest.raises(InvalidArgument, match="lower case"):
        store.resolve("BusyBox")


def test_a_beginning_that_fits_several_ids_is_ambiguous(store, load):
    ids: dict[str, str] = {}
    number = 0
    while True:  # two images whose ids begin with the same digit
        image = parts(f"i:{number}", config={"author": str(number)})
        digit = image.id.removeprefix("sha256:")[0]
        load(image)
        if digit in ids:
            break
        ids[digit] = image.id
        number += 1
    with pytest.raises(InvalidArgument, match="ambiguous"):
        store.resolve(f"sha256:{digit}")


def test_a_name_wins_over_an_id_that_begins_alike(store, load):
    first = load(parts("one:1"))
    prefix = first.id.removeprefix("sha256:")[:6]
    second = load(parts(f"{prefix}:latest", config={"author": "2"}))
    assert store.resolve(prefix).id == second.id


def test_an_empty_store_reads_as_empty_and_is_not_made(store, root):
    assert store.list() == []
    with pytest.raises(NotFound):
        store.resolve("busybox")
    assert not root.exists()


def test_finding_by_name_reads_three_files(store, load, root, monkeypatch):
    for number in range(5):
        load(parts(f"i:{number}", config={"author": str(number)}))
    read, opened = Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda path: (opened.append(path), read(path))[1])
    store.resolve("i:3")
    assert len(opened) == 3


# --- Names -------------------------------------------------------------------------------------------------------


def test_a_name_moves_and_the_image_that_had_it_stays_by_id(store, load):
    first = load(parts("app:1"))
    second = load(parts("app:1", config={"author": "2"}))
    assert second.replaced == {"docker.io/library/app:1": first.id}
    assert store.resolve("app:1").id == second.id
    assert store.resolve(first.id).references == ()


def test_an_image_with_another_name_keeps_it_when_one_moves(store, load):
    first = load(parts("app:1"))
    store.tag(store.resolve("app:1"), "app:stable")
    second = load(parts("app:1", config={"author": "2"}))
    assert store.resolve("app:stable").id == first.id
    assert store.resolve("app:1").id == second.id
    assert len(store.list()) == 2


def test_loading_again_changes_nothing(store, load, root):
    load(parts("app:1"))
    before = archives.tree(root)
    assert load(parts("app:1")).replaced == {}
    assert archives.tree(root) == before


def test_the_same_image_packed_differently_replaces_its_blobs(store, load, root):
    load(parts("app:1"))
    before = blobs(root)
    packed = parts("app:1", packed=gzipped, layer_type=archives.OCI_LAYER + "+gzip")
    assert load(packed, "oci").replaced == {}
    assert len(store.list()) == 1
    assert len(blobs(root)) == len(before)
    assert sha256(BASE) not in blobs(root)


def test_an_image_that_is_there_gets_no_second_nameless_entry(store, load, root):
    load(parts("app:1"))
    before = blobs(root)
    load(parts(None))
    load(parts(None, packed=gzipped), "oci")
    assert len(store.list()) == 1
    assert blobs(root) == before


def test_a_name_with_a_digest_is_never_given_to_another_image(store, load, root):
    first = parts("app:1")
    digest = sha256(archives.encode(first.manifest()))
    first.name = f"app@{digest}"
    load(first, "oci")
    before = archives.tree(root)
    with pytest.raises(InvalidArgument, match="cannot be given to"):
        load(parts(f"app@{digest}", config={"author": "mallory"}), "oci")
    assert archives.tree(root) == before
    assert store.resolve(f"app@{digest}").id == first.id


def test_tagging(store, load):
    image = load(parts("app:1"))
    store.tag(store.resolve("app:1"), "localhost:5000/app")
    found = store.resolve("localhost:5000/app")
    assert found.id == image.id
    assert found.references == ("docker.io/library/app:1", "localhost:5000/app:latest")
    with pytest.raises(InvalidArgument, match="has a digest"):
        store.tag(found, f"app@{found.manifest_digest}")
    store.remove(found.id, force=True, in_use=unused)
    with pytest.raises(NotFound, match="has been removed"):
        store.tag(found, "app:2")


def test_untagging_leaves_the_image(store, load, root):
    image = load(parts("app:1"))
    store.tag(store.resolve("app:1"), "app:2")
    before = blobs(root)
    store.untag("app:1")
    assert store.resolve(image.id).references == ("docker.io/library/app:2",)
    store.untag("docker.io/library/app:2")
    assert store.resolve(image.id).references == ()
    assert blobs(root) == before
    store.tag(store.resolve(image.id), "app:3")
    assert [entry.annotations for entry in layout.read_index(root)] == [{REF_NAME: "docker.io/library/app:3"}]


def test_untagging_takes_names_and_nothing_else(store, load, root):
    image = load(parts("app:1"))
    before = archives.tree(root)
    digest = store.resolve("app:1").manifest_digest
    for wrong in ("app:2", image.id.removeprefix("sha256:")[:12], f"app@{digest}"):
        with pytest.raises(NotFound, match="no image is named"):
            store.untag(wrong)
    with pytest.raises(InvalidArgument, match="image id, not a name"):
        store.untag(image.id.removeprefix("sha256:"))
    assert archives.tree(root) == before


# --- More names than the index may hold -----------------------------------------------------------------------------


def tagged(tmp_path, *tags):
    """A docker-archive of one image with many names."""
    files = parts(None).docker()
    (entry,) = json.loads(files["manifest.json"])
    return archives.write_tar(
        tmp_path / "many.tar", files | {"manifest.json": archives.encode([entry | {"RepoTags": tags}])}
    )


def test_a_load_of_too_many_names_is_refused_before_anybody_has_to_wait(store, root, load, tmp_path, monkeypatch):
    load(parts("good:1"))
    before = archives.tree(root)
    archive = tagged(tmp_path, *(f"a:{number}" for number in range(1001)))
    monkeypatch.setattr(store, "_locked", lambda: pytest.fail("takes the lock"))
    with pytest.raises(InvalidArgument, match="1001 names"):
        store.load(archive)
    assert archives.tree(root) == before


@pytest.mark.parametrize("length", [5, 200], ids=["entries", "bytes"])
def test_an_index_that_could_not_be_read_again_is_not_written(store, root, load, length):
    load(parts("good:1"))
    (good,) = layout.read_index(root)
    repository = f"docker.io/library/{'x' * length}"
    many = [good._replace(annotations={REF_NAME: f"{repository}:{number:0128}"}) for number in range(9_999)]
    one = len(layout.encode_index(many[:2])) - len(layout.encode_index(many[:1]))
    del many[((4 << 20) - len(layout.encode_index([good]))) // one :]
    layout.write_index(root, [good, *many])
    before, image = archives.tree(root), store.resolve("good:1")
    new = parts(f"{repository}.new:{0:0128}", archives.layer({"n": b"n"}))
    with pytest.raises(FailedPrecondition, match="no room for more names") as refused:
        store.tag(image, new.name)
    assert "plugrun rmi" in str(refused.value.hint)
    with pytest.raises(FailedPrecondition, match="no room for more names"):
        load(new)
    assert archives.tree(root) == before
    assert store.list() == [image]
    for entry in many[:2]:
        store.remove(entry.annotations[REF_NAME], force=False, in_use=unused)
    load(new)


def test_giving_names_takes_time_in_proportion(store, tmp_path, monkeypatch):
    store.load(tagged(tmp_path, *(f"a:{number}" for number in range(1000))))
    asked = []
    name_of = names.name_of
    monkeypatch.setattr(names, "name_of", lambda entry: (asked.append(entry), name_of(entry))[1])
    store.load(tagged(tmp_path, *(f"b:{number}" for number in range(1000))))
    assert len(asked) < 10_000


def test_a_name_that_another_tool_gave_twice_has_one_owner_after_the_next_change(store, root, load):
    load(parts("a:1"))
    load(parts("b:1", config={"author": "b"}))
    index = json.loads((root / "index.json").read_text())
    index["manifests"][1]["annotations"] = index["manifests"][0]["annotations"]
    (root / "index.json").write_text(json.dumps(index))
    third = load(parts("a:1", config={"author": "c"}))
    assert store.resolve("a:1").id == third.id
    assert sorted(image.references for image in store.list()) == [(), (), ("docker.io/library/a:1",)]


def test_a_layer_that_an_image_has_twice_is_counted_once(store, load, root):
    load(parts("app:1", BASE))
    assert store.resolve("app:1").size == sum(layout.blob_path(root, digest).stat().st_size for digest in blobs(root))


# --- Removal --------------------------------------------------------------------------------------------------------


def test_removing_the_last_name_deletes_what_no_other_image_needs(store, load, root):
    own = archives.layer({"own": b"own"})
    kept = load(parts("kept:1"))
    everything = blobs(root)
    gone = load(parts("gone:1", own))
    assert store.remove("gone:1", force=False, in_use=unused) == [
        Removed(untagged="docker.io/library/gone:1"),
        Removed(deleted=gone.id),
    ]
    assert blobs(root) == everything
    with store.open_layer(store.resolve(kept.id).layers[0]) as stream:
        assert stream.read() == BASE


def test_removing_one_of_two_names_only_takes_the_name(store, load, root):
    image = load(parts("app:1"))
    store.tag(store.resolve("app:1"), "app:2")
    before = blobs(root)
    assert store.remove("app:1", force=False, in_use=unused) == [Removed(untagged="docker.io/library/app:1")]
    assert blobs(root) == before
    assert store.resolve(image.id).references == ("docker.io/library/app:2",)


def test_removing_by_id_with_two_names_needs_force(store, load, root):
    image = load(parts("app:1"))
    store.tag(store.resolve("app:1"), "app:2")
    with pytest.raises(FailedPrecondition, match=r"several names: app:1, app:2"):
        store.remove(image.id, force=False, in_use=unused)
    removed = store.remove(image.id, force=True, in_use=unused)
    assert removed[-1] == Removed(deleted=image.id)
    assert len(removed) == 3
    assert blobs(root) == set()


def test_an_image_in_use_needs_force_unless_another_name_remains(store, load):
    image = load(parts("app:1"))
    asked = []

    def used(image_id):
        asked.append(image_id)
        return ["web", "db"]

    with pytest.raises(FailedPrecondition, match="in use by containers web, db"):
        store.remove("app:1", force=False, in_use=used)
    assert asked == [image.id]
    assert store.resolve("app:1").id == image.id
    store.tag(store.resolve("app:1"), "app:2")
    store.remove("app:1", force=False, in_use=used)
    assert store.remove("app:2", force=True, in_use=used)[-1] == Removed(deleted=image.id)


def test_removing_what_is_not_there(store):
    with pytest.raises(NotFound):
        store.remove("absent", force=True, in_use=unused)


def test_a_damaged_image_is_named_left_out_and_removable(store, load, root):
    load(parts("good:1"))
    bad = load(parts("bad:1", archives.layer({"bad": b""})))
    victim = store.resolve("bad:1").manifest_digest
    layout.blob_path(root, victim).unlink()
    with pytest.raises(FailedPrecondition, match="missing") as caught:
        store.resolve("bad:1")
    assert "plugrun rmi bad:1" in str(caught.value.hint)
    told = []
    assert [image.references for image in store.list(damaged=told.append)] == [("docker.io/library/good:1",)]
    assert len(told) == 1
    assert "bad:1" in told[0]
    store.remove("bad:1", force=False, in_use=unused)
    assert [image.references for image in store.list()] == [("docker.io/library/good:1",)]
    assert bad.id


def test_while_one_image_is_damaged_no_blob_of_unknown_use_is_deleted(store, load, root):
    load(parts("good:1"))
    load(parts("bad:1", archives.layer({"bad": b""})))
    layout.blob_path(root, store.resolve("bad:1").manifest_digest).unlink()
    before = blobs(root)
    store.remove("good:1", force=False, in_use=unused)
    garbage.collect_orphans(root)
    assert blobs(root) == before


def test_pruning_deletes_what_is_unwanted_and_nothing_that_others_need(store, load, root):
    kept = load(parts("kept:1"))
    everything = blobs(root)
    gone = load(parts("gone:1", archives.layer({"gone": b"gone"})))
    store.tag(store.resolve("gone:1"), "gone:2")
    freed = sum(layout.blob_path(root, digest).stat().st_size for digest in blobs(root) - everything)
    asked = []
    removed, size = store.prune(lambda image: (asked.append(image.references), image.id == gone.id)[1])
    assert removed == [
        Removed(untagged="docker.io/library/gone:1"),
        Removed(untagged="docker.io/library/gone:2"),
        Removed(deleted=gone.id),
    ]
    assert size == freed
    assert blobs(root) == everything
    assert sorted(asked) == [
        ("docker.io/library/gone:1", "docker.io/library/gone:2"),
        ("docker.io/library/kept:1",),
    ]
    assert [image.id for image in store.list()] == [kept.id]


def test_pruning_nothing_changes_nothing(store, load, root):
    assert store.prune(lambda image: True) == ((), 0)
    load(parts("app:1"))
    before = archives.tree(root)
    assert store.prune(lambda image: False) == ((), 0)
    assert archives.tree(root) == before


def test_pruning_asks_while_nobody_else_can_change_the_store(store, load, root):
    load(parts("app:1"))
    taken = []
    store.prune(lambda image: taken.append(locks.try_acquire(root / "lock")) or False)
    assert taken == [None]


def test_pruning_leaves_damaged_images_to_be_looked_at(store, load, root):
    load(parts("good:1"))
    load(parts("bad:1", archives.layer({"bad": b""})))
    layout.blob_path(root, store.resolve("bad:1").manifest_digest).unlink()
    removed, _ = store.prune(lambda image: True)
    assert [one.untagged for one in removed if one.untagged] == ["docker.io/library/good:1"]
    assert [names.name_of(entry) for entry in layout.read_index(root)] == ["docker.io/library/bad:1"]


# --- Layers -----------------------------------------------------------------------------------------------------


def test_a_layer_that_changed_on_the_disk_fails_at_its_end(store, load, root):
    load(parts("app:1"))
    layer = store.resolve("app:1").layers[0]
    with store.open_layer(layer) as stream:
        assert stream.read() == BASE  # the control
    path = layout.blob_path(root, layer.digest)
    path.write_bytes(BASE[:600] + b"X" + BASE[601:])
    with store.open_layer(layer) as stream, pytest.raises(InvalidArgument, match="is corrupt"):
        stream.read()
    path.write_bytes(BASE[:-1])
    with store.open_layer(layer) as stream, pytest.raises(InvalidArgument, match="cut short"):
        stream.read()
    path.unlink()
    with pytest.raises(FailedPrecondition, match="is missing"):
        store.open_layer(layer)


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


DAMAGE = {"cut": lambda path: path.write_bytes(b""), "flip": lambda path: flip(path, -1)}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("packed", [bytes, gzipped], ids=["plain", "gzip"])
@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_loading_again_mends_every_damaged_blob(store, load, root, kind, packed, damage):
    image = parts("app:1", packed=packed)
    load(image, kind)
    before = archives.tree(root)
    for digest in blobs(root):
        DAMAGE[damage](layout.blob_path(root, digest))
        assert archives.tree(root) != before
        load(image, kind)
        assert archives.tree(root) == before, digest


def test_a_blob_that_was_pinned_with_another_size_is_not_taken_for_it(store, load, root):
    load(parts("app:1"))
    with ingest.session(root, recover=lambda: None) as work:
        assert work.pin(sha256(BASE), len(BASE))
        assert work.pin(sha256(BASE), len(BASE))
        assert not work.pin(sha256(BASE), len(BASE) + 1)


# --- Import ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzipped, lzma.compress], ids=["tar", "gz", "xz"])
def test_a_root_file_system_becomes_an_image_of_one_layer(store, tmp_path, pack):
    (tmp_path / "fs").write_bytes(pack(BASE))
    options = ImportOptions(
        reference="mine:1",
        message="by hand",
        changes=(
            'CMD ["sh", "-c", "true"]',
            "entrypoint /bin/init --flag",
            "ENV A=b C='d e'",
            "ENV A=z",
            "ENV OLD way of it",
            "EXPOSE 80 53/udp 8000-8002",
            "LABEL l=m",
            "USER 1000:1000",
            "VOLUME /data /more",
            "WORKDIR /srv",
            "WORKDIR www/../html",
            "STOPSIGNAL SIGINT",
        ),
    )
    image = store.import_tar(str(tmp_path / "fs"), options)
    config = image.config
    assert image.references == ("docker.io/library/mine:1",)
    assert config.cmd == ("sh", "-c", "true")
    assert config.entrypoint == ("/bin/sh", "-c", "/bin/init --flag")
    assert config.env == ("A=z", "C=d e", "OLD=way of it")
    assert set(config.exposed_ports) == {"80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp"}
    assert config.labels == {"l": "m"}
    assert (config.user, config.workdir, config.stop_signal) == ("1000:1000", "/srv/html", "SIGINT")
    assert set(config.volumes) == {"/data", "/more"}
    assert config.history[0].comment == "by hand"
    with store.open_layer(image.layers[0]) as stream:
        assert stream.read() == BASE


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("RUN rm -rf /", "no instruction known here"),
        ("", "no instruction known here"),
        ("CMD", "has no value"),
        ("ENV A", "is not key=value"),
        ("ENV =x", "is not key=value"),
        ("ENV A='b", "cannot be read"),
        ("EXPOSE 0", "is not a port"),
        ("EXPOSE 99999", "is not a port"),
        ("EXPOSE x/tcp", "is not a port"),
        ("LABEL l", "is not key=value"),
        ("STOPSIGNAL rm -rf", "is not a signal"),
        ("USER a\0b", "has no value"),
    ],
)
def test_changes_that_are_none_are_refused(store, root, tmp_path, change, reason):
    (tmp_path / "fs").write_bytes(BASE)
    with pytest.raises(InvalidArgument, match=reason):
        store.import_tar(str(tmp_path / "fs"), ImportOptions(changes=(change,)))
    assert blobs(root) == set()


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"reference": "Upper"}, InvalidArgument, "lower case"),
        ({"reference": "x@" + sha256(b"")}, InvalidArgument, "not a digest"),
        ({"message": "caf\udce9"}, InvalidArgument, "holds half a character"),
        ({"platform": "linux"}, InvalidArgument, "os/architecture"),
        ({"platform": "linux/s390x"}, FailedPrecondition, "for linux/s390x, and this machine is"),
    ],
)
def test_import_options_that_make_no_sense_are_refused(store, root, tmp_path, options, error, reason):
    (tmp_path / "fs").write_bytes(BASE)
    with pytest.raises(error, match=reason):
        store.import_tar(str(tmp_path / "fs"), ImportOptions(**options))
    assert blobs(root) == set()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"no tar at all", "no tar archive"),
        (BASE[:1000], "no tar archive, or damaged"),
        (bytes(10240), "holds no files"),
        (gzipped(BASE)[:-5], "ends too early"),
    ],
)
def test_what_is_no_root_file_system_is_refused(store, root, tmp_path, data, reason):
    (tmp_path / "fs").write_bytes(data)
    with pytest.raises(InvalidArgument, match=reason):
        store.import_tar(str(tmp_path / "fs"), ImportOptions())
    assert blobs(root) == set()
    with pytest.raises(InvalidArgument, match="is a directory"):
        store.import_tar(str(tmp_path), ImportOptions())


# --- Several processes ----------------------------------------------------------------------------------------------

PRELUDE = """
import os, signal, sys
from pathlib import Path
from plugrun.images import layout
from plugrun.images.store import ImageStore
store = ImageStore(Path(sys.argv[1]))
"""


def start(program, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", PRELUDE + program, *map(str, arguments)], **options)


def test_processes_that_load_at_once_lose_nothing(store, root, tmp_path):
    images = [f"i:{number}" for number in range(4)]
    for number, name in enumerate(images):
        archives.write_tar(tmp_path / name, parts(name, archives.layer({"n": bytes([number])})).docker())
    loading = "for path in sys.argv[2:]: store.load(path)"
    orders = [images, images[::-1], images]
    running = [start(loading, root, *(tmp_path / name for name in order)) for order in orders]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert {image.references for image in store.list()} == {(f"docker.io/library/{name}",) for name in images}
    assert os.listdir(root / "ingest") == ["lock"]
    assert len(blobs(root)) == 4 * 3 + 1


def test_blobs_are_published_and_named_under_the_lock_that_removals_take(root, load, monkeypatch):
    seen = []

    def look(*arguments):
        seen.append(locks.try_acquire(root / "lock"))

    publish, write = ingest.Ingest.publish, layout.write_index
    monkeypatch.setattr(ingest.Ingest, "publish", lambda *values: (look(), publish(*values)))
    monkeypatch.setattr(layout, "write_index", lambda *values: (look(), write(*values)))
    load(parts("app:1"))
    assert seen == [None, None]


def test_blobs_that_a_load_took_over_survive_their_removal(store, root, tmp_path, load):
    old = load(parts("old:1"))
    with ingest.session(root, recover=lambda: None) as work:
        assert work.pin(sha256(BASE), len(BASE))
        store.remove(old.id, force=True, in_use=unused)
        assert sha256(BASE) not in blobs(root)
        work.publish([sha256(BASE)])
    assert sha256(BASE) in blobs(root)


# --- Processes that are killed ---------------------------------------------------------------------------------------


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_a_load_killed_in_the_middle_leaves_a_store_that_works(store, root, tmp_path, load):
    load(parts("good:1"))
    index = (root / "index.json").read_bytes()
    before = blobs(root)
    big = archives.tar(parts("big:1", archives.layer({"n": os.urandom(4 << 20)})).docker())
    process = start("store.load(None)", root, stdin=subprocess.PIPE)
    process.stdin.write(big[: 3 << 20])
    process.stdin.flush()
    area = root / "ingest"
    wait_until(lambda: any(path.stat().st_size >= 1 << 20 for path in area.glob("*/new-*")))
    process.kill()
    process.wait()
    process.stdin.close()
    assert len(os.listdir(area)) == 2  # the control: something was left
    assert (root / "index.json").read_bytes() == index
    assert store.resolve("good:1").references
    load(parts("good:1"))
    assert os.listdir(area) == ["lock"]
    assert blobs(root) == before


def test_a_load_killed_before_the_index_leaves_blobs_that_the_next_one_removes(store, root, tmp_path, load):
    load(parts("good:1"))
    before = blobs(root)
    archive = archives.write_tar(tmp_path / "b", parts("bad:1", archives.layer({"n": b"n"})).docker())
    killed = start(
        "layout.write_index = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\nstore.load(sys.argv[2])", root, archive
    )
    assert killed.wait(60) == -signal.SIGKILL
    assert len(blobs(root)) == len(before) + 3  # the control: blobs that no image names
    with pytest.raises(NotFound):
        store.resolve("bad:1")
    load(parts("good:1"))
    assert blobs(root) == before
    store.load(archive)
    assert store.resolve("bad:1").references


@pytest.mark.parametrize("next_one", ["load", "remove"])
def test_a_removal_killed_after_the_index_leaves_blobs_that_the_next_one_removes(store, root, load, next_one):
    load(parts("good:1"))
    before = blobs(root)
    load(parts("other:1", archives.layer({"o": b"o"})))
    kept = blobs(root)
    load(parts("bad:1", archives.layer({"n": b"n"})))
    killed = start(
        "Path.unlink = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "store.remove('bad:1', force=False, in_use=lambda _: [])",
        root,
    )
    assert killed.wait(60) == -signal.SIGKILL
    assert len(blobs(root)) == len(kept) + 3  # the control: blobs that no image names
    with pytest.raises(NotFound):
        store.resolve("bad:1")
    if next_one == "load":
        load(parts("good:1"))
        assert blobs(root) == kept
    else:
        store.remove("other:1", force=False, in_use=unused)
        assert blobs(root) == before
    assert os.listdir(root / "ingest") == ["lock"]


def interrupted(monkeypatch, where, name):
    """Interrupt the next call of a function, once."""

    def interrupt(*arguments, **options):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(where, name, interrupt)


def test_a_load_that_cannot_name_its_blobs_leaves_none(root, load, monkeypatch):
    load(parts("good:1"))
    before = blobs(root)
    interrupted(monkeypatch, layout, "write_index")
    with pytest.raises(KeyboardInterrupt):
        load(parts("bad:1", archives.layer({"n": b"n"})))
    assert blobs(root) == before


REMOVALS = {
    "remove": lambda store: store.remove("bad:1", force=False, in_use=unused),
    "prune": lambda store: store.prune(lambda image: "docker.io/library/bad:1" in image.references),
}


@pytest.mark.parametrize("remove", REMOVALS.values(), ids=REMOVALS)
def test_a_removal_that_is_interrupted_after_the_index_leaves_no_blobs(store, root, load, monkeypatch, remove):
    load(parts("good:1"))
    before = blobs(root)
    load(parts("bad:1", archives.layer({"n": b"n"})))
    interrupted(monkeypatch, garbage, "collect")
    with pytest.raises(KeyboardInterrupt):
        remove(store)
    with pytest.raises(NotFound):
        store.resolve("bad:1")
    assert blobs(root) == before


def test_leftovers_stay_while_another_load_runs(store, root, load):
    load(parts("good:1"))
    with ingest.session(root, recover=lambda: None):
        (root / "ingest/left").mkdir()
        load(parts("good:1"))
        assert (root / "ingest/left").exists()
    load(parts("good:1"))
    assert not (root / "ingest/left").exists()


# --- What other tools wrote into the store ---------------------------------------------------------------------------


def test_an_entry_whose_name_is_no_reference_does_no_harm(store, root, load):
    load(parts("good:1"))
    index = json.loads((root / "index.json").read_text())
    index["manifests"].append(index["manifests"][0] | {"annotations": {REF_NAME: "WEIRD\x1b[2J"}})
    (root / "index.json").write_text(json.dumps(index))
    assert len(store.list()) == 1
    assert store.resolve("good:1").references[1] == "WEIRD\x1b[2J"
    with pytest.raises(NotFound):
        store.resolve("other@" + sha256(b""))
