"""Archives that ``plugrun save`` writes, as other tools read them; and sizes, as du(1) counts them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile

import pytest

from fixtures.engine import Cli, Roots
from fixtures.tools import needs_podman, needs_skopeo, needs_umoci, skopeo, tool
from images import archives
from images.archives import OCI_LAYER, Parts, gzipped

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.root

NAME = "registry.example:5000/team/app:v1"
PACKINGS = {
    "plain": (bytes, OCI_LAYER),
    "gzip": (gzipped, f"{OCI_LAYER}+gzip"),
    "zstd": (zstd.compress, f"{OCI_LAYER}+zstd"),
}


@pytest.fixture(params=PACKINGS)
def image(request, plugrun, tmp_path):
    """An image in the store, its layers packed in each way there is."""
    packed, layer_type = PACKINGS[request.param]
    made = Parts(name=NAME, packed=packed, layer_type=layer_type)
    plugrun("load", "-i", archives.write_directory(tmp_path / "layout", made.oci())).ok()
    return made


@pytest.fixture
def other(plugrun, tmp_path):
    """Another engine, to load into."""
    return Cli(Roots(tmp_path / "other", plugrun.roots.run_root / "other"))


def manifest_digest(plugrun, name):
    return plugrun("images", "--digests", "--format", "{{.Digest}}", name).ok().line


def sha256(text):
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_load_reads_back_what_save_wrote(plugrun, other, image, tmp_path, kind):
    plugrun("save", "--format", kind, "-o", str(tmp_path / "saved"), NAME).ok()
    assert other("load", "-i", str(tmp_path / "saved")).ok().line == f"Loaded image: {NAME}"
    assert manifest_digest(other, NAME) == manifest_digest(plugrun, NAME)
    assert other("image", "inspect", "-f", "{{.Id}}", NAME).ok().line == image.id


@needs_skopeo
def test_skopeo_finds_the_same_digests(plugrun, image, tmp_path):
    saved = tmp_path / "saved"
    plugrun("save", "-o", str(saved), NAME).ok()
    manifest = manifest_digest(plugrun, NAME)
    for place in (f"oci-archive:{saved}", f"oci-archive:{saved}:{NAME}"):
        assert sha256(skopeo("inspect", "--raw", place)) == manifest
        assert sha256(skopeo("inspect", "--config", "--raw", place)) == image.id
    for place in (f"docker-archive:{saved}", f"docker-archive:{saved}:{NAME}"):
        assert sha256(skopeo("inspect", "--config", "--raw", place)) == image.id
        # reads every layer, and checks it against the configuration
        skopeo("copy", place, f"docker-archive:{tmp_path}/{len(place)}.tar")


@needs_umoci
@pytest.mark.parametrize("image", ["plain", "gzip"], indirect=True)  # umoci of Debian 12 knows no zstd
def test_umoci_unpacks_it(plugrun, image, tmp_path):
    plugrun("save", "--format", "oci-archive", "-o", str(tmp_path / "saved"), NAME).ok()
    with tarfile.open(tmp_path / "saved") as archive:
        archive.extractall(tmp_path / "extracted", filter="data")
    assert tool("umoci", "ls", "--layout", tmp_path / "extracted") == NAME
    tool("umoci", "raw", "unpack", "--image", f"{tmp_path}/extracted:{NAME}", tmp_path / "tree")
    assert (tmp_path / "tree/a").read_bytes() == b"a" * 2000
    assert (tmp_path / "tree/b").read_bytes() == b"b" * 3000


@needs_podman
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_podman_loads_it(plugrun, podman, image, tmp_path, kind):
    plugrun("save", "--format", kind, "-o", str(tmp_path / "saved"), NAME).ok()
    assert podman("load", "-q", "-i", tmp_path / "saved") == f"Loaded image: {NAME}"
    assert f"sha256:{podman('image', 'inspect', '-f', '{{.Id}}', NAME)}" == image.id


@needs_podman
def test_podman_loads_all_images_and_names(plugrun, podman, tmp_path):
    ids = {}
    for number in "12":
        made = Parts(name=f"registry.example/app:{number}", config={"author": number})
        plugrun("load", "-i", archives.write_tar(tmp_path / number, made.docker())).ok()
        ids[made.name] = made.id
    plugrun("tag", "registry.example/app:1", "localhost/other:x").ok()
    ids["localhost/other:x"] = ids["registry.example/app:1"]
    plugrun("save", "-o", str(tmp_path / "saved"), *ids).ok()
    podman("load", "-q", "-i", tmp_path / "saved")
    found = {name: f"sha256:{podman('image', 'inspect', '-f', '{{.Id}}', name)}" for name in ids}
    assert found == ids


# --- Sizes -----------------------------------------------------------------------------------------------------------


def du(*arguments):
    return int(subprocess.check_output(["du", "-s", *map(str, arguments)]).split()[0])


def test_system_df_counts_what_du_counts(plugrun, busybox, tmp_path):
    root = plugrun.roots.root
    write = "dd if=/dev/zero of=/file bs=1k count=300 2>/dev/null"
    plugrun("run", "--name", "ended", "--net", "none", busybox, "sh", "-c", write).ok()
    plugrun("run", "-d", "--name", "running", "--net", "none", busybox, "sh", "-c", f"{write}; sleep 1000").ok()
    lone = Parts(name="lone:1")
    plugrun("load", "-i", archives.write_tar(tmp_path / "lone", lone.docker())).ok()
    lines = plugrun("system", "df", "--format", "json").ok().stdout.splitlines()
    totals = {row["Type"]: row for row in map(json.loads, lines)}
    blobs = sum(path.stat().st_size for path in (root / "images/blobs").rglob("*") if path.is_file())
    assert near(totals["Images"]["Size"], blobs)
    assert near(totals["Images"]["Reclaimable"], sum(map(len, lone.layers)))
    (layer,) = root.glob("storage/*/committed/*/fs")
    assert near(totals["Unpacked Layers"]["Size"], du("--block-size=1", layer))
    assert totals["Unpacked Layers"]["Reclaimable"] == "0B (0%)"
    assert near(totals["Containers"]["Size"], 2 * 300 * 1024)
    assert near(totals["Containers"]["Reclaimable"], 300 * 1024)
    assert [(row["TotalCount"], row["Active"]) for row in totals.values()] == [
        ("2", "1"),
        ("1", "1"),
        ("2", "1"),
        ("0", "0"),
        ("0", "0"),
        ("0", "0"),
    ]


def near(shown, number):
    """Whether a size of three digits is a number of bytes, give or take what directories occupy."""
    value, unit = shown.split()[0].rstrip("kMB"), shown.split()[0].lstrip("0123456789.")
    return abs(float(value) * {"B": 1, "kB": 1e3, "MB": 1e6}[unit] - number) <= 0.02 * number + 10_000


def test_prune_frees_what_it_says_and_leaves_what_is_used(plugrun, busybox, tmp_path):
    root = plugrun.roots.root
    plugrun("run", "--rm", "--net", "none", busybox, "true").ok()
    plugrun("create", "--name", "web", "--net", "none", busybox, "cat", "/made").ok()
    big = Parts([archives.layer({"big": b"\0" * 4_000_000})], "big:1", config={"config": {"Cmd": ["x"]}})
    plugrun("load", "-i", archives.write_tar(tmp_path / "big", big.docker())).ok()
    plugrun("create", "--name", "unpacks", "--net", "none", "big:1").ok()
    plugrun("rm", "unpacks").ok()
    before = du("--block-size=1", root / "images/blobs", root / "storage")
    pruned = plugrun("image", "prune", "-a", "-f").ok().stdout
    assert pruned.startswith(f"Deleted Images:\nuntagged: big:1\ndeleted: {big.id}\n\nTotal reclaimed space: ")
    assert near(pruned.rstrip().rpartition(" ")[2], 2 * 4_000_000)
    assert before - du("--block-size=1", root / "images/blobs", root / "storage") >= 4_000_000
    assert plugrun("images", "--format", "{{.Repository}}").ok().line == "busybox"
    assert plugrun("start", "-a", "web").code == 1  # it still has its layers, but no such file
    assert plugrun("image", "prune", "-af").ok().line == "Total reclaimed space: 0B"
