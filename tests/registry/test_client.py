"""The distribution-spec's pull side: what is asked, what is believed of the answer."""

from __future__ import annotations

import hashlib
import json

import pytest

from plugrun.errors import Denied, InvalidArgument, NotFound
from plugrun.registry import client as registry_client
from plugrun.registry.client import Answer
from plugrun.registry.endpoint import Credential, Endpoint
from plugrun.registry.limits import Limits
from plugrun.registry.site import Site
from plugrun.registry.sockets import Watch
from registry.server import Reply

DATA = b'{"schemaVersion": 2}'
OCI = "application/vnd.oci.image.manifest.v1+json"


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def sha512(data):
    return "sha512:" + hashlib.sha512(data).hexdigest()


DIGEST = sha256(b"blob")


def asked(server):
    return [seen for seen in server.seen if seen.path != "/v2/"]


def test_a_manifest(client, serve):
    server = serve(lambda _seen: Reply(200, {"Content-Type": f"{OCI.upper()}; charset=utf-8"}, DATA))
    assert client.repository(server, "a/b").manifest("v1") == Answer(DATA, OCI, sha256(DATA))
    (seen,) = asked(server)
    assert (seen.method, seen.path, seen.body) == ("GET", "/v2/a/b/manifests/v1", b"")
    assert set(seen.headers["accept"].split(", ")) >= {OCI, "application/vnd.docker.distribution.manifest.list.v2+json"}
    assert seen.headers["accept-encoding"] == "identity"
    assert seen.headers["user-agent"].startswith("plugrun/")
    assert seen.headers["host"] == server.host


def test_a_manifest_without_a_type(client, serve):
    assert client.repository(serve(lambda _seen: Reply(body=DATA))).manifest("v1").media_type == ""


@pytest.mark.parametrize("digest", [sha256, sha512])
def test_a_manifest_by_digest(client, serve, digest):
    server = serve(lambda _seen: Reply(body=DATA))
    repository = client.repository(server)
    assert repository.manifest(digest(DATA)).digest == digest(DATA)
    assert asked(server)[0].path == f"/v2/app/manifests/{digest(DATA)}"
    with pytest.raises(InvalidArgument, match=f"app@{digest(b'x')} is corrupt: its digest is {digest(DATA)}, not"):
        repository.manifest(digest(b"x"))


def test_a_manifest_is_what_the_registry_says_it_is(client, serve):
    said = {}
    server = serve(lambda _seen: Reply(200, {"Docker-Content-Digest": said["digest"]}, DATA))
    repository = client.repository(server)
    said["digest"] = sha512(DATA)
    assert repository.manifest("v1").digest == sha512(DATA)
    said["digest"] = sha256(b"x")
    with pytest.raises(InvalidArgument, match="app:v1 is corrupt"):
        repository.manifest("v1")
    said["digest"] = "sha256:../../x"
    with pytest.raises(InvalidArgument, match="Docker-Content-Digest of image"):
        repository.manifest("v1")
    said["digest"] = sha256(b"x")
    assert repository.manifest(sha256(DATA)).digest == sha256(DATA)  # what was asked for counts


def test_a_manifest_that_is_not_there(client, serve):
    body = b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest\\u001b[2J unknown", "detail": {}}]}'
    server = serve(lambda _seen: Reply(404, {}, body))
    repository = client.repository(server)
    with pytest.raises(NotFound) as caught:
        repository.manifest("v2")
    assert str(caught.value) == f"no image {server.host}/app:v2 in the registry: manifest\\x1b[2J unknown"
    assert repository.has_manifest("v2") is None
    assert not repository.has_blob(DIGEST)


@pytest.mark.parametrize(
    "body", [b"", b"<html>gone</html>", b"[]", b'{"errors": []}', b'{"errors": [1]}', b"[" * 100000]
)
def test_an_error_that_says_nothing(client, serve, body):
    server = serve(lambda _seen: Reply(404, {}, body))
    with pytest.raises(NotFound, match=r"/app:v2 in the registry$"):
        client.repository(server).manifest("v2")


def test_has_manifest(client, serve):
    server = serve(lambda _seen: Reply(200, {"Docker-Content-Digest": DIGEST, "Content-Length": "700"}))
    repository = client.repository(server)
    assert repository.has_manifest("v1") == DIGEST
    assert repository.has_manifest("v1") == DIGEST  # nothing waits for the body of HEAD
    assert [seen.method for seen in asked(server)] == ["HEAD", "HEAD"]
    server.script = lambda _seen: Reply(body=DATA)
    assert repository.has_manifest("v1") == sha256(DATA)


@pytest.mark.parametrize("status", [401, 403])
def test_denied(client, serve, status):
    server = serve(lambda _seen: Reply(status, {"WWW-Authenticate": "Basic"}, b'{"errors": [{"code": "DENIED"}]}'))
    with pytest.raises(Denied) as caught:
        client.repository(server).manifest("v1")
    assert str(caught.value) == f"registry {server.host} denies access to image {server.host}/app:v1: DENIED"
    assert caught.value.hint == "check the name, or log in: plugrun login reg.test"


def test_denied_in_spite_of_a_password(client, serve):
    server = serve(lambda _seen: Reply(401, {"WWW-Authenticate": "Basic"}))
    client.credential = Credential("alice", "secret")
    with pytest.raises(Denied) as caught:
        client.repository(server).manifest("v1")
    assert str(caught.value) == f"registry {server.host} refuses the credentials of alice"
    assert caught.value.hint == "plugrun login reg.test"
    server.script = lambda seen: Reply(403 if seen.authorization else 401, {"WWW-Authenticate": "Basic"})
    with pytest.raises(Denied, match="denies alice access to image") as caught:
        client.repository(server).manifest("v1")
    assert caught.value.hint == "check the name, or log in as somebody else: plugrun login reg.test"


def page(names, link=None):
    return Reply(200, {"Link": link} if link else {}, json.dumps({"name": "app", "tags": names}).encode())


def test_tags(client, serve):
    pages = {
        "/v2/app/tags/list": page(["a", "b"], '</v2/app/tags/list?last=b&n=2>; rel="next"'),
        "/v2/app/tags/list?last=b&n=2": page(["c"], "<list?last=c>;rel=next"),
        "/v2/app/tags/list?last=c": page(None),
    }
    server = serve(lambda seen: pages.get(seen.path, Reply()))
    assert list(client.repository(server).tags()) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("<http://127.0.0.1:{port}/x>; rel=next", "goes on at another host: 127.0.0.1"),
        ("</v2/app/tags/list>; rel=next", "round in circles"),
        ("<>; rel=next", "without saying where"),
        ("<{path}x>; rel=next", "more than 10 pages"),
    ],
)
def test_tags_without_end(client, serve, monkeypatch, link, why):
    monkeypatch.setattr(registry_client, "_MAX_PAGES", 10)
    server = serve(lambda seen: page(["a"], link.format(port=server.port, path=seen.path.replace("list", "list?"))))
    with pytest.raises(InvalidArgument, match=why):
        list(client.repository(server).tags())


def test_more_tags_than_are_kept_in_memory(client, serve, monkeypatch):
    monkeypatch.setattr(registry_client, "_MAX_COUNT", 5)
    repository = client.repository(serve(lambda seen: page(["a", "b"], f"<{seen.path}x>; rel=next")))
    tags = repository.tags()
    assert [next(tags) for _ in range(4)] == ["a", "b"] * 2
    with pytest.raises(InvalidArgument, match=r"list of the tags of .*/app has more than 5 of them"):
        next(tags)


def test_ipv6_and_default_ports():
    for host, port in (("[::1]:5000", 5000), ("[2001:db8::1]", None), ("reg.test", None), ("REG.test:443", 443)):
        url = Site(Endpoint(host, "app", host), Limits(), Watch(Limits())).base()
        assert (url.scheme, url.host, url.port, url.path) == (
            "https",
            host.lower().removesuffix(f":{port}"),
            port,
            "/v2/",
        )
