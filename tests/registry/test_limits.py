"""Nobody can hold a command up, or fill its memory."""

from __future__ import annotations

import io
import socket
import threading

import pytest

from plugrun.errors import Interrupted, InvalidArgument, Unavailable
from plugrun.registry import sockets, transport
from plugrun.registry.failures import Transient
from plugrun.registry.limits import Limits
from registry.server import Reply
from terminals import until

DIGEST = "sha256:" + "ab" * 32
SHORT = Limits(answer=0.3, window=0.3)


class Clock:
    """Time goes on by what looking at it takes."""

    def __init__(self, step=0.0):
        self.now = 0.0
        self.step = step

    def monotonic(self):
        self.now += self.step
        return self.now


class Slow:
    """Bodies that come slowly, until the test is over."""

    def __init__(self):
        self.over = threading.Event()

    def __call__(self, count, *, first=b"", piece=b" ", pause=0.001):
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


def test_a_document_that_drips_is_given_up(client, serve, slow, monkeypatch):
    server = serve(lambda seen: Reply() if seen.path == "/v2/" else Reply(body=slow(5000)))
    repository = client.repository(server)
    repository.ping()
    monkeypatch.setattr(transport, "time", Clock(1))
    with pytest.raises(Unavailable, match=r"^registry .* is too slow: image .* takes over 30 s"):
        repository.manifest("v1")
    assert client.delays == []  # slow once is slow enough


def test_a_document_that_stops_is_given_up(client, serve, slow):
    client.limits = SHORT
    server = serve(lambda seen: Reply() if seen.path == "/v2/" else Reply(body=slow(1, pause=60)))
    with pytest.raises(Unavailable, match="does not answer in time"):
        client.repository(server).manifest("v1")
    assert client.delays == []


def test_a_head_that_drips_is_given_up(client, serve, slow, monkeypatch):
    server = serve(lambda seen: Reply())
    repository = client.repository(server)
    repository.ping()
    server.raw = lambda: slow(600, first=b"HTTP/1.1 200 OK\r\nX-Long: ", piece=b"x" * 100)
    monkeypatch.setattr(sockets, "time", Clock(1))
    with pytest.raises(Unavailable, match="does not answer in time"):
        repository.manifest("v1")


def test_a_blob_that_drips_is_interrupted(client, serve, slow, monkeypatch):
    server = serve(lambda _seen: Reply(200, {"Content-Length": "100000"}, slow(5000), breaks=True))
    with client.repository(server).open_blob(DIGEST, 100000) as body:
        monkeypatch.setattr(sockets, "time", Clock(1))
        with pytest.raises(Interrupted, match="in time"):
            body.readall()


def test_a_blob_that_keeps_pace_takes_as_long_as_it_takes(client, serve, monkeypatch):
    blob = b"x" * (16 << 20)
    server = serve(lambda _seen: Reply(body=blob))
    clock = Clock(1)
    with client.repository(server).open_blob(DIGEST, len(blob)) as body:
        monkeypatch.setattr(sockets, "time", clock)
        assert io.BufferedReader(body, 1 << 20).read(len(blob)) == blob
    assert clock.now > 2 * Limits().window


def test_who_reads_slowly_is_not_the_server_s_fault(client, serve, monkeypatch):
    clock = Clock()
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


def test_closing_is_not_told_as_trouble_with_the_registry(client, serve, slow):
    server = serve(lambda _seen: Reply(200, {"Content-Length": "100"}, slow(1, first=b"x", pause=60)))
    caught = []

    def ask():
        try:
            client.repository(server).manifest("v1")
        except Unavailable as error:
            caught.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: server.seen)
    client.transport.close()
    thread.join(20)
    assert caught == ["the connections to registries are closed"]
    assert client.notices == []


def test_time_that_is_over_is_over(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(sockets, "time", clock)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"ab")
        watched = sockets.Watched(ours, SHORT)
        watched.settimeout(5)

        class Late(io.RawIOBase):
            def readinto(self, buffer):
                clock.now += 6
                return ours.recv_into(buffer)

        with Late() as late:
            assert watched.read(late, bytearray(1)) == 1
            with pytest.raises(TimeoutError, match="too slow"):
                watched.read(late, bytearray(1))


def test_no_connection_begins_after_closing(client, serve):
    server = serve(lambda _seen: Reply())
    site = client.transport._at(client.endpoint(server))[0]
    url = site.base()
    client.transport.close()
    with pytest.raises(Transient, match="connection"):
        site.send("GET", url, {})


def test_an_insecure_registry_that_is_slow_at_tls_is_not_asked_without(client, serve, slow, localhost_certificate):
    client.limits = SHORT
    server = serve(lambda _seen: Reply(), localhost_certificate)
    server.raw = lambda: slow(1, pause=60)
    with pytest.raises(Unavailable, match="does not answer in time"):
        client.repository(server, insecure=True).ping()
    assert server.connections == 1


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
