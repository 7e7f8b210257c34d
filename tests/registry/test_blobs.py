"""Blobs: what is believed of an answer's head, and where a body has to end."""

from __future__ import annotations

import hashlib
import io

import pytest

from plugrun.errors import Interrupted, InvalidArgument
from registry.server import Reply

BLOB = bytes(range(256)) * 20
DIGEST = "sha256:" + hashlib.sha256(BLOB).hexdigest()


def asked(server):
    return [seen for seen in server.seen if seen.path != "/v2/"]


def test_a_blob(client, serve):
    server = serve(lambda _seen: Reply(body=BLOB))
    repository = client.repository(server)
    with repository.open_blob(DIGEST, len(BLOB)) as body:
        assert body.offset == 0
        assert body.read() == BLOB
    (seen,) = asked(server)
    assert seen.path == f"/v2/app/blobs/{DIGEST}"
    assert "range" not in seen.headers
    assert repository.has_blob(DIGEST)
    assert asked(server)[1].method == "HEAD"


def test_a_digest_becomes_no_path(client, serve):
    server = serve(lambda _seen: Reply())
    for ask in (lambda digest: client.repository(server).open_blob(digest, 1), client.repository(server).has_blob):
        with pytest.raises(InvalidArgument, match="digest"):
            ask("sha256:../../x")
    assert asked(server) == []


def part(seen, total=None, shift=0):
    begin = int(seen.headers["range"].removeprefix("bytes=").removesuffix("-"))
    total = total or len(BLOB)
    return Reply(206, {"Content-Range": f"bytes {begin + shift}-{len(BLOB) - 1}/{total}"}, BLOB[begin:])


def test_the_rest_of_a_blob(client, serve):
    server = serve(part)
    server.script = lambda seen: part(seen) if "range" in seen.headers else Reply()
    repository = client.repository(server)
    with repository.open_blob(DIGEST, len(BLOB), offset=1000) as body:
        assert body.offset == 1000
        assert body.read() == BLOB[1000:]
    server.script = lambda seen: part(seen, total="*")
    with repository.open_blob(DIGEST, len(BLOB), offset=1) as body:
        assert body.read() == BLOB[1:]


@pytest.mark.parametrize("status", [200, 416])
def test_a_registry_without_ranges(client, serve, status):
    server = serve(lambda seen: Reply(416) if "range" in seen.headers and status == 416 else Reply(body=BLOB))
    with client.repository(server).open_blob(DIGEST, len(BLOB), offset=1000) as body:
        assert body.offset == 0
        assert body.read() == BLOB


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (lambda seen: part(seen, total=9999), "Content-Range is 'bytes 1000-5119/9999'"),
        (lambda seen: part(seen, shift=1), "Content-Range is 'bytes 1001-5119/5120'"),
        (lambda _seen: Reply(206, {}, BLOB[1000:]), "Content-Range is ''"),
        (
            lambda _seen: Reply(206, {"Content-Range": "bytes 1000-2000/5120"}, BLOB[1000:2001]),
            "Content-Range is 'bytes 1",
        ),
        (
            lambda _seen: Reply(206, {"Content-Range": "bytes 1000-5119/5120"}, BLOB[1001:]),
            "4119 bytes long, but has 4120",
        ),
        (lambda _seen: Reply(body=BLOB[1000:]), "4120 bytes long, but has 5120 of 5120 left"),
    ],
)
def test_a_part_that_is_another_one(client, serve, reply, why):
    server = serve(lambda seen: reply(seen) if "range" in seen.headers else Reply())
    with pytest.raises(InvalidArgument, match=why):
        client.repository(server).open_blob(DIGEST, len(BLOB), offset=1000)


@pytest.mark.parametrize("length", ["5119", "5121", "99999999999999999999", "abc", "-1"])
def test_a_length_that_is_a_lie(client, serve, length):
    server = serve(lambda seen: Reply() if seen.path == "/v2/" else Reply(200, {"Content-Length": length}, BLOB))
    with pytest.raises(InvalidArgument, match=f"blob .*{DIGEST} from {server.host} is to be {length} bytes long"):
        client.repository(server).open_blob(DIGEST, len(BLOB))


def chunked(*pieces, end=b"0\r\n\r\n"):
    framed = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
    return Reply(200, {"Transfer-Encoding": "chunked"}, [*framed, end], breaks=True)


def test_a_blob_in_chunks(client, serve):
    server = serve(lambda _seen: chunked(BLOB[:7], BLOB[7:]))
    with client.repository(server).open_blob(DIGEST, len(BLOB)) as body:
        assert body.read() == BLOB


@pytest.mark.parametrize("pieces", [(BLOB, b"more"), (BLOB + b"more",)])
def test_a_blob_that_is_too_long(client, serve, pieces):
    server = serve(lambda _seen: chunked(*pieces))
    body = client.repository(server).open_blob(DIGEST, len(BLOB))
    with body, pytest.raises(InvalidArgument, match=f"from {server.host} is longer than its 5120 bytes"):
        body.read()


@pytest.mark.parametrize(
    "reply",
    [
        chunked(BLOB[:5000]),
        chunked(BLOB[:5000], end=b""),
        chunked(BLOB[:5000], end=b"zz\r\n"),
        Reply(200, {"Content-Length": str(len(BLOB))}, [BLOB[:5000]], breaks=True),
        Reply(200, {}, [BLOB[:5000]]),
    ],
)
def test_a_blob_that_breaks_off(client, serve, reply):
    server = serve(lambda seen: Reply() if seen.path == "/v2/" else reply)
    with client.repository(server).open_blob(DIGEST, len(BLOB)) as body:
        assert body.read(1000) == BLOB[:1000]
        with pytest.raises(Interrupted, match=f"blob .* from {server.host} broke off .* before its end: "):
            body.readall()


def test_a_large_blob_over_tls(client, serve, localhost_certificate):
    large = BLOB * 1000
    server = serve(lambda _seen: Reply(body=large), localhost_certificate)
    with client.repository(server, certificates=[localhost_certificate.parent]).open_blob(DIGEST, len(large)) as body:
        assert io.BufferedReader(body, 1 << 20).read(len(large)) == large


def test_connections_are_used_again(client, serve):
    server = serve(lambda _seen: Reply(body=BLOB))
    repository = client.repository(server)
    repository.manifest("v1")
    made = server.connections
    for _ in range(3):
        with repository.open_blob(DIGEST, len(BLOB)) as body:
            body.read()
        repository.has_blob(DIGEST)
        repository.manifest("v1")
    assert server.connections == made
