"""The store's directory: an OCI layout that only its owner can enter, replaced in whole steps."""

from __future__ import annotations

import itertools
import json
import os
import stat

import pytest

from images import archives
from images.archives import Parts
from plugrun.errors import FailedPrecondition
from plugrun.images import layout
from plugrun.images.manifest import Descriptor
from plugrun.images.platform import Platform
from plugrun.images.store import ImageStore
from plugrun.testing.processes import run_interleaved


@pytest.fixture(params=[0o000, 0o077], ids=["umask 000", "umask 077"])
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_nobody_else_can_look_into_the_store_whatever_the_umask(tmp_path, umask):
    (tmp_path / "a").write_bytes(archives.tar(Parts().docker()))
    (tmp_path / "a").chmod(0o600)
    ImageStore(tmp_path / "images").load(str(tmp_path / "a"))
    for path in [tmp_path / "images", *(tmp_path / "images").rglob("*")]:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.lstat().st_mode) == wanted, path


def test_processes_that_make_the_store_at_once_do_not_disturb_each_other(tmp_path):
    for step in itertools.count(1):
        root = tmp_path / f"{step}/images"
        outcomes = run_interleaved(step, lambda root=root: layout.ensure(root), lambda root=root: layout.ensure(root))
        if outcomes is None:
            break
        assert outcomes == ("ok", "ok"), f"with one held before its step {step}"
        assert (root / "oci-layout").read_bytes() == b'{"imageLayoutVersion":"1.0.0"}'
    assert step > 10


def test_the_index_comes_back_as_it_was_written(tmp_path):
    layout.ensure(tmp_path)
    entries = [
        Descriptor("application/vnd.oci.image.manifest.v1+json", archives.sha256(b"1"), 1, {"a": "b"}),
        Descriptor(
            "application/vnd.oci.image.index.v1+json", archives.sha256(b"2"), 2, {}, Platform("linux", "arm", "v7")
        ),
    ]
    layout.write_index(tmp_path, entries)
    assert layout.read_index(tmp_path) == entries
    assert sorted(os.listdir(tmp_path)) == ["blobs", "index.json", "lock", "oci-layout"]


def test_no_layout_is_an_empty_one(tmp_path):
    assert layout.read_index(tmp_path / "absent") == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schemaVersion": 2, "layers": [], "config": {}}'])
def test_a_damaged_index_says_what_to_do(tmp_path, content):
    layout.ensure(tmp_path)
    (tmp_path / "index.json").write_bytes(content)
    with pytest.raises(FailedPrecondition, match="the image store is damaged") as caught:
        layout.read_index(tmp_path)
    assert str(tmp_path / "index.json") in str(caught.value.hint)


def test_a_reader_sees_the_old_or_the_new_index_and_a_link_is_never_followed(tmp_path):
    layout.ensure(tmp_path)
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".index.json.new").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        layout.write_index(tmp_path, [])
    assert (tmp_path / "victim").read_text() == "precious"
    (tmp_path / ".index.json.new").unlink()
    (tmp_path / ".index.json.new").write_text("half of what a killed process wro")
    layout.write_index(tmp_path, [])
    assert json.loads((tmp_path / "index.json").read_text())["manifests"] == []


def test_blobs_of_another_size_are_not_used(tmp_path):
    layout.ensure(tmp_path)
    digest = archives.sha256(b"right")
    layout.blob_path(tmp_path, digest).write_bytes(b"right")
    assert layout.read_blob(tmp_path, digest, 5) == b"right"
    with pytest.raises(FailedPrecondition, match="has 5 bytes, not 6"):
        layout.read_blob(tmp_path, digest, 6)
    with pytest.raises(FailedPrecondition, match="is missing"):
        layout.read_blob(tmp_path, archives.sha256(b"absent"), 5)
