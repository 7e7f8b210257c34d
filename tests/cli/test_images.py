"""The image commands, as users call them."""

from __future__ import annotations

import json
import os

import pytest

from images import archives
from images.archives import Parts

pytestmark = pytest.mark.root


@pytest.fixture
def app(plugrun, tmp_path):
    """An image that is loaded, named ``app:1``."""
    image = Parts(name="app:1", config={"created": "2020-01-02T03:04:05.123456789Z"})
    plugrun("load", "-i", archives.write_tar(tmp_path / "app.tar", image.docker())).ok()
    return image


def rows(plugrun, *options):
    return [json.loads(line) for line in plugrun("images", "--format", "json", *options).ok().stdout.splitlines()]


def test_load_says_what_was_loaded_and_what_it_replaced(plugrun, app, tmp_path):
    other = archives.write_tar(tmp_path / "other.tar", Parts(name="app:1", config={"author": "x"}).docker())
    assert plugrun("load", "-i", other).ok().stdout == (
        f"app:1 was another image, which keeps its id: {app.id}\nLoaded image: app:1\n"
    )
    assert plugrun("load", "-q", "-i", other).ok().stdout == ""
    nameless = Parts(name=None, config={"author": "y"})
    assert plugrun("load", input=archives.tar(nameless.docker())).ok().line == f"Loaded image ID: {nameless.id}"
    assert plugrun("load", "-i", "-", input=archives.tar(app.docker())).ok().line.endswith("Loaded image: app:1")


def test_load_says_which_label_is_no_name(plugrun, tmp_path):
    labelled = Parts(name="V1.0")
    assert plugrun("load", "-i", archives.write_tar(tmp_path / "a.tar", labelled.oci())).ok().stdout == (
        f"the archive calls it 'V1.0', which is no image name\nLoaded image ID: {labelled.id}\n"
    )
    plugrun("image", "inspect", labelled.id).ok()


def test_images_lists_one_line_a_name(plugrun, app):
    listing = plugrun("images").ok().stdout.splitlines()
    assert listing[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert listing[1].split()[:3] == ["app", "1", app.id.removeprefix("sha256:")[:12]]
    assert plugrun("images", "-q", "--no-trunc").ok().line == app.id
    assert plugrun("image", "ls", "--digests").ok().stdout.count("sha256:") == 1
    assert rows(plugrun)[0]["CreatedAt"].startswith("2020-01-02T03:04:05")


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["app"], 1),
        (["app:1"], 1),
        (["app:2"], 0),
        (["--filter", "reference=a*"], 1),
        (["--filter", "reference=b*"], 0),
        (["--filter", "dangling=true"], 0),
        (["--filter", "dangling=false"], 1),
        (["--filter", "label=l"], 0),
    ],
)
def test_images_can_be_filtered(plugrun, app, options, count):
    assert len(rows(plugrun, *options)) == count


def test_an_unknown_filter_is_refused(plugrun, app):
    result = plugrun("images", "--filter", "colour=red")
    assert result.code == 1
    assert "unknown filter" in result.stderr


def test_inspect_shows_the_image_as_docker_does(plugrun, app):
    (found,) = json.loads(plugrun("image", "inspect", "app:1").ok().stdout)
    assert found["Id"] == app.id
    assert found["RepoTags"] == ["app:1"]
    assert found["Config"]["Cmd"] == ["/bin/sh"]
    assert len(found["RootFS"]["Layers"]) == 2
    assert plugrun("image", "inspect", "-f", "{{.Os}} {{json .RepoTags}}", "app:1").ok().line == 'linux ["app:1"]'
    assert plugrun("image", "inspect", found["RepoDigests"][0]).ok().code == 0
    result = plugrun("image", "inspect", "absent", "app:1")
    assert (result.code, len(json.loads(result.stdout))) == (1, 1)


def test_import_prints_the_id(plugrun, tmp_path):
    (tmp_path / "fs.tar").write_bytes(archives.layer({"hello": b"hello"}))
    options = ["-c", 'CMD ["/hello"]', "-m", "by hand", str(tmp_path / "fs.tar"), "mine"]
    image_id = plugrun("import", *options).ok().line
    (found,) = json.loads(plugrun("image", "inspect", "mine").ok().stdout)
    assert (found["Id"], found["Comment"], found["Config"]["Cmd"]) == (image_id, "by hand", ["/hello"])
    assert plugrun("image", "import", "-", input=archives.layer({"x": b""})).ok().line.startswith("sha256:")


def test_rmi_removes_names_images_and_what_was_unpacked(plugrun, busybox, private_root):
    storage = private_root.root / "storage"
    plugrun("run", "--rm", "--net", "none", busybox, "true").ok()
    layers = {path.name for path in storage.glob("*/committed/*")}
    assert layers  # the control
    result = plugrun("rmi", "absent", busybox)
    assert result.code == 1
    assert "no image 'absent'" in result.stderr
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["Untagged", "Deleted"]
    assert {path.name for path in storage.glob("*/committed/*")} == set()
    assert os.listdir(private_root.root / "images/blobs/sha256") == []


def test_rmi_of_an_image_in_use_needs_force_and_the_container_goes_on(plugrun, busybox):
    plugrun("create", "--name", "web", "--net", "none", busybox, "echo", "still here").ok()
    result = plugrun("rmi", busybox)
    assert result.code == 1
    assert "in use by container web;" in result.stderr
    plugrun("rmi", "-f", busybox).ok()
    assert plugrun("start", "-a", "web").ok().line == "still here"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "holds no image"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"text" * 1000), "no tar archive"),
        (lambda path: path.write_bytes(bytes(10240)), "holds no image"),
        (lambda path: path.write_bytes(archives.tar(Parts().docker())[:2000]), "truncated"),
        (lambda path: path.write_bytes(archives.tar(Parts(config={"architecture": "s390x"}).docker())), "linux/s390x"),
        (lambda path: path.write_bytes(archives.tar(Parts(name="x\x1b]0;y\x07").docker())), "invalid image reference"),
    ],
    ids=["absent", "directory", "empty", "text", "empty tar", "truncated", "architecture", "escape"],
)
def test_bad_archives_are_one_line_on_stderr(plugrun, tmp_path, make, reason):
    make(tmp_path / "archive")
    result = plugrun("load", "-i", str(tmp_path / "archive"))
    assert result.code == 1
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr
    assert plugrun("images", "-q").ok().stdout == ""


def test_labels_and_names_cannot_move_the_cursor(plugrun, tmp_path):
    evil = Parts(name="app:1", config={"config": {"Labels": {"a": "\x1b]0;owned\x07\x1b[2J\u202e"}, "User": "\x1b[2J"}})
    plugrun("load", "-i", archives.write_tar(tmp_path / "a", evil.docker())).ok()
    for command in (
        ["image", "inspect", "app:1"],
        ["image", "inspect", "-f", "{{.Config.User}}", "app:1"],
        ["images", "--format", "json"],
    ):
        shown = plugrun(*command).ok().stdout
        assert not set(shown) & {"\x1b", "\x07", "\u202e"}
