"""``plugrun pull``, from a real registry and from one that can be stopped at any byte."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fixtures.stub import Reply
from fixtures.tools import skopeo
from images import archives
from images.archives import Parts
from plugrun.cli import text

pytestmark = pytest.mark.root

MANIFEST, CONFIG = archives.OCI_MANIFEST, archives.OCI_CONFIG


@pytest.fixture
def trusted(plugrun, registry):
    """The program, trusting the registry."""
    plugrun.env.update(registry.env)
    return plugrun


def blobs_asked(registry, repository):
    asked = [request for request in registry.requests() if f"/v2/{repository}/blobs/" in request.path]
    return [request.path.rpartition("/")[2] for request in asked if request.method == "GET"]


def stored(plugrun):
    """Digests of the blobs in the store; each must be what its name says."""
    found = set()
    for path in (plugrun.roots.root / "images/blobs/sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        found.add(f"sha256:{path.name}")
    return found


def partial(plugrun):
    area = plugrun.roots.root / "images/downloads"
    return {path.name: path.stat().st_size for path in area.iterdir()} if area.exists() else {}


def test_an_image_is_pulled_and_runs(trusted, registry, busybox_archive):
    name = registry.push(busybox_archive, "pull/runs:1")
    done = trusted("pull", name).ok()
    assert done.stdout.splitlines() == [f"Digest: {registry.digest('pull/runs:1')}", name]
    lines = done.stderr.splitlines()
    assert lines[0] == f"Pulling {name}"
    assert lines[1].endswith(": complete, 1.09MB")
    assert lines[2].startswith("1 layer fetched: 1.09MB in ")
    assert trusted("run", "--rm", "--net", "none", name, "echo", "hello").ok().stdout == "hello\n"
    assert partial(trusted) == {}
    stored(trusted)


def test_what_is_here_is_not_fetched_again(trusted, registry, busybox_archive):
    name = registry.push(busybox_archive, "pull/again:1")
    trusted("pull", "-q", name).ok()
    before = blobs_asked(registry, "pull/again")
    again = trusted("pull", name).ok()
    assert "already here" in again.stderr
    assert blobs_asked(registry, "pull/again") == before
    assert len(before) == 2
    assert len(trusted("images", "-q").ok().stdout.split()) == 1


def test_quiet_prints_the_name(trusted, registry, busybox_archive):
    name = registry.push(busybox_archive, "pull/quiet:1")
    done = trusted("pull", "--quiet", name).ok()
    assert (done.stdout, done.stderr) == (f"{name}\n", "")


def test_a_digest_is_pulled_and_found_by_it(trusted, registry, busybox_archive):
    registry.push(busybox_archive, "pull/digest:1")
    name = f"{registry.name('pull/digest')}@{registry.digest('pull/digest:1')}"
    trusted("pull", name).ok()
    assert trusted("run", "--rm", "--net", "none", name, "echo", "hello").ok().stdout == "hello\n"
    assert trusted("rmi", name).ok().stdout.splitlines()[0] == f"Untagged: {name}"


def test_all_tags(trusted, registry, busybox_archive):
    for tag in ("1", "2"):
        registry.push(busybox_archive, f"pull/tags:{tag}")
    done = trusted("pull", "-a", "-q", registry.name("pull/tags")).ok()
    assert sorted(done.stdout.split()) == [registry.name("pull/tags:1"), registry.name("pull/tags:2")]
    refused = trusted("pull", "-a", registry.name("pull/tags:1"))
    assert refused.code == 1
    assert "has a tag" in refused.stderr


@pytest.mark.parametrize("options", [[], ["--dest-compress-format", "zstd", "--dest-compress"], ["--format", "v2s2"]])
def test_every_packing(trusted, registry, debian_archive, options, tmp_path):
    name = registry.push(f"oci-archive:{debian_archive}", f"pull/packing{len(options)}:1", *options)
    trusted("pull", "-q", name).ok()
    assert "Debian" in trusted("run", "--rm", "--net", "none", name, "cat", "/etc/os-release").ok().stdout


def test_an_unpacked_layer_needs_no_second_unpacking(trusted, registry, busybox_archive):
    name = registry.push(busybox_archive, "pull/unpacked:1")
    trusted("pull", "-q", name).ok()
    (layer,) = json.loads(trusted("image", "inspect", name).ok().stdout)[0]["RootFS"]["Layers"]
    committed = trusted.roots.root / "storage/overlay/committed" / layer.partition(":")[2]
    assert (committed / "fs/bin/busybox").exists()


def test_the_storage_driver_can_be_named(trusted, registry, busybox_archive):
    name = registry.push(busybox_archive, "pull/storage:1")
    for words in (["pull", "--storage", "nosuch", name], ["--storage", "nosuch", "pull", name]):
        assert "'nosuch'" in trusted(*words).stderr
    for words in (["--storage", "nosuch", "run"], ["run", "--storage", "nosuch"]):
        assert "'nosuch'" in trusted(*words, "--net", "none", name, "true").stderr
    assert blobs_asked(registry, "pull/storage") == []
    trusted("--storage", "nosuch", "pull", "--storage", "overlay", "-q", name).ok()


class TestPullPolicy:
    def test_a_missing_image_is_pulled(self, trusted, registry, busybox_archive):
        name = registry.push(busybox_archive, "policy/missing:1")
        done = trusted("run", "--rm", "--net", "none", name, "echo", "hello").ok()
        assert done.stdout == "hello\n"
        assert f"Pulling {name}" in done.stderr
        assert trusted("run", "--rm", "--net", "none", name, "true").ok().stderr == ""

    def test_never(self, trusted, registry, busybox_archive):
        name = registry.push(busybox_archive, "policy/never:1")
        refused = trusted("run", "--pull", "never", name, "true")
        assert refused.code == 125
        assert f"no image '{name}'" in refused.stderr
        assert blobs_asked(registry, "policy/never") == []

    def test_always(self, trusted, registry, busybox_archive):
        name = registry.push(busybox_archive, "policy/always:1")
        trusted("pull", "-q", name).ok()
        trusted("create", "--pull", "always", "-q", name, "true").ok()
        manifests = [one for one in registry.requests() if one.path.endswith("policy/always/manifests/1")]
        assert len([one for one in manifests if one.method == "GET" and one.status == 200]) == 2

    def test_another_word(self, trusted):
        refused = trusted("run", "--pull", "sometimes", "busybox")
        assert refused.code == 125
        assert "--pull sometimes is none of always, missing, never" in refused.stderr


class TestIndexes:
    @pytest.fixture
    def parts(self, stub, plugrun, trusting):
        """An index of two images: one for this machine, one for another."""
        plugrun.env.update(trusting(stub))
        here = Parts()
        other = Parts(layers=[archives.layer({"other": b"o"})], config={"architecture": "s390x", "variant": ""})
        own = {key: here.config_of[key] for key in ("architecture", "os", "variant") if key in here.config_of}
        entries = []
        for one, platform in ((other, {"architecture": "s390x", "os": "linux"}), (here, own)):
            stub.add(one, tag="single-" + platform["architecture"])
            entries.append(archives.descriptor(MANIFEST, archives.encode(one.manifest()), platform=platform))
        index = {"schemaVersion": 2, "mediaType": archives.OCI_INDEX, "manifests": entries}
        digest = stub.add_manifest(archives.encode(index), archives.OCI_INDEX)
        return here, other, digest

    def test_the_one_for_this_machine_is_chosen(self, plugrun, stub, parts):
        here, _, digest = parts
        assert plugrun("pull", stub.name).ok().stdout.splitlines()[0] == f"Digest: {digest}"
        (found,) = json.loads(plugrun("image", "inspect", stub.name).ok().stdout)
        assert found["Id"] == here.id
        assert found["RepoDigests"] == [f"{stub.host}/team/app@{digest}"]
        plugrun("create", "--pull", "never", f"{stub.host}/team/app@{digest}", "true").ok()

    def test_another_can_be_asked_for(self, plugrun, stub, parts):
        _, other, _ = parts
        plugrun("pull", "--platform", "linux/s390x", stub.name).ok()
        (found,) = json.loads(plugrun("image", "inspect", stub.name).ok().stdout)
        assert found["Id"] == other.id

    def test_one_that_it_does_not_have(self, plugrun, stub, parts):
        refused = plugrun("pull", "--platform", "linux/riscv64", stub.name)
        assert refused.code == 1
        assert f"image {stub.name} has no image for linux/riscv64, only for linux/" in refused.stderr

    def test_an_image_for_another_machine_is_not_pulled_by_accident(self, plugrun, stub, parts):
        name = f"{stub.host}/team/app:single-s390x"
        refused = plugrun("pull", name)
        assert refused.code == 1
        assert "is for linux/s390x" in refused.stderr
        assert "--platform linux/s390x" in refused.stderr
        assert plugrun("images", "-q").ok().stdout == ""
        plugrun("pull", "--platform", "linux/s390x", name).ok()


class TestInterrupts:
    @pytest.fixture
    def big(self, stub, plugrun, trusting):
        """An image with a large layer whose second half waits for an event, and with a small one."""
        plugrun.env.update(trusting(stub))
        parts = Parts(layers=[archives.layer({"big": bytes(range(256)) * 20_000}), archives.layer({"small": b"s"})])
        stub.add(parts)
        more = threading.Event()
        big = archives.sha256(parts.layers[0])
        stub.script(stub.blob_path(big), Reply(hold=(2_000_000, more)))
        yield parts, more, big
        more.set()

    def pulling(self, plugrun, stub):
        import os

        return subprocess.Popen(
            plugrun.argv("pull", stub.name),
            env={**os.environ, **plugrun.env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def wait_until_partly_here(self, plugrun, big):
        import time

        deadline = time.monotonic() + 20
        while partial(plugrun).get(big.replace(":", "-"), 0) < 1_000_000:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_what_has_come_is_kept_and_the_rest_fetched_next_time(self, plugrun, stub, big, how):
        parts, _, digest = big
        with self.pulling(plugrun, stub) as process:
            self.wait_until_partly_here(plugrun, digest)
            process.send_signal(how)
            stderr = process.communicate(timeout=20)[1].decode()
        assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[how]
        assert "Traceback" not in stderr
        assert plugrun("images", "-q").ok().stdout == ""
        assert stored(plugrun) == set()
        here = partial(plugrun)[digest.replace(":", "-")]
        if how is not signal.SIGKILL:
            assert list((plugrun.roots.root / "images/ingest").iterdir()) == [plugrun.roots.root / "images/ingest/lock"]
            assert not list((plugrun.roots.root / "storage/overlay/layers").iterdir())
        done = plugrun("pull", stub.name).ok()
        assert "from before" in done.stderr
        ranges = [seen.headers.get("range") for seen in stub.seen if seen.path == stub.blob_path(digest)]
        assert ranges == [None, f"bytes={here}-"]
        assert partial(plugrun) == {}
        assert {digest, *(archives.sha256(one) for one in parts.layers)} <= stored(plugrun)

    def test_what_nobody_wants_any_more_is_shown_and_pruned(self, plugrun, stub, big):
        _, _, digest = big
        with self.pulling(plugrun, stub) as process:
            self.wait_until_partly_here(plugrun, digest)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
        size = sum(partial(plugrun).values())
        rows = plugrun("system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Size}}").ok().stdout.splitlines()
        assert f"Partial Downloads {len(partial(plugrun))} {text.size(size)}" in rows
        assert f"Total reclaimed space: {text.size(size)}" in plugrun("image", "prune", "-f").ok().stdout
        assert partial(plugrun) == {}

    def test_damaged_remains_are_fetched_again(self, plugrun, stub, big):
        _, more, digest = big
        more.set()
        area = plugrun.roots.root / "images/downloads"
        area.mkdir(parents=True)
        (area / digest.replace(":", "-")).write_bytes(bytes(1_000_000))
        plugrun("pull", stub.name).ok()
        ranges = [seen.headers.get("range") for seen in stub.seen if seen.path == stub.blob_path(digest)]
        assert ranges == ["bytes=1000000-", None]
        stored(plugrun)

    def test_two_processes_share_the_work(self, plugrun, stub, big):
        _, more, digest = big
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(plugrun, "pull", stub.name)
            self.wait_until_partly_here(plugrun, digest)
            second = pool.submit(plugrun, "pull", stub.name)
            stub.wait_for(lambda seen: stub.asked().count(("GET", stub.manifest_path())) == 2)
            more.set()
            assert [first.result(60).code, second.result(60).code] == [0, 0]
        asked = [path for method, path in stub.asked() if method == "GET" and "/blobs/" in path]
        assert asked.count(stub.blob_path(digest)) == 1
        assert partial(plugrun) == {}
        stored(plugrun)


def test_a_manifest_is_shown_as_the_registry_has_it(trusted, registry, busybox_archive):
    name = registry.push(busybox_archive, "pull/manifest:1")
    raw = json.loads(skopeo("inspect", "--raw", *registry.credentials(), f"docker://{name}"))
    assert json.loads(trusted("manifest", "inspect", name).ok().stdout) == raw
    more = json.loads(trusted("manifest", "inspect", "-v", name).ok().stdout)
    assert more["Manifest"] == raw
    assert more["Descriptor"]["digest"] == registry.digest("pull/manifest:1")
    missing = trusted("manifest", "inspect", registry.name("pull/manifest:2"))
    assert missing.code == 1
    assert missing.stderr.count("\n") == 1
    assert registry.name("pull/manifest:2") in missing.stderr


def test_what_skopeo_put_there_is_what_is_pulled(trusted, registry, busybox_archive):
    name = registry.push(busybox_archive, "pull/equal:1")
    trusted("pull", "-q", name).ok()
    raw = skopeo("inspect", "--raw", *registry.credentials(), f"docker://{name}").encode()
    digest = registry.digest("pull/equal:1")
    assert (trusted.roots.root / "images/blobs/sha256" / digest.partition(":")[2]).read_bytes().strip() == raw.strip()
