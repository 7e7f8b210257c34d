"""Other engines as independent witnesses: what they write runs here, and what this store holds runs there."""

from __future__ import annotations

import json

import pytest

from fixtures.tools import needs_podman, needs_skopeo, needs_umoci, skopeo, tool
from images import archives, layers
from plugrun.testing import mounted

pytestmark = pytest.mark.root

OverlayDriver = pytest.importorskip("plugrun_storage_overlay.driver").OverlayDriver

NAME = "registry.example:5000/team/app:v1"
MARKER = "/etc/marker"


@pytest.fixture
def layout(busybox_archive, tmp_path):
    """An OCI layout that umoci made: busybox and, in a second layer, a marker."""
    directory = tmp_path / "layout"
    skopeo("copy", f"docker-archive:{busybox_archive}", f"oci:{directory}:v1")
    (tmp_path / "marker").write_text("from umoci\n")
    tool("umoci", "insert", "--image", f"{directory}:v1", tmp_path / "marker", MARKER)
    tool("umoci", "config", "--image", f"{directory}:v1", "--config.cmd", "cat", "--config.cmd", MARKER)
    tool("umoci", "config", "--image", f"{directory}:v1", "--config.env", "WRITER=umoci", "--config.workingdir", "/var")
    return directory


def packing(plugrun, name):
    """How the layers of an image in the store are packed: skopeo 1.9 calls plain ones gzip, so the bytes must tell."""
    store = plugrun.roots.root / "images"
    manifest = json.loads(skopeo("inspect", "--raw", f"oci:{store}:{name}"))
    blobs = [(store / "blobs" / layer["digest"].replace(":", "/")).read_bytes() for layer in manifest["layers"]]
    return {{b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}.get(blob[:2], "plain") for blob in blobs}


def assert_runs(plugrun, name):
    script = f"cat {MARKER}; echo $WRITER; pwd; ls -l /bin/cat | cut -c 1-10"
    result = plugrun("run", "--rm", name, "sh", "-c", script).ok()
    assert result.stdout == "from umoci\numoci\n/var\n-rwxr-xr-x\n"
    assert plugrun("run", "--rm", name).ok().stdout == "from umoci\n"


@needs_umoci
@needs_skopeo
def test_an_image_of_umoci(plugrun, layout):
    plugrun("load", "-i", str(layout)).ok()
    assert packing(plugrun, "docker.io/library/v1:latest") == {"gzip"}
    assert_runs(plugrun, "v1")


PLAIN = ["--dest-oci-accept-uncompressed-layers"]


@needs_umoci
@needs_skopeo
@pytest.mark.parametrize(
    ("kind", "options", "packed"),
    [
        ("docker-archive", [], "plain"),
        ("oci-archive", [], "gzip"),
        ("oci-archive", ["--dest-compress-format", "zstd"], "zstd"),
        ("oci-archive", PLAIN, "plain"),
        ("oci", [], "gzip"),
        ("oci", ["--dest-compress-format", "zstd"], "zstd"),
        ("oci", PLAIN, "plain"),
    ],
)
def test_images_of_skopeo(plugrun, layout, tmp_path, kind, options, packed):
    written = tmp_path / "written"
    source = f"oci:{layout}:v1"
    if options == PLAIN:  # skopeo unpacks for this kind of archive only
        skopeo("copy", source, f"docker-archive:{tmp_path}/plain:{NAME}")
        source = f"docker-archive:{tmp_path}/plain"
    skopeo("copy", *options, source, f"{kind}:{written}:{NAME}")
    assert plugrun("load", "-i", str(written)).ok().line == f"Loaded image: {NAME}"
    assert packing(plugrun, NAME) == {packed}
    assert_runs(plugrun, NAME)


@needs_podman
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive", "oci-dir"])
def test_images_of_podman(plugrun, podman, busybox_archive, tmp_path, kind):
    podman("load", "-q", "-i", busybox_archive)
    podman("run", "--name", "made", "--network", "none", "busybox", "sh", "-c", "echo from podman > /file; rm /bin/vi")
    changes = ["-c", "ENV WRITER=podman", "-c", 'CMD ["cat", "/file"]', "-c", "USER nobody"]
    image = podman("commit", "-q", *changes, "made", NAME)
    podman("save", "-q", "--format", kind, "-o", tmp_path / "written", NAME)
    plugrun("load", "-i", str(tmp_path / "written")).ok()
    assert plugrun("run", "--rm", NAME).ok().stdout == "from podman\n"
    script = "id -un; echo $WRITER; ls /bin/vi /bin/ls"
    result = plugrun("run", "--rm", NAME, "sh", "-c", script)
    assert result.stdout == "nobody\npodman\n/bin/ls\n"
    assert plugrun("image", "inspect", "-f", "{{.Id}}", NAME).ok().line == f"sha256:{image}"


@needs_podman
def test_several_images_in_one_archive_of_podman(plugrun, podman, busybox_archive, tmp_path):
    podman("load", "-q", "-i", busybox_archive)
    for number in "12":
        podman("create", "--name", f"c{number}", "busybox")
        podman("commit", "-q", "-c", f"ENV NUMBER={number}", f"c{number}", f"registry.example/app:{number}")
    podman("save", "-q", "-m", "-o", tmp_path / "written", "registry.example/app:1", "registry.example/app:2")
    plugrun("load", "-i", str(tmp_path / "written")).ok()
    for number in "12":
        assert plugrun("run", "--rm", f"registry.example/app:{number}", "sh", "-c", "echo $NUMBER").ok().line == number


@needs_umoci
@needs_skopeo
@needs_podman
def test_the_store_is_a_layout_that_others_read_and_run(plugrun, podman, layout, tmp_path):
    skopeo("copy", f"oci:{layout}:v1", f"oci-archive:{tmp_path}/written:{NAME}")
    plugrun("load", "-i", str(tmp_path / "written")).ok()
    (ours,) = json.loads(plugrun("image", "inspect", NAME).ok().stdout)
    store = plugrun.roots.root / "images"
    before = archives.tree(store)
    seen = json.loads(skopeo("inspect", f"oci:{store}:{NAME}"))
    assert ours["RepoDigests"] == [f"{NAME.rpartition(':')[0]}@{seen['Digest']}"]
    assert NAME in tool("umoci", "ls", "--layout", store).splitlines()
    assert len(json.loads(tool("umoci", "stat", "--json", "--image", f"{store}:{NAME}"))["history"]) >= 2
    tool("umoci", "raw", "unpack", "--image", f"{store}:{NAME}", tmp_path / "unpacked")
    assert (tmp_path / f"unpacked{MARKER}").read_text() == "from umoci\n"
    skopeo("copy", f"oci:{store}:{NAME}", f"docker-archive:{tmp_path}/copied:{NAME}")
    assert archives.tree(store) == before
    podman("load", "-q", "-i", tmp_path / "copied")
    assert podman("run", "--rm", "--network", "none", NAME) == "from umoci"
    assert podman("run", "--rm", "--network", "none", NAME, "sh", "-c", "echo $WRITER; pwd") == "umoci\n/var"
    assert podman("image", "inspect", "-f", "{{json .RootFS.Layers}}", NAME) == json.dumps(
        ours["RootFS"]["Layers"], separators=(",", ":")
    )


@needs_umoci
def test_umoci_unpacks_a_layer_without_directory_entries_to_the_same(plugrun, tmp_path):
    base = layers.layer(
        layers.directory(b"tmp/", mode=0o1777),
        layers.directory(b"secret/", mode=0o700),
        layers.directory(b"usr/"),
        layers.directory(b"usr/bin/"),
        layers.file(b"usr/bin/sh", b"sh"),
        layers.symlink(b"bin", b"usr/bin"),
    )
    top = layers.layer(layers.file(b"tmp/x"), layers.file(b"secret/y"), layers.file(b"bin/tool"))
    source = archives.write_directory(tmp_path / "layout", archives.Parts([base, top], "v1").oci())
    plugrun("load", "-i", source).ok()
    container = plugrun("create", "v1", "true").ok().line
    tool("umoci", "raw", "unpack", "--image", f"{source}:v1", tmp_path / "unpacked")
    driver = OverlayDriver(plugrun.roots.root / "storage/overlay")
    with mounted(driver.mounts(container)) as ours:
        seen, theirs = (layers.snapshot(root, times=False) for root in (ours, tmp_path / "unpacked"))
    assert {path: one[0] for path, one in seen.items()} == {path: one[0] for path, one in theirs.items()}
    assert [oct(seen[path][0]) for path in ("tmp", "secret", "bin")] == ["0o41777", "0o40700", "0o120777"]
    assert {"usr/bin/sh", "usr/bin/tool"} <= set(seen)
