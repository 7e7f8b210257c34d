"""Archives that other programs wrote, and then something happened to them; tests/images has those made by hand."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile

import pytest

from e2e.refusals import assert_refused, nothing_made
from fixtures.engine import Result
from images import archives
from images.archives import Parts

pytestmark = pytest.mark.root


def skopeo(*argv):
    subprocess.run(["skopeo", "--insecure-policy", *argv], check=True, capture_output=True)


@pytest.fixture
def layout(busybox_archive, tmp_path):
    """An OCI layout directory of busybox, with a gzip layer."""
    skopeo("copy", f"docker-archive:{busybox_archive}", f"oci:{tmp_path}/layout:other:1")
    return tmp_path / "layout"


def largest(directory):
    return max((directory / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)


def flip(path, offset):
    with open(path, "r+b") as stream:
        stream.seek(offset)
        (byte,) = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))


def flip_layer_byte(layout):
    flip(largest(layout), 100_000)


def cut_layer(layout):
    os.truncate(largest(layout), 100_000)


def lose_layer(layout):
    largest(layout).unlink()


def make_layer_a_directory(layout):
    victim = largest(layout)
    victim.unlink()
    victim.mkdir()


def make_blobs_a_file(layout):
    (layout / "blobs").rename(layout / "elsewhere")
    (layout / "blobs").touch()


def make_index_a_directory(layout):
    (layout / "index.json").unlink()
    (layout / "index.json").mkdir()


def rewrite_index(layout, **changes):
    index = json.loads((layout / "index.json").read_text())
    index["manifests"][0].update(changes)
    (layout / "index.json").write_text(json.dumps(index))


GONE = ("No such file", "is missing")
DAMAGE = {  # what happened, and the words for it: of a directory, of an archive
    "a flipped byte in a layer": (flip_layer_byte, "corrupt", "corrupt"),
    "a layer cut short": (cut_layer, "cut short", "corrupt"),
    "a missing layer": (lose_layer, *GONE),
    "a layer that is a directory": (make_layer_a_directory, "not a regular file", "is a directory, not a file"),
    "a file in place of the blobs": (make_blobs_a_file, "Not a directory", "is missing"),
    "an index that is a directory": (make_index_a_directory, "not a regular file", "holds no image"),
    "a wrong digest": (lambda layout: rewrite_index(layout, digest="sha256:" + "0" * 64), *GONE),
    "a digest that is none": (lambda layout: rewrite_index(layout, digest="sha256:x"), *["is not sha256"] * 2),
    "an unknown media type": (lambda layout: rewrite_index(layout, mediaType="application/x-disk"), *["x-disk"] * 2),
    "an index that is no JSON": (lambda layout: (layout / "index.json").write_text("{"), "JSON", "JSON"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["directory", "archive"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_layouts(plugrun, busybox, layout, tmp_path, damage, packed):
    change, *words = DAMAGE[damage]
    change(layout)
    source = layout
    if packed:
        source = tmp_path / "archive.tar"
        with tarfile.open(source, "w") as archive:
            for path in layout.iterdir():
                archive.add(path, path.name)
    with nothing_made(plugrun):
        assert_refused(plugrun("load", "-i", str(source)), 1, str(source), words[packed])


@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive", "oci"])
def test_loading_again_mends_a_flipped_byte(plugrun, busybox_archive, layout, tmp_path, transport):
    source = str(tmp_path / "source")
    skopeo("copy", f"oci:{layout}:other:1", f"{transport}:{source}:app:1")
    plugrun("load", "-i", source).ok()
    flip(largest(plugrun.roots.root / "images"), 100_000)
    assert_refused(plugrun("run", "--rm", "app:1", "true"), 125, "corrupt")
    plugrun("load", "-i", source).ok()
    plugrun("run", "--rm", "app:1", "true").ok()


@pytest.mark.parametrize("change", [lambda path: flip(path, 1_000_000), lambda path: os.truncate(path, 1_000_000)])
def test_damaged_docker_archives(plugrun, busybox, busybox_archive, tmp_path, change):
    archive = tmp_path / "archive.tar"
    archive.write_bytes(busybox_archive.read_bytes())
    change(archive)
    with nothing_made(plugrun):
        assert_refused(plugrun("load", "-i", str(archive)), 1, str(archive))
        assert_refused(plugrun("load", input=archive.read_bytes()), 1, "standard input")


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("/nosuch", "no such file: /nosuch"),
        ("/etc/passwd/x", "/etc/passwd/x cannot be opened: Not a directory"),
        ("/etc", "directory"),
        ("/dev/zero", "is a device"),
    ],
)
@pytest.mark.parametrize("command", [["load", "-i"], ["import"]], ids=["load", "import"])
def test_sources_that_are_no_file(plugrun, busybox, command, source, word):
    with nothing_made(plugrun):
        assert_refused(plugrun(*command, source), 1, word)


@pytest.mark.parametrize(
    "data", [b"", b"not a tar archive\n" * 100, bytes(100)], ids=["nothing", "text", "a few zeros"]
)
def test_what_is_no_tar_is_not_imported(plugrun, busybox, tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    with nothing_made(plugrun):
        assert_refused(plugrun("import", str(tmp_path / "file"), "made:1"), 1)
        assert_refused(plugrun("import", "-", "made:1", input=data), 1)


@pytest.mark.parametrize("command", [["load"], ["load", "-i", "-"], ["import", "-", "made:1"]], ids=" ".join)
def test_standard_input_that_is_closed(plugrun, busybox, command):
    argv = ["sh", "-c", 'exec "$@" <&-', "sh", *plugrun.argv(*command)]
    with nothing_made(plugrun):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert_refused(
            Result(done.returncode, done.stdout, done.stderr), 1, "standard input is a device, not a tar archive"
        )


def test_images_for_other_machines_are_neither_loaded_nor_run(plugrun, busybox, tmp_path):
    foreign = Parts(name="foreign:1", config={"architecture": "s390x"})
    directory = archives.write_directory(tmp_path / "foreign", foreign.oci())
    with nothing_made(plugrun):
        assert_refused(plugrun("load", "-i", directory), 1, "is for linux/s390x, and this machine is")
        assert_refused(plugrun("run", "--rm", "--pull=never", "foreign:1"), 125, "no image 'foreign:1'")
    store = plugrun.roots.root / "images"
    skopeo("--override-arch", "s390x", "copy", f"oci:{directory}:foreign:1", f"oci:{store}:docker.io/library/foreign:1")
    with nothing_made(plugrun):
        for command in ("run", "create"):
            assert_refused(plugrun(command, "foreign:1"), 125, "foreign:1 is for linux/s390x, and this machine is")
