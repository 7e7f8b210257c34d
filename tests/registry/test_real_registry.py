"""Both directions against Debian's docker-registry: open, with a password, with tokens, and without TLS."""

from __future__ import annotations

import hashlib
import io
import json

import pytest

from plugrun.errors import Denied, NotFound
from plugrun.registry.client import Repository, Transport
from plugrun.registry.endpoint import Credential, Endpoint

pytestmark = pytest.mark.root
OCI = "application/vnd.oci.image.manifest.v1+json"
BLOB = bytes(range(256)) * 8192
CONFIG = b"{}"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["registry", "basic_registry", "token_registry", "plain_registry"])
def served(request, registry, basic_registry, token_registry, plain_registry):
    return request.getfixturevalue(request.param)  # all of them are there before a test that looks for leftovers begins


class Asker:
    """Repositories of one registry, asked as somebody."""

    def __init__(self, registry, credential):
        self.transport = Transport(credentials=lambda _registry: credential)
        self._registry = registry

    def __call__(self, name):
        host, trust = self._registry.host, (self._registry.cert_dir,) if self._registry.ca else ()
        return Repository(self.transport, Endpoint(host, name, host, not trust, trust))


@pytest.fixture
def ask(served):
    credential = Credential(served.username, served.password) if served.username else None
    made = Asker(served, credential)
    yield made
    made.transport.close()


def put(repository, data):
    repository.upload_blob(digest(data), len(data), lambda: io.BytesIO(data), lambda _count: None)


def manifest():
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(BLOB), "size": len(BLOB)}
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(CONFIG), "size": len(CONFIG)}
    return json.dumps({"schemaVersion": 2, "mediaType": OCI, "config": config, "layers": [layer]}).encode()


def test_what_is_pushed_can_be_pulled(ask):
    repository = ask("real/client")
    repository.ping()
    assert not repository.has_blob(digest(BLOB))
    for blob in (BLOB, CONFIG):
        put(repository, blob)
    tags = [f"v{number}" for number in range(3)]
    for tag in tags:
        repository.put_manifest(tag, manifest(), OCI)
    answer = repository.manifest("v1")
    assert answer == (manifest(), OCI, digest(manifest()))
    assert repository.manifest(answer.digest) == answer
    assert repository.has_manifest("v2") == answer.digest
    assert sorted(repository.tags()) == tags
    for offset in (0, 1_000_000):
        with repository.open_blob(digest(BLOB), len(BLOB), offset=offset) as body:
            assert body.offset == offset
            assert body.readall() == BLOB[offset:]


def test_a_blob_is_mounted_if_the_registry_has_it(ask):
    put(ask("real/from"), BLOB)
    other = ask("real/to")
    assert other.mount_blob(digest(BLOB), "real/from")
    assert other.has_blob(digest(BLOB))
    assert not other.mount_blob(digest(b"other"), "real/from")
    put(other, b"other")
    assert other.has_blob(digest(b"other"))


def test_what_is_not_there(ask, served):
    repository = ask("real/nothing")
    with pytest.raises(NotFound, match=f"^no image {served.host}/real/nothing:v1 in the registry: manifest unknown$"):
        repository.manifest("v1")
    assert repository.has_manifest("v1") is None


@pytest.mark.parametrize("served", ["basic_registry", "token_registry"], indirect=True)
@pytest.mark.parametrize("credential", [None, Credential("ada", "wrong")])
def test_who_is_not_let_in(served, credential):
    ask = Asker(served, credential)
    try:
        with pytest.raises(Denied) as caught:
            ask("real/client").manifest("v1")
        assert caught.value.hint
        assert f"plugrun login {served.host}" in caught.value.hint
        assert served.host in str(caught.value)
    finally:
        ask.transport.close()
