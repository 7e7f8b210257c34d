"""Trying again: what, how often, after how long."""

from __future__ import annotations

import pytest

from plugrun.errors import DriverError, InvalidArgument, Unavailable
from plugrun.registry.failures import Transient
from plugrun.registry.retries import Retries
from registry.server import Reply

DIGEST = "sha256:" + "ab" * 32


class Flaky:
    """A server that fails some times before it answers; the first request only finds out how to speak."""

    def __init__(self, serve, times, failure):
        self.left = times
        self.failure = failure
        self.asked = 0
        self.server = serve(self._answer)

    def _answer(self, seen):
        if seen.path == "/v2/":
            return Reply()
        self.asked += 1
        self.left -= 1
        return self.failure if self.left >= 0 else Reply(body=b"{}")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_status_that_may_pass_is_tried_five_times(client, serve, status):
    flaky = Flaky(serve, 4, Reply(status))
    assert client.repository(flaky.server).manifest("v1").data == b"{}"
    assert client.delays == [1, 2, 4, 8]
    flaky = Flaky(serve, 5, Reply(status, body=b'{"errors": [{"code": "X", "message": "not now"}]}'))
    with pytest.raises(Unavailable, match=f"^localhost:{flaky.server.port} answers {status} .*: not now$"):
        client.repository(flaky.server).manifest("v1")
    assert flaky.asked == 5


def test_what_is_told(client, serve):
    flaky = Flaky(serve, 2, Reply(503))
    client.repository(flaky.server).manifest("v1")
    assert client.notices == [
        f"{flaky.server.host} answers 503 Service Unavailable; try 2 of 5 in 1 s",
        f"{flaky.server.host} answers 503 Service Unavailable; try 3 of 5 in 2 s",
    ]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 416, 501])
def test_other_statuses_are_not(client, serve, status):
    flaky = Flaky(serve, 1, Reply(status))
    with pytest.raises(Exception, match=r"localhost"):
        client.repository(flaky.server).manifest("v1")
    assert flaky.asked == 1
    assert client.delays == []


def test_a_hint_for_who_asks_too_often(client, serve):
    with pytest.raises(Unavailable) as caught:
        client.repository(Flaky(serve, 9, Reply(429)).server).manifest("v1")
    assert caught.value.hint == "wait a while, or log in: plugrun login reg.test"


@pytest.mark.parametrize(
    ("retry_after", "delay"),
    [
        ("7", 7),
        ("0", 0),
        ("3600", 60),  # at most
        ("Sun, 09 Sep 2001 01:46:50 GMT", 10),  # the client's time is 01:46:40
        ("Sun, 09 Sep 2001 01:46:30 GMT", 0),
        ("soon", 1),
        ("-5", 1),
        ("٣", 1),
        ("1" * 5000, 60),
        ("Sun, 99 Sep 2001 01:46:50 GMT", 1),
    ],
)
def test_retry_after(client, serve, retry_after, delay):
    headers = {"Retry-After": retry_after} if retry_after.isascii() else {"Retry-After": "\xb3"}
    client.repository(Flaky(serve, 1, Reply(503, headers)).server).manifest("v1")
    assert client.delays == [delay]


def test_delays_grow_to_a_limit_and_are_spread():
    delays = []
    for jitter in (0.0, 1.0):
        retries = Retries(lambda _line: None, delays.append, jitter=lambda jitter=jitter: jitter)
        with pytest.raises(Unavailable):
            retries.run(_fail)
    assert delays == [0.5, 1, 2, 4, 1, 2, 4, 8]
    assert retries._delay(40, None) == 30


def _fail():
    raise Transient(Unavailable("gone"))


def test_a_connection_that_breaks_off_is_tried_again(client, serve):
    flaky = Flaky(serve, 1, Reply(200, {"Content-Length": "9"}, [b"{}"], breaks=True))
    assert client.repository(flaky.server).manifest("v1").data == b"{}"
    assert "connection broke off; try 2 of 5" in client.notices[0]


def test_nobody_listens(client, serve):
    server = serve(lambda _seen: Reply())
    repository = client.repository(server, insecure=False)
    server.close()
    with pytest.raises(Unavailable, match=f"^registry {server.host} cannot be reached: connection refused$"):
        repository.manifest("v1")
    assert client.delays == []


def test_nobody_listens_any_more(client, serve):
    server = serve(lambda _seen: Reply(headers={"Connection": "close"}, body=b"{}"))
    repository = client.repository(server)
    repository.manifest("v1")
    server.close()
    with pytest.raises(Unavailable, match="cannot be reached"):
        repository.manifest("v1")
    assert len(client.delays) == 4


def test_an_unknown_host_is_not_tried_again(client, serve, monkeypatch):
    import socket

    def unknown(*_args):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    server = serve(lambda _seen: Reply())
    with pytest.raises(Unavailable, match=r"^registry no.test cannot be reached: name or service not known$"):
        client.repository(server, host="no.test").ping()
    assert client.delays == []


def test_what_the_server_does_wrong_for_good(client, serve):
    flaky = Flaky(serve, 1, Reply(501))
    with pytest.raises(DriverError, match="answers 501 Not Implemented about image"):
        client.repository(flaky.server).manifest("v1")
    flaky = Flaky(serve, 1, Reply(418))
    with pytest.raises(InvalidArgument, match="answers 418 I'm a Teapot about image"):
        client.repository(flaky.server).manifest("v1")


def test_nothing_is_asked_after_closing(client, serve):
    server = serve(lambda _seen: Reply())
    repository = client.repository(server)
    repository.ping()
    count = len(server.seen)
    client.transport.close()
    with pytest.raises(Unavailable, match="closed"):
        repository.ping()
    assert len(server.seen) == count
