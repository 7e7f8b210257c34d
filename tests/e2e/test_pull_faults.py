"""Registries that err or lie: a pull fails with one clear line, keeps nothing unverified, and the next one works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from e2e.pulls import assert_all_there, assert_failed, assert_only_beginnings, fresh, kept
from fixtures.answers import flipped, lengthened, shortened
from fixtures.engine import Cli, Roots
from fixtures.stub import Reply, bearer
from images import archives, odd

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def plugrun(tmp_path_factory, busybox_archive):
    """One engine for all of these tests: what fails leaves no trace in it."""
    run_root = Path(tempfile.mkdtemp(prefix="t", dir="/run"))
    cli = Cli(Roots(tmp_path_factory.mktemp("engine") / "root", run_root))
    cli("load", "-i", str(busybox_archive)).ok()
    yield cli
    shutil.rmtree(run_root)


@pytest.fixture
def pull(plugrun, stub, trusting):
    """Pull from the stub."""
    env = trusting(stub)
    return lambda *options, name=None: plugrun("pull", *options, name or stub.name, env=env)


def manifest(**reply):
    return lambda stub, _parts: stub.say(stub.manifest_path(), Reply(**reply))


def config(**reply):
    return lambda stub, parts: stub.say(stub.blob_path(parts.id), Reply(**reply))


def layer(**reply):
    return lambda stub, parts: stub.say(layer_path(stub, parts), Reply(**reply))


def layer_path(stub, parts, number=1):
    return stub.blob_path(archives.sha256(parts.packed(parts.layers[number])))


def instead(make):
    """Hold another manifest under the tag."""
    return lambda stub, parts: stub.add_manifest(make(parts))


def ambiguous(why):
    return lambda stub, parts: stub.add_manifest(*odd.ambiguous(parts)[why])


def nested(stub, parts):
    """An index of an index of an index... of an image that is there."""
    data = archives.encode(parts.manifest())
    kind = archives.OCI_MANIFEST
    for _ in range(20):
        data, kind = odd.index(data, media_type=kind), archives.OCI_INDEX
        stub.add_manifest(data, kind)


def loop(stub, parts):
    """An index that names itself, though it cannot know its own digest."""
    name = archives.sha256(b"a digest made up")
    entry = {"mediaType": archives.OCI_INDEX, "digest": name, "size": 1000}
    data = archives.encode({"schemaVersion": 2, "mediaType": archives.OCI_INDEX, "manifests": [entry]})
    stub.add_manifest(data, archives.OCI_INDEX)
    stub.content[stub.manifest_path(name)] = stub.content[stub.manifest_path()]._replace(digest=name)


def not_there(stub, parts):
    stub.content.pop(layer_path(stub, parts))


def other_diff_ids(stub, parts):
    """A configuration that promises other content than the layers have."""
    content = archives.encode(archives.config([archives.sha256(b"x"), archives.sha256(b"y")]))
    entry = archives.descriptor(archives.OCI_CONFIG, content)
    stub.add_manifest(archives.encode(parts.manifest() | {"config": entry}))
    stub.add_blob(content)


MANIFESTS = {
    "another bit": (manifest(change=flipped), ["digest"]),
    "a byte less": (manifest(change=shortened), ["digest"]),
    "a byte more": (manifest(change=lengthened), ["digest"]),
    "another digest": (manifest(headers={"Docker-Content-Digest": archives.sha256(b"")}), [archives.sha256(b"")]),
    "a digest that is a path": (manifest(headers={"Docker-Content-Digest": "sha256:../../x"}), ["sha256:../../x"]),
    "another type": (manifest(headers={"Content-Type": "text/html"}), ["text/html"]),
    "no JSON": (manifest(body=b"<html>", headers={"Docker-Content-Digest": None}), ["JSON"]),
    "no end": (manifest(endless=True), ["larger than 4 MiB"]),
    "ten thousand layers": (instead(odd.many_layers), ["10000 layers"]),
    "deep JSON": (instead(lambda _parts: odd.deep()), ["deep"]),
    "indexes in indexes": (nested, ["nested"]),
    "an index that is in itself": (loop, ["digest"]),
    **{why: (ambiguous(why), []) for why in odd.ambiguous(fresh())},
    **{why: (instead(lambda parts, why=why: odd.digests(parts)[why]), ["digest"]) for why in odd.digests(fresh())},
}
BLOBS = {
    "a config with another bit": (config(change=flipped), ["config", "digest"]),
    "a config that is shorter": (config(change=shortened), ["bytes"]),
    "a config that is longer": (config(change=lengthened), ["bytes"]),
    "a config without end": (config(endless=True), ["longer"]),
    "a layer with another bit": (layer(change=flipped), ["layer", "digest"]),
    "a layer that is shorter": (layer(change=shortened), ["bytes"]),
    "a layer that is longer": (layer(change=lengthened), ["bytes"]),
    "a layer without end": (layer(endless=True), ["longer"]),
    "a layer that is not there": (not_there, ["no blob"]),
    "layers of other content": (other_diff_ids, ["layer"]),
}
LARGE = 1 << 20  # bytes that are written together
SOON = {"Retry-After": "0"}
REFUSALS = {
    "too many requests": (manifest(status=429, headers=SOON), ["429 Too Many Requests"]),
    "not available": (manifest(status=503, headers=SOON), ["503 Service Unavailable"]),
    "broken": (config(status=500, headers=SOON), ["500 Internal Server Error"]),
    "too many requests for a layer": (layer(status=429, headers=SOON), ["429 Too Many Requests"]),
    "not available for a layer": (layer(status=503, headers=SOON), ["503 Service Unavailable"]),
    "a teapot": (manifest(status=418), ["418"]),
    "forbidden": (manifest(status=403), ["denies access"]),
    "a layer that is forbidden": (layer(status=403), ["denies access"]),
    "unauthorized, with no way to change that": (layer(status=401), ["denies access"]),
}


def cases(table):
    return pytest.mark.parametrize(("fault", "words"), [pytest.param(*case, id=why) for why, case in table.items()])


@cases(MANIFESTS)
def test_what_is_no_image_is_not_kept(plugrun, pull, stub, fault, words):
    parts = stub.add(fresh())
    before = kept(plugrun)
    fault(stub, parts)
    assert_failed(pull(), stub.name, *words)
    assert kept(plugrun) == before


# Between the test and the program: who starts it counts as well, and the process of the tests is large.
MEMORY = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("what", [manifest, config, layer])
def test_a_body_without_end_takes_no_memory(plugrun, pull, stub, trusting, what):
    what(endless=True)(stub, stub.add(fresh()))
    argv = [sys.executable, "-c", MEMORY, *plugrun.argv("pull", stub.name)]
    done = subprocess.run(argv, env={**os.environ, **trusting(stub)}, capture_output=True, text=True, check=False)
    code, peak = done.stdout.split()
    assert code == "1"
    assert int(peak) < 200 << 10  # KiB


@cases(BLOBS)
def test_what_is_wrong_is_not_kept_and_the_next_pull_works(plugrun, pull, stub, fault, words):
    parts = stub.add(fresh())
    good = dict(stub.content)
    before = kept(plugrun)
    fault(stub, parts)
    assert_failed(pull(), stub.name, *words)
    assert kept(plugrun) == before
    assert_only_beginnings(plugrun, parts)
    stub.heal(good)
    pull().ok()
    assert_all_there(plugrun, parts)


@cases(REFUSALS)
def test_a_registry_that_refuses(plugrun, pull, stub, fault, words):
    parts = stub.add(fresh())
    before = kept(plugrun)
    fault(stub, parts)
    assert_failed(pull(), stub.name, *words)
    assert kept(plugrun) == before


@pytest.mark.parametrize("status", [429, 503])
def test_a_registry_that_is_busy_for_a_moment(plugrun, pull, stub, status):
    parts = stub.add(fresh())
    for path in (stub.manifest_path(), stub.blob_path(parts.id), layer_path(stub, parts)):
        stub.script(path, Reply(status, headers=SOON), Reply(status, headers=SOON))
    pull().ok()
    assert stub.asked().count(("GET", stub.manifest_path())) == 3
    assert_all_there(plugrun, parts)


def test_a_layer_that_breaks_off_is_continued(plugrun, pull, stub):
    parts = stub.add(fresh())
    stub.script(layer_path(stub, parts), Reply(cut=1000))
    pull().ok()
    ranges = [seen.headers.get("range") for seen in stub.seen if seen.path == layer_path(stub, parts)]
    assert ranges == [None, "bytes=1000-"]
    assert_all_there(plugrun, parts)


def test_a_layer_that_is_wrong_from_the_beginning_is_not_waited_for(plugrun, pull, stub):
    parts = fresh()
    parts.layers[1:] = [b"no tar" + os.urandom(4 * LARGE)]
    stub.add(parts)
    stub.say(layer_path(stub, parts), Reply(hold=(2 * LARGE, threading.Event())))
    assert_failed(pull(), "tar header")
    assert stub.asked().count(("GET", layer_path(stub, parts))) == 1  # nobody waited until the registry was too slow


def test_a_layer_whose_rest_comes_with_its_beginning(plugrun, pull, stub):
    parts = stub.add(fresh())
    stub.script(layer_path(stub, parts), Reply(cut=1000), Reply(ranges=False))
    pull().ok()
    assert_all_there(plugrun, parts)


def test_a_layer_whose_rest_is_another(plugrun, pull, stub):
    parts = stub.add(fresh())
    before = kept(plugrun)
    stub.script(layer_path(stub, parts), Reply(cut=1000))
    stub.say(layer_path(stub, parts), Reply(change=flipped))
    assert_failed(pull(), stub.name, "layer", "digest")
    assert kept(plugrun) == before
    stub.heal()
    pull().ok()
    assert_all_there(plugrun, parts)


def test_what_is_left_of_the_first_attempt_is_no_reason_for_a_third(plugrun, pull, stub):
    """Each attempt leaves the beginning of a layer that was not there before."""
    parts = fresh()
    parts.layers[1:] = [archives.layer({"large": os.urandom(4 * LARGE)}) for _ in range(2)]
    stub.add(parts)
    wrong, *slow = (layer_path(stub, parts, number) for number in range(3))
    never, turns = threading.Event(), [threading.Event() for _ in range(3)]
    for path in slow:
        stub.say(path, Reply(hold=(LARGE + 1000, never)))
    stub.script(wrong, *(Reply(change=flipped, hold=(10, turn)) for turn in turns))
    area = plugrun.roots.root / "images/downloads"
    area.mkdir(mode=0o700, exist_ok=True)
    files = [area / path.rpartition("/")[2].replace(":", "-") for path in slow]
    files[0].write_bytes(parts.packed(parts.layers[1])[:LARGE])
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(pull)
        for number, turn in enumerate(turns, 1):
            while not result.done() and not begun(stub, [wrong, *slow], files, number):
                wait([result], 0.02)
            turn.set()
        assert_failed(result.result(), "corrupt")
    assert stub.asked().count(("GET", wrong)) == 2


def begun(stub, paths, files, number):
    """Whether every path has been asked for so often, and something of it is here."""
    counts = [stub.asked().count(("GET", path)) for path in paths]
    return min(counts) >= number and all(file.exists() and file.stat().st_size >= LARGE for file in files)


def test_a_token_that_ends_in_the_middle(plugrun, pull, stub):
    parts = stub.add(fresh())
    stub.guard = bearer(f"{stub.url}/token", uses=3, service="tests")  # for the manifest, the config and one layer
    pull().ok()
    assert set(stub.secrets()) == {"Bearer token-0", "Bearer token-1"}
    assert_all_there(plugrun, parts)


def test_a_token_that_always_ends_in_the_middle(plugrun, pull, stub):
    stub.add(fresh())
    before = kept(plugrun)
    stub.guard = bearer(f"{stub.url}/token", uses=0, service="tests")
    assert_failed(pull(), stub.name, "denies access")
    assert kept(plugrun) == before


@pytest.mark.parametrize("option", ["missing", "always"])
def test_run_that_cannot_pull_is_125(plugrun, stub, trusting, option):
    parts = stub.add(fresh())
    layer(change=flipped)(stub, parts)
    before = kept(plugrun)
    assert_failed(
        plugrun("run", "--pull", option, stub.name, "true", env=trusting(stub)), stub.host, "digest", code=125
    )
    assert kept(plugrun) == before
    assert plugrun("ps", "-aq").stdout == ""


@pytest.mark.parametrize("tag", ["v\x1b[2J1", "v/1", "v1:2", "", "v1@sha256:" + "0" * 64])
def test_a_tag_that_is_none_is_not_pulled(plugrun, pull, stub, tag):
    stub.add(fresh())
    content = stub.content[stub.manifest_path()]
    kind = {"Content-Type": content.media_type}
    stub.guard = lambda seen: Reply(headers=kind, body=content.data) if "/manifests/" in seen.path else None
    stub.say(f"/v2/{stub.repository}/tags/list", Reply(body=archives.encode({"tags": [tag]})))
    before = kept(plugrun)
    assert_failed(pull("--all-tags", name=f"{stub.host}/{stub.repository}"), "invalid image reference", "the tag ")
    assert kept(plugrun) == before
