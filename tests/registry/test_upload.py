"""The distribution-spec's push side."""

from __future__ import annotations

import hashlib
import io
import json

import pytest

from plugrun.errors import Denied, DriverError, InvalidArgument, Unavailable
from plugrun.registry.endpoint import Credential
from registry.server import Reply

BLOB = bytes(range(256)) * 4096 + b"tail"  # several chunks
DIGEST = "sha256:" + hashlib.sha256(BLOB).hexdigest()
BASIC = "Basic YWxpY2U6c2VjcmV0"


class Registry:
    """Takes uploads; what it is asked can be made to fail."""

    def __init__(self, serve, location="/up/{number}?state=a%2Fb"):
        self.location = location
        self.failures = {}
        self.begun = 0
        self.stored = {}
        self.server = serve(self._answer)

    def _answer(self, seen):
        failures = self.failures.get(seen.method, [])
        if failures and (failure := failures.pop(0)):
            return failure
        if seen.method == "POST":
            self.begun += 1
            return Reply(202, {"Location": self.location.format(number=self.begun, url=self.server.url)})
        if seen.method == "PUT":
            self.stored[seen.path] = seen.body
            return Reply(201)
        return Reply()


@pytest.fixture
def registry(serve):
    return Registry(serve)


class Sent:
    """What was told to be sent."""

    def __init__(self):
        self.counts = []

    def __call__(self, count):
        self.counts.append(count)


def put(client, server, blob=BLOB, **options):
    sent = Sent()
    client.repository(server, **options).upload_blob(DIGEST, len(BLOB), lambda: io.BytesIO(blob), sent)
    return sent


@pytest.mark.parametrize("location", ["/up/{number}?state=a%2Fb", "{url}/up/{number}?state=a%2Fb", "../../up/{number}"])
def test_a_blob(client, serve, location):
    registry = Registry(serve, location)
    registry.location = location.replace("../../up", "/up") if location.startswith("..") else location
    sent = put(client, registry.server)
    state = "state=a%2Fb&" if "state" in location else ""
    assert registry.stored == {f"/up/1?{state}digest={DIGEST.replace(':', '%3A')}": BLOB}
    post, request = registry.server.seen[-2:]
    assert (post.method, post.path, post.body) == ("POST", "/v2/app/blobs/uploads/", b"")
    assert request.headers["content-length"] == str(len(BLOB))
    assert "transfer-encoding" not in request.headers
    assert sum(sent.counts) == len(BLOB)
    assert max(sent.counts) <= 1 << 20


def test_an_empty_blob(client, registry):
    client.repository(registry.server).upload_blob(DIGEST, 0, io.BytesIO, lambda _count: None)
    assert list(registry.stored.values()) == [b""]


def test_a_blob_is_sent_from_its_begin_again(client, registry):
    registry.failures["PUT"] = [Reply(503), Reply(500)]
    sent = put(client, registry.server)
    assert list(registry.stored) == [path for path in registry.stored if path.startswith("/up/3")]
    assert sum(sent.counts) == len(BLOB)
    assert min(sent.counts) == -len(BLOB)
    assert client.delays == [1, 2]


def test_a_registry_that_takes_no_blob(client, registry):
    registry.failures["PUT"] = [Reply(400, {}, b'{"errors": [{"message": "digest did not match"}]}')]
    with pytest.raises(InvalidArgument, match=r"400 Bad Request about blob .*: digest did not match"):
        put(client, registry.server)
    registry.failures["POST"] = [Reply(403)]
    with pytest.raises(Denied, match="denies access to blob"):
        put(client, registry.server)


def test_a_file_that_is_cut_short(client, registry):
    with pytest.raises(InvalidArgument, match=f"is cut short: 3 of {len(BLOB)} bytes"):
        put(client, registry.server, b"abc")
    assert registry.stored == {}
    assert client.delays == []


def test_a_file_that_has_grown(client, registry):
    sent = put(client, registry.server, BLOB + b"more")
    assert sum(sent.counts) == len(BLOB)
    assert list(registry.stored.values()) == [BLOB]


def test_a_file_that_cannot_be_read_is_not_the_registry_s_fault(client, registry):
    class Broken(io.BytesIO):
        def readinto(self, _buffer):
            raise OSError(5, "Input/output error")

    with pytest.raises(Unavailable, match=r"blob .* cannot be read: Input/output error"):
        client.repository(registry.server).upload_blob(DIGEST, 5, Broken, lambda _count: None)
    assert client.delays == []


def test_another_origin_gets_the_blob_but_no_password(client, serve):
    storage = Registry(serve)
    registry = Registry(serve, f"{storage.server.url}/up")
    registry.failures["POST"] = [Reply(401, {"WWW-Authenticate": "Basic"})]
    client.credential = Credential("alice", "secret")
    put(client, registry.server)
    assert [seen.authorization for seen in registry.server.seen if seen.method == "POST"] == [None, BASIC]
    assert [seen.authorization for seen in storage.server.seen] == [None]
    assert list(storage.stored.values()) == [BLOB]


@pytest.mark.parametrize(
    ("location", "why"),
    [("http://169.254.169.254/x", "link-local"), ("ftp://a.test/", "not an http"), ("", "without saying where")],
)
def test_locations_that_are_refused(client, serve, location, why):
    registry = Registry(serve, location)
    with pytest.raises(InvalidArgument, match=why):
        put(client, registry.server)


def test_a_location_without_tls(client, serve, localhost_certificate):
    canary = Registry(serve)
    server = serve(lambda _seen: Reply(202, {"Location": f"{canary.server.url}/up"}), localhost_certificate)
    with pytest.raises(InvalidArgument, match="from https on to plain HTTP"):
        put(client, server, certificates=[localhost_certificate.parent])
    assert canary.server.seen == []


def test_a_mount(client, registry):
    registry.failures["POST"] = [Reply(201)]
    assert client.repository(registry.server).mount_blob(DIGEST, "other/app")
    assert (
        registry.server.seen[-1].path == f"/v2/app/blobs/uploads/?mount={DIGEST.replace(':', '%3A')}&from=other%2Fapp"
    )


def test_an_upload_that_was_begun_instead_of_a_mount_is_used(client, registry):
    repository = client.repository(registry.server)
    assert not repository.mount_blob(DIGEST, "other")
    repository.upload_blob(DIGEST, len(BLOB), lambda: io.BytesIO(BLOB), lambda _count: None)
    assert registry.begun == 1
    assert list(registry.stored.values()) == [BLOB]
    repository.upload_blob(DIGEST, len(BLOB), lambda: io.BytesIO(BLOB), lambda _count: None)
    assert registry.begun == 2


def test_an_upload_that_was_given_up_is_begun_anew(client, registry):
    repository = client.repository(registry.server)
    repository.mount_blob(DIGEST, "other")
    registry.failures["PUT"] = [Reply(404)]
    sent = Sent()
    repository.upload_blob(DIGEST, len(BLOB), lambda: io.BytesIO(BLOB), sent)
    assert registry.begun == 2
    assert sum(sent.counts) == len(BLOB)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_a_mount_that_is_refused(client, registry, status):
    registry.failures["POST"] = [Reply(status)]
    assert not client.repository(registry.server).mount_blob(DIGEST, "other")


def test_what_tokens_are_asked_for(client, registry):
    tokens = []

    def answer(seen):
        if seen.path.startswith("/token"):
            tokens.append(seen.path.partition("?")[2])
            return Reply(body=json.dumps({"token": f"t{len(tokens)}", "expires_in": 300}).encode())
        if not seen.authorization:
            return Reply(401, {"WWW-Authenticate": f'Bearer realm="{registry.server.url}/token"'})
        return registry._answer(seen)

    registry.server.script = answer
    repository = client.repository(registry.server)
    repository.mount_blob(DIGEST, "other")
    repository.upload_blob(DIGEST, len(BLOB), lambda: io.BytesIO(BLOB), lambda _count: None)
    repository.put_manifest("v1", b"{}", "application/json")
    assert tokens == [
        "scope=repository%3Aapp%3Apull%2Cpush&scope=repository%3Aother%3Apull",
        "scope=repository%3Aapp%3Apull%2Cpush",
    ]


def test_a_manifest(client, registry):
    client.repository(registry.server).put_manifest("v1", b"{}", "application/x")
    assert registry.stored == {"/v2/app/manifests/v1": b"{}"}
    assert registry.server.seen[-1].headers["content-type"] == "application/x"


def test_a_manifest_is_put_again(client, registry):
    registry.failures["PUT"] = [Reply(503)]
    client.repository(registry.server).put_manifest("v1", b"{}", "application/x")
    assert registry.stored == {"/v2/app/manifests/v1": b"{}"}


def test_a_manifest_that_is_not_stored(client, registry):
    repository = client.repository(registry.server)
    registry.failures["PUT"] = [Reply(200)]
    with pytest.raises(DriverError, match="answers 200 OK about image"):
        repository.put_manifest("v1", b"{}", "application/x")
    registry.failures["PUT"] = [Reply(201, {"Docker-Content-Digest": DIGEST})]
    with pytest.raises(DriverError, match=f"has stored image .*app:v1 as {DIGEST}, which it is not"):
        repository.put_manifest("v1", b"{}", "application/x")
