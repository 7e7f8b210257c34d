"""Nobody can hold a command up, or fill its memory."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from plugrun.errors import Interrupted, InvalidArgument, Unavailable
from plugrun.registry import sockets
from plugrun.registry.limits import Limits
from registry.server import Reply

DIGEST = "sha256:" + "ab" * 32
SHORT = Limits(connect=5, answer=0.3, upload=0.3, window=0.3, pace=1000)


class Slow:
    """Bodies that come slowly, until the test is over."""

    def __init__(self):
        self.over = threading.Event()

    def __call__(self, count, *, first=b"", piece=b" ", pause=0.02):
        yield first
        for _ in range(count):
            if self.over.wait(pause):
                return
            yield piece


@pytest.fixture
def slow():
    made = Slow()
    yield made
    made.over.set()


def test_a_document_that_drips_is_given_up(client, serve, slow):
    client.limits = SHORT
    server = serve(lambda seen: Reply() if seen.path == "/v2/" else Reply(body=slow(500, piece=b" " * 1000)))
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"^registry .* is too slow: image .* takes over 0 s"):
        client.repository(server).manifest("v1")
    assert time.monotonic() - began < 3
    assert client.delays == []  # slow once is slow enough


def test_a_document_that_stops_is_given_up(client, serve, slow):
    client.limits = SHORT
    server = serve(lambda seen: Reply() if seen.path == "/v2/" else Reply(body=slow(1, pause=60)))
    with pytest.raises(Unavailable, match="does not answer in time"):
        client.repository(server).manifest("v1")


def test_a_head_that_drips_is_given_up(client, serve, slow):
    client.limits = SHORT
    server = serve(lambda seen: Reply())
    repository = client.repository(server)
    repository.ping()
    server.raw = lambda: slow(500, first=b"HTTP/1.1 200 OK\r\nX-Long: ", piece=b"x" * 100)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer in time"):
        repository.manifest("v1")
    assert time.monotonic() - began < 3


def test_a_blob_that_drips_is_interrupted(client, serve, slow):
    client.limits = SHORT
    server = serve(lambda _seen: Reply(200, {"Content-Length": "100000"}, slow(500)))
    with client.repository(server).open_blob(DIGEST, 100000) as body, pytest.raises(Interrupted, match="in time"):
        body.read()


def test_a_blob_that_keeps_pace_takes_as_long_as_it_takes(client, serve, slow):
    client.limits = SHORT
    server = serve(lambda _seen: Reply(200, {"Content-Length": "64000"}, slow(32, piece=b"x" * 2000)))
    began = time.monotonic()
    with client.repository(server).open_blob(DIGEST, 64000) as body:
        assert body.read() == b"x" * 64000
    assert time.monotonic() - began > 2 * SHORT.window


def test_who_reads_slowly_is_not_the_server_s_fault(client, serve, monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(sockets, "time", clock)
    server = serve(lambda _seen: Reply(body=b"x" * 3_000_000))
    with client.repository(server).open_blob(DIGEST, 3_000_000) as body:
        for _ in range(3):
            clock.now += 3600
            assert body.readinto(bytearray(1_000_000)) > 0


@pytest.mark.parametrize("chunked", [False, True])
def test_a_huge_manifest_is_not_read(client, serve, slow, chunked):
    def answer(seen):
        if seen.path == "/v2/":
            return Reply()
        endless = slow(10**9, piece=b" " * 65536, pause=0)
        return Reply(200, {} if chunked else {"Content-Length": str(1 << 40)}, endless)

    with pytest.raises(InvalidArgument, match=r"^image localhost:\d+/app:v1 from registry .* is larger than 4 MiB$"):
        client.repository(serve(answer)).manifest("v1")


def test_a_huge_error_is_cut_off(client, serve, slow):
    server = serve(
        lambda seen: Reply() if seen.path == "/v2/" else Reply(404, {}, slow(10**9, piece=b"no\n" * 20000, pause=0))
    )
    with pytest.raises(Exception, match=r"^no image .* in the registry: (no )+…$|no…$") as caught:
        client.repository(server).manifest("v1")
    assert len(str(caught.value)) < 400


def test_closing_wakes_who_waits(client, serve, slow):
    server = serve(lambda _seen: Reply(200, {"Content-Length": "100000"}, slow(1, first=b"x", pause=60)))
    body = client.repository(server).open_blob(DIGEST, 100000)
    caught = []

    def read():
        try:
            body.read()
        except Interrupted as error:
            caught.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    client.transport.close()
    thread.join(20)
    assert len(caught) == 1
