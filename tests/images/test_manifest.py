"""Manifests, indexes and configurations: one reading each, or refused."""

from __future__ import annotations

import json
import os

import pytest

from images.archives import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, config, descriptor, encode, sha256
from plugrun.errors import FailedPrecondition, InvalidArgument
from plugrun.images import config as configs
from plugrun.images import document, manifest, media, platform
from plugrun.images.manifest import Descriptor, Index, Manifest
from plugrun.images.platform import Platform

CONFIG = descriptor(OCI_CONFIG, b"{}")
LAYER = descriptor(OCI_LAYER, b"")
IMAGE = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]}
LIST = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, b"x")]}
DOCKER = {
    "schemaVersion": 2,
    "mediaType": media.DOCKER_MANIFEST,
    "config": CONFIG | {"mediaType": media.DOCKER_CONFIG},
    "layers": [LAYER | {"mediaType": f"{media.DOCKER_LAYER}.gzip"}],
}


def without(values, key):
    return {name: value for name, value in values.items() if name != key}


@pytest.mark.parametrize("content", [IMAGE, without(IMAGE, "mediaType"), DOCKER])
def test_manifests_are_read(content):
    found = manifest.parse(encode(content), "m")
    assert isinstance(found, Manifest)
    assert found.config.digest == sha256(b"{}")
    assert [item.size for item in found.layers] == [0]


@pytest.mark.parametrize("content", [LIST, without(LIST, "mediaType"), LIST | {"mediaType": media.DOCKER_LIST}])
def test_indexes_are_read(content):
    assert isinstance(manifest.parse(encode(content), "m"), Index)


@pytest.mark.parametrize(
    ("content", "announced", "reason"),
    [
        pytest.param(IMAGE | LIST, "", "fields of both", id="image and index at once"),
        pytest.param(LIST | {"layers": []}, "", "fields of both", id="index with layers"),
        pytest.param(LIST | {"config": CONFIG}, "", "fields of both", id="index with config"),
        pytest.param({"schemaVersion": 2}, "", "fields of neither", id="nothing"),
        pytest.param(IMAGE | {"mediaType": OCI_INDEX}, "", "does not fit its fields", id="image called index"),
        pytest.param(LIST | {"mediaType": OCI_MANIFEST}, "", "does not fit its fields", id="index called image"),
        pytest.param(without(IMAGE, "mediaType"), OCI_INDEX, "does not fit its fields", id="announced as index"),
        pytest.param(IMAGE, OCI_INDEX, "announced as", id="announced otherwise"),
        pytest.param(IMAGE, media.DOCKER_MANIFEST, "announced as", id="announced as Docker's"),
        pytest.param(IMAGE | {"mediaType": "application/x"}, "", "'application/x' is not one", id="unknown type"),
        pytest.param(IMAGE | {"Layers": []}, "", "ambiguous", id="Go would read Layers as layers"),
        pytest.param(IMAGE | {"MEDIATYPE": OCI_INDEX}, "", "ambiguous", id="Go would read MEDIATYPE"),
        pytest.param(IMAGE | {"schemaVersion": 1}, "", "schema 1", id="schema 1"),
        pytest.param({"schemaVersion": 1, "fsLayers": []}, "", "schema 1", id="schema 1 layers"),
        pytest.param(without(IMAGE, "schemaVersion"), "", "schemaVersion is None", id="no version"),
        pytest.param(IMAGE | {"schemaVersion": "2"}, "", "not a number", id="version as text"),
        pytest.param(IMAGE | {"config": CONFIG | {"mediaType": "application/helm"}}, "", "application/helm", id="helm"),
        pytest.param(IMAGE | {"config": None}, "", "has no config", id="no config"),
        pytest.param(IMAGE | {"config": CONFIG | {"size": 5 << 20}}, "", "larger than 4 MiB", id="config too large"),
        pytest.param(IMAGE | {"config": CONFIG | {"size": -1}}, "", "not a non-negative", id="negative size"),
        pytest.param(IMAGE | {"config": CONFIG | {"size": True}}, "", "not a non-negative", id="size true"),
        pytest.param(IMAGE | {"config": CONFIG | {"size": 1.5}}, "", "not a number", id="size 1.5"),
        pytest.param(IMAGE | {"config": CONFIG | {"size": 1 << 63}}, "", "not a non-negative", id="size 2^63"),
        pytest.param(IMAGE | {"config": without(CONFIG, "size")}, "", "has no size", id="no size"),
        pytest.param(
            IMAGE | {"config": CONFIG | {"digest": "sha256:../../x"}}, "", "is not sha256", id="digest as path"
        ),
        pytest.param(IMAGE | {"layers": [LAYER] * 129}, "", "129 layers, more than 128", id="129 layers"),
        pytest.param(IMAGE | {"layers": [7]}, "", "not an object", id="layer is a number"),
        pytest.param(IMAGE | {"layers": {}}, "", "not a list", id="layers are an object"),
        pytest.param(
            IMAGE | {"layers": [LAYER | {"mediaType": "application/vnd.oci.image.layer.v1.tar+lzma"}]},
            "",
            r"tar\+lzma' is not one",
            id="unknown layer",
        ),
        pytest.param(
            IMAGE | {"layers": [LAYER | {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar"}]},
            "",
            "foreign layer",
            id="OCI foreign layer",
        ),
        pytest.param(
            DOCKER
            | {
                "layers": [
                    LAYER
                    | {
                        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                        "urls": ["http://192.0.2.1/"],
                    }
                ]
            },
            "",
            "foreign layer",
            id="Docker foreign layer with urls",
        ),
        pytest.param(LIST | {"manifests": [LIST["manifests"][0]] * 10_001}, "", "more than 10000", id="endless index"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(content, announced, reason):
    with pytest.raises(InvalidArgument, match=reason):
        manifest.parse(encode(content), "m", media_type=announced)


def test_128_layers_are_allowed():
    found = manifest.parse_manifest(encode(IMAGE | {"layers": [LAYER] * 128}), "m")
    assert len(found.layers) == 128


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"schemaVersion": 2, "layers": [], "layers": []}', "'layers' appears twice"),
        (b'{"config": {"digest": "a", "digest": "b"}}', "'digest' appears twice"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested too deeply"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not valid JSON"),
        (rb'{"a": ["\ud800"]}', "half a character"),
        (rb'{"a": {"x\udfff": 1}}', "half a character"),
        (rb'"\udc00\ud800"', "half a character"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'"x"', "not a JSON object"),
        (b" " * ((4 << 20) + 1), "larger than 4 MiB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_documents_that_are_not_plain_json_are_refused(data, reason):
    with pytest.raises(InvalidArgument, match=reason) as caught:
        document.parse(data, "m")
    assert len(str(caught.value)) < 200


class CountedKey(str):
    """A key that counts how often one is compared with another."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        CountedKey.compared += 1
        return str.__eq__(self, other)


def test_looking_for_a_key_that_appears_twice_takes_time_in_proportion():
    keys = [CountedKey(number) for number in range(1000)]
    with pytest.raises(ValueError, match="'999' appears twice"):
        document._unique([(key, None) for key in [*keys, CountedKey(999)]])
    assert CountedKey.compared < 2000


def test_whole_characters_outside_the_basic_plane_are_text():
    assert document.parse(rb'{"a": "\ud83d\ude00"}', "m").text("a") == "\N{GRINNING FACE}"


def test_an_index_is_not_an_image_and_the_other_way_round():
    with pytest.raises(InvalidArgument, match="is an index"):
        manifest.parse_manifest(encode(LIST), "m")
    with pytest.raises(InvalidArgument, match="announced as"):
        manifest.parse_index(encode(IMAGE), "m")


# --- Platforms --------------------------------------------------------------------------------------------------


def on(machine, monkeypatch):
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", "6", "1", machine)))


def offer(*platforms):
    return [
        Descriptor(OCI_MANIFEST, f"{number}", 1, platform=platform.parse(text)) for number, text in enumerate(platforms)
    ]


@pytest.mark.parametrize(
    ("machine", "offered", "chosen"),
    [
        ("x86_64", ["linux/arm64", "linux/amd64"], 1),
        ("x86_64", ["linux/386", "linux/amd64"], 1),
        ("x86_64", ["linux/386", "linux/arm64"], 0),
        ("x86_64", ["linux/amd64/v3", "linux/amd64"], 1),
        ("x86_64", ["windows/amd64", "linux/amd64"], 1),
        ("x86_64", ["unknown/unknown", "linux/amd64"], 1),
        ("aarch64", ["linux/amd64", "linux/arm64/v8"], 1),
        ("aarch64", ["linux/amd64", "linux/arm64"], 1),
        ("armv7l", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("s390x", ["linux/s390x"], 0),
    ],
)
def test_the_best_image_for_this_machine_is_chosen(machine, offered, chosen, monkeypatch):
    on(machine, monkeypatch)
    assert platform.choose(offer(*offered), "x").digest == str(chosen)


@pytest.mark.parametrize("offered", [["linux/arm64"], ["linux/amd64/v3"], ["windows/amd64"], []])
def test_an_image_for_other_machines_names_both(offered, monkeypatch):
    on("x86_64", monkeypatch)
    with pytest.raises(FailedPrecondition, match="no image for linux/amd64") as caught:
        platform.choose(offer(*offered), "x")
    assert all(name in str(caught.value) for name in offered)
    with pytest.raises(FailedPrecondition, match=r"for linux/arm64, and this machine is linux/amd64"):
        platform.check_runs(Platform("linux", "arm64"), "x")


@pytest.mark.parametrize("text", ["linux", "linux/", "/amd64", "linux/amd64/v1/x", "linux/am d64", ""])
def test_malformed_platforms_are_refused(text):
    with pytest.raises(InvalidArgument, match="os/architecture"):
        platform.parse(text)


# --- Configurations ------------------------------------------------------------------------------------------------


def test_a_configuration_is_read_and_only_what_may_shape_a_container():
    content = config([sha256(b"")], created="2020-01-01T00:00:00Z", history=[{"created_by": "x", "empty_layer": True}])
    content["config"] = {
        "Env": ["A=b"],
        "Cmd": ["c"],
        "Entrypoint": ["e"],
        "User": "u",
        "WorkingDir": "/w",
        "Volumes": {"/v": {}},
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {"l": "m"},
        "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5},
        "Shell": ["/bin/bash", "-c"],
        "HostConfig": {"Privileged": True},
        "SecurityOpt": ["seccomp=unconfined"],
        "Privileged": True,
    }
    found = configs.parse(json.dumps(content | {"HostConfig": {"Privileged": True}}).encode(), "c")
    assert found.env == ("A=b",)
    assert (found.cmd, found.entrypoint, found.shell) == (("c",), ("e",), ("/bin/bash", "-c"))
    assert (found.user, found.workdir, found.stop_signal) == ("u", "/w", "SIGINT")
    assert (found.volumes, found.exposed_ports, found.labels) == (("/v",), ("80/tcp",), {"l": "m"})
    assert found.healthcheck == configs.Healthcheck(test=("CMD", "true"), interval=5)
    assert found.history[0].empty_layer
    assert found.created == "2020-01-01T00:00:00Z"
    assert "rivileged" not in repr(found)
    assert "seccomp" not in repr(found)


def test_null_means_absent_as_go_writes_it():
    content = config([]) | {"config": {"Env": None, "Cmd": None, "Labels": None, "Volumes": None, "User": None}}
    found = configs.parse(encode(content), "c")
    assert (found.env, found.cmd, found.labels, found.volumes, found.user) == ((), (), {}, (), "")
    assert configs.parse(encode(config([]) | {"config": None, "history": None}), "c").env == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (config([]) | {"config": []}, "config is not an object"),
        (config([]) | {"config": {"Env": "A=b"}}, "Env is not a list"),
        (config([]) | {"config": {"Env": [1]}}, "not text"),
        (config([]) | {"config": {"Cmd": ["a\0b"]}}, "NUL"),
        (config([]) | {"config": {"User": "a\0b"}}, "User holds a NUL"),
        (config([]) | {"config": {"WorkingDir": "/a\0b"}}, "WorkingDir holds a NUL"),
        (config([]) | {"config": {"Volumes": {"/a\0b": {}}}}, "Volumes holds a NUL"),
        (config([]) | {"config": {"Labels": {"a": 1}}}, "not text"),
        (config(["sha256:x"]), "diff_id 'sha256:x' is not"),
        (config([sha256(b"")] * 129), "129 layers"),
        (config([]) | {"rootfs": None}, "rootfs is not"),
        (config([]) | {"rootfs": {"type": "magic"}}, "rootfs is not"),
        (config([]) | {"architecture": ""}, "no image configuration"),
        (config([]) | {"history": [{}] * 10_001}, "10001 history"),
        ({}, "no image configuration"),
    ],
)
def test_malformed_configurations_are_refused(content, reason):
    with pytest.raises(InvalidArgument, match=reason):
        configs.parse(encode(content), "c")
