"""``plugrun push`` into real registries, and what skopeo finds there."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time

import pytest

from fixtures.engine import Cli
from fixtures.registry import PASSWORD, USERNAME
from fixtures.tokens import PULL
from fixtures.tools import skopeo
from images import archives
from images.archives import Parts
from plugrun.images import layout
from plugrun.images.store import ImageStore
from terminals import Terminal

pytestmark = pytest.mark.root


@pytest.fixture(scope="session", params=["basic_registry", "shared_token_registry"])
def shut_registry(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def start(private_root, tmp_path):
    """Return the program as a user starts it who trusts a registry and, if it wants that, has logged in."""

    def start(registry, *, login=True):
        environment = {**registry.env, "HOME": str(tmp_path / "home"), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
        user = Cli(private_root, environment)
        if registry.username and login:
            user("login", "-u", USERNAME, "--password-stdin", registry.host, input=PASSWORD).ok()
        return user

    return start


@pytest.fixture
def tagged(private_root, tmp_path):
    """Load an image under some names; return its manifest's digest."""

    def tagged(*tags, parts=None):
        store = ImageStore(private_root.root / "images")
        parts = parts or Parts(name=None)
        store.load(archives.write_tar(tmp_path / "archive.tar", parts.oci()))
        for name in tags:
            store.tag(store.resolve(parts.id), name)
        return store.resolve(parts.id).manifest_digest

    return tagged


def blob(private_root, digest):
    return layout.blob_path(private_root.root / "images", digest)


def since(registry, before):
    return [(request.method, request.path.partition("?")[0]) for request in registry.requests()[before:]]


def refused(result, *reasons):
    assert result.code == 1
    assert result.stdout == ""
    line = result.stderr.splitlines()[-1]
    for reason in reasons:
        assert reason in line


def test_what_is_pushed_is_what_skopeo_gets(start, tagged, shut_registry, tmp_path, private_root):
    name = shut_registry.name("push/whole:v1")
    digest = tagged(name)
    result = start(shut_registry)("push", name).ok()
    size = blob(private_root, digest).stat().st_size
    assert result.stdout == f"v1: digest: {digest} size: {size}\n"
    first, *layers = result.stderr.splitlines()
    assert first == f"Pushing {name}"
    assert len(layers) == 2
    assert all(re.fullmatch(r"Layer [0-9a-f]{12}: pushed", line) for line in layers)
    assert shut_registry.digest("push/whole:v1") == digest
    skopeo("copy", "-q", *shut_registry.credentials("src-"), f"docker://{name}", f"dir:{tmp_path / 'got'}")
    assert (tmp_path / "got" / "manifest.json").read_bytes() == blob(private_root, digest).read_bytes()


def test_a_real_image_comes_back_the_same(start, plugrun, busybox, registry, private_root):
    store = ImageStore(private_root.root / "images")
    image = store.resolve(busybox)
    name = registry.name("push/busybox")
    store.tag(image, name)
    user = start(registry)
    user("push", "-q", name).ok()
    assert registry.digest("push/busybox:latest") == image.manifest_digest
    user("rmi", "-f", image.id).ok()
    user("pull", "-q", name).ok()
    assert store.resolve(name)[:3] == (image.id, (f"{name}:latest",), image.manifest_digest)
    assert user("run", "--rm", "--net", "none", name, "echo", "back").ok().line == "back"


def test_nothing_is_sent_twice_and_the_manifest_comes_last(start, tagged, registry):
    user = start(registry)
    name = registry.name("push/twice:v1")
    tagged(name)
    before = len(registry.requests())
    user("push", name).ok()
    first = since(registry, before)
    assert first[-1] == ("PUT", "/v2/push/twice/manifests/v1")
    uploads = [path for method, path in first if method == "PUT" and "/blobs/uploads/" in path]
    assert len(uploads) == 3
    before = len(registry.requests())
    result = user("push", name).ok()
    second = since(registry, before)
    assert [method for method, path in second if "/blobs/" in path] == ["HEAD"] * 3
    assert second[-1] == ("PUT", "/v2/push/twice/manifests/v1")
    assert result.stderr.count(": already exists\n") == 2


def test_a_blob_of_another_repository_is_mounted(start, tagged, shut_registry):
    user = start(shut_registry)
    shared = archives.layer({"shared": b"s" * 1000})
    own = archives.layer({"own": b"o"})
    one, two = shut_registry.name("push/mount-one"), shut_registry.name("push/mount-two")
    tagged(one, parts=Parts([shared], name=None))
    digest = tagged(two, parts=Parts([shared, own], name=None))
    user("push", one).ok()
    before = len(shut_registry.requests())
    result = user("push", two).ok()
    assert f"Layer {archives.sha256(shared)[7:19]}: mounted from push/mount-one" in result.stderr
    assert f"Layer {archives.sha256(own)[7:19]}: pushed" in result.stderr
    sent = [path for method, path in since(shut_registry, before) if method == "PUT" and "/blobs/uploads/" in path]
    assert len(sent) == 2  # the configuration and the layer of its own
    assert shut_registry.digest("push/mount-two:latest") == digest


def test_what_may_not_be_mounted_is_sent(start, tagged, token_registry):
    one, two = token_registry.name("push/secret"), token_registry.name("push/open")
    tagged(one, two)
    user = start(token_registry)
    user("push", one).ok()
    token_registry.tokens.rights = {"push/secret": frozenset()}
    result = user("push", two).ok()
    assert result.stderr.count(": pushed\n") == 2


def test_all_tags_of_a_name_are_pushed(start, tagged, registry):
    name = registry.name("push/many")
    first = tagged(f"{name}:1", f"{name}:2", registry.name("push/many-others:3"))
    second = tagged(f"{name}:2", parts=Parts([archives.layer({"x": b"x"})], name=None))
    user = start(registry)
    assert re.findall(r"^(\w+): digest: (\S+)", user("push", "-a", name).ok().stdout, re.MULTILINE) == [
        ("1", first),
        ("2", second),
    ]
    assert (registry.digest("push/many:1"), registry.digest("push/many:2")) == (first, second)
    assert registry.curl("/v2/push/many-others/tags/list")[0] == 404
    refused(user("push", "-a", f"{name}:1"), "has a tag, and all tags are to be pushed")


def test_quiet_prints_the_name(start, tagged, registry):
    name = registry.name("push/quiet")
    tagged(name)
    result = start(registry)("push", "-q", name).ok()
    assert (result.stdout, result.stderr) == (f"{name}:latest\n", "")


def test_what_is_no_name_says_what_to_do(start, tagged, registry):
    name = registry.name("push/names")
    digest = tagged(name)
    user = start(registry)
    refused(user("push", f"{name}@{digest}"), "has a digest", "plugrun tag")
    refused(user("push", digest), "is an image id", "plugrun tag")
    refused(user("push", f"{name}:absent"), "no image", "absent")


def test_a_missing_layer_is_noticed_before_anything_is_sent(start, tagged, registry, private_root):
    name = registry.name("push/missing")
    parts = Parts(name=None)
    tagged(name, parts=parts)
    blob(private_root, archives.sha256(parts.layers[1])).unlink()
    before = len(registry.requests())
    refused(start(registry)("push", name), f"cannot push {name}:latest", "is missing", "load or pull the image again")
    assert since(registry, before) == []


def test_who_is_not_logged_in_is_told_to(start, tagged, shut_registry):
    name = shut_registry.name("push/denied")
    tagged(name)
    result = start(shut_registry, login=False)("push", name)
    refused(result, f"cannot push {name}:latest", f"plugrun login {shut_registry.host}")
    assert len(result.stderr.splitlines()) == 2  # with the line that says what is pushed


def test_who_may_only_pull_is_told_so(start, tagged, token_registry):
    token_registry.tokens.rights = {"push/readonly": PULL}
    name = token_registry.name("push/readonly")
    tagged(name)
    refused(start(token_registry)("push", name), f"cannot push {name}:latest", "push/readonly")
    assert token_registry.curl("/v2/push/readonly/manifests/latest")[0] != 200


def test_a_registry_that_is_not_trusted_gets_nothing(start, tagged, registry, tmp_path):
    name = registry.name("push/untrusted")
    tagged(name)
    before = len(registry.requests())
    result = start(registry)("push", name, env={"PLUGRUN_CERTS_DIR": str(tmp_path / "none")})
    refused(result, f"cannot push {name}:latest", "certificate is not trusted")
    assert since(registry, before) == []


def test_a_mirror_gets_nothing(start, tagged, registry, plain_registry, tmp_path):
    (tmp_path / "registries.conf").write_text(
        f'[[registry]]\nlocation = "{registry.host}"\n[[registry.mirror]]\nlocation = "{plain_registry.host}"\n'
    )
    name = registry.name("push/mirrored:v1")
    digest = tagged(name)
    before = len(plain_registry.requests())
    start(registry)("push", name, env={"PLUGRUN_REGISTRIES_CONF": str(tmp_path / "registries.conf")}).ok()
    assert registry.digest("push/mirrored:v1") == digest
    assert since(plain_registry, before) == []


def test_this_machines_registry_may_be_plain_http(start, tagged, plain_registry):
    digest = tagged(plain_registry.name("push/plain:v1"))
    start(plain_registry)("push", plain_registry.name("push/plain:v1")).ok()
    assert plain_registry.digest("push/plain:v1") == digest


def test_a_docker_archive_is_pushed_as_what_it_is(start, plugrun, busybox, registry, private_root):
    """As it was loaded: with an OCI manifest, whose layers are not compressed."""
    store = ImageStore(private_root.root / "images")
    store.tag(store.resolve(busybox), registry.name("push/plainlayers"))
    start(registry)("push", registry.name("push/plainlayers")).ok()
    raw = skopeo("inspect", "--raw", *registry.credentials(), f"docker://{registry.name('push/plainlayers')}")
    assert json.loads(raw)["mediaType"] == archives.OCI_MANIFEST


def test_at_a_terminal_there_is_only_the_result(start, tagged, registry, monkeypatch):
    name = registry.name("push/terminal")
    digest = tagged(name)
    user = start(registry)
    for variable, value in user.env.items():
        monkeypatch.setenv(variable, value)
    with Terminal(user.argv("push", name)) as person:
        person.expect(f"latest: digest: {digest}")
        assert person.end() == 0
        assert "Layer" not in person.screen


def test_an_interrupt_ends_it_at_once(private_root, tagged, tmp_path):
    """Even when the registry does not answer, and no thread gets anywhere."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        name = f"localhost:{silent.getsockname()[1]}/push/silent"
        tagged(name)
        user = Cli(private_root)
        with subprocess.Popen(user.argv("push", name), stderr=subprocess.PIPE, text=True) as process:
            silent.settimeout(30)
            connection, _ = silent.accept()
            connection.recv(1)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=30)
            connection.close()
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert time.monotonic() - began < 5  # seconds; the registry would have 30
