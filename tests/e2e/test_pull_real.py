"""A real registry and what users do wrong with it: one clear line each, and nothing is kept."""

from __future__ import annotations

import base64
import json
import os
import socket

import pytest

from e2e.pulls import assert_failed, fresh, kept
from fixtures.answers import flipped
from fixtures.registry import serve
from images import archives

pytestmark = pytest.mark.root


@pytest.fixture
def plugrun(plugrun, busybox_archive):
    """The program, on an engine that has something already."""
    plugrun("load", "-i", str(busybox_archive)).ok()
    return plugrun


@pytest.fixture
def push(tmp_path):
    """Push an image made by hand with skopeo; return it taken apart."""

    def push_parts(registry, repository, **changes):
        parts = fresh(**changes)
        parts.name = "v1"
        layout = archives.write_directory(tmp_path / f"layout-{len(os.listdir(tmp_path))}", parts.oci())
        registry.push(f"oci:{layout}:v1", repository)
        return parts

    return push_parts


@pytest.fixture
def known(tmp_path):
    """Return the environment in which plugrun trusts a registry and has credentials for it."""

    def known_at(registry, password=None):
        auth = base64.b64encode(f"{registry.username}:{password or registry.password}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
        return {**registry.env, "DOCKER_CONFIG": str(tmp_path)}

    return known_at


@pytest.fixture(scope="session", params=["basic_registry", "shared_token_registry"])
def shut_registry(request):
    return request.getfixturevalue(request.param)


def layer_digest(parts, number=0):
    return archives.sha256(parts.packed(parts.layers[number]))


def test_nobody_listens(plugrun, host_names):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = plugrun("pull", f"registry.test:{port}/app:v1")
    assert_failed(result, f"registry.test:{port}", "cannot be reached: connection refused")


def test_a_name_that_nobody_has(plugrun):
    assert_failed(plugrun("pull", "nosuch.invalid/app:v1"), "nosuch.invalid", "cannot be reached")


def test_a_tag_that_is_not_there(plugrun, registry, push):
    push(registry, "real/tags:v1")
    assert_failed(plugrun("pull", registry.name("real/tags:v2"), env=registry.env), registry.name("real/tags:v2"))
    plugrun("pull", registry.name("real/tags:v1"), env=registry.env).ok()


def test_credentials(plugrun, shut_registry, push, known):
    push(shut_registry, "real/shut:v1")
    name, host = shut_registry.name("real/shut:v1"), shut_registry.host
    before = kept(plugrun)
    assert_failed(plugrun("pull", name, env=shut_registry.env), name, "denies access", f"plugrun login {host}")
    wrong = plugrun("pull", name, env=known(shut_registry, "wrong"))
    assert_failed(wrong, name, f"refuses the credentials of {shut_registry.username}", f"plugrun login {host}")
    assert kept(plugrun) == before
    plugrun("pull", name, env=known(shut_registry)).ok()


def test_a_repository_that_is_denied(plugrun, token_registry, push, known):
    push(token_registry, "real/denied:v1")
    token_registry.tokens.rights["real/denied"] = frozenset()
    env = known(token_registry)
    name = token_registry.name("real/denied:v1")
    before = kept(plugrun)
    assert_failed(plugrun("pull", name, env=env), name, f"denies {token_registry.username} access")
    assert kept(plugrun) == before
    token_registry.tokens.reset()
    plugrun("pull", name, env=env).ok()


def test_a_disk_of_the_registry_that_fails(plugrun, registry, push):
    parts = push(registry, "real/disk:v1")
    blob = registry.blob(layer_digest(parts))
    good = blob.read_bytes()
    name = registry.name("real/disk:v1")
    before = kept(plugrun)
    blob.write_bytes(flipped(good))
    assert_failed(plugrun("pull", name, env=registry.env), name, "layer", "digest")
    assert kept(plugrun) == before
    blob.write_bytes(good)
    plugrun("pull", name, env=registry.env).ok()


def test_a_registry_that_is_gone_comes_back(plugrun, authority, certificate, host_names, push, tmp_path):
    (tmp_path / "one").mkdir()
    with serve(tmp_path / "one", authority, certificate) as registry:
        push(registry, "real/gone:v1")
        plugrun("pull", registry.name("real/gone:v1"), env=registry.env).ok()
    gone = plugrun("pull", registry.name("real/gone:v1"), env=registry.env)
    assert_failed(gone, registry.host, "cannot be reached")
    assert plugrun("images", "-q").stdout.split()  # what was there still is
