"""The content store after a power cut: what was loaded is there, whole."""

from __future__ import annotations

import os

import pytest

from images import archives
from images.archives import Parts, sha256
from plugrun import paths
from plugrun.errors import PlugrunError
from plugrun.images import layout
from plugrun.images.ingest import Ingest
from plugrun.images.store import ImageStore

pytestmark = pytest.mark.root


def leave_blobs_unwritten(monkeypatch):
    monkeypatch.setattr(Ingest, "sync", lambda *_: None)


def leave_index_unwritten(monkeypatch):
    sync = os.fsync

    def fsync(descriptor):
        if not os.readlink(f"/proc/self/fd/{descriptor}").endswith(".index.json.new"):
            sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def leave_names_unwritten(monkeypatch):
    monkeypatch.setattr(paths, "sync_directory", lambda _: None)


GUARDS = {"blobs": leave_blobs_unwritten, "index": leave_index_unwritten, "names": leave_names_unwritten}


@pytest.mark.parametrize(
    ("change", "without"),
    [
        *((change, without) for change in ("first load", "second load") for without in ("", *GUARDS)),
        *(("tag", without) for without in ("", "index", "names")),
    ],
)
def test_what_was_loaded_survives_a_power_cut(disk, tmp_path, monkeypatch, change, without):
    """And does not when one of the guards is missing, so this test would notice."""
    one, two = (Parts([archives.layer({name: os.urandom(100_000)})], f"{name}:1") for name in ("one", "two"))
    files = {parts.name: archives.write_tar(tmp_path / parts.name, parts.docker()) for parts in (one, two)}
    place = disk.mount(disk.image, "before")
    store = ImageStore(place / "images")
    if change != "first load":
        store.load(files["one:1"])
    os.sync()
    if without:
        GUARDS[without](monkeypatch)
    expected = {"docker.io/library/one:1": one.id}
    if change == "tag":
        store.tag(store.resolve("one:1"), "tagged:1")
        expected["docker.io/library/tagged:1"] = one.id
    elif change == "second load":
        store.load(files["two:1"])
        expected["docker.io/library/two:1"] = two.id
    else:
        store.load(files["one:1"])
    blobs = set(layout.blobs(place / "images"))
    assert intact(disk.after_power_cut() / "images", expected, blobs) == (not without)


def intact(root, expected, blobs):
    """Whether a store has exactly these names, and every blob with its content."""
    try:
        names = {name: image.id for image in ImageStore(root).list() for name in image.references}
        return names == expected and all(sha256(layout.blob_path(root, blob).read_bytes()) == blob for blob in blobs)
    except (PlugrunError, OSError):
        return False
