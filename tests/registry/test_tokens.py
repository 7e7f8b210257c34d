"""Tokens and passwords on their way: which server sees which."""

from __future__ import annotations

import json
import threading

import pytest

from plugrun.errors import Denied, InvalidArgument, Unavailable
from plugrun.registry.endpoint import Credential
from registry.server import Reply

DIGEST = "sha256:" + "ab" * 32
ALICE = Credential("alice", "secret")
BASIC = "Basic YWxpY2U6c2VjcmV0"


def wanted(realm):
    return Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'})


class Guarded:
    """A registry on a server that wants tokens, and gives them, too."""

    def __init__(self, serve):
        self.lifetime = 300
        self.valid = set()
        self.given = 0
        self.arrived = threading.Barrier(1)
        self.lock = threading.Lock()
        self.server = serve(self._answer)

    def _answer(self, seen):
        if seen.path.startswith("/token"):
            with self.lock:
                self.given += 1
                self.valid = {f"Bearer t{self.given}"}
            return Reply(body=json.dumps({"token": f"t{self.given}", "expires_in": self.lifetime}).encode())
        if seen.authorization in self.valid:
            return Reply(body=b"blob")
        self.arrived.wait(20)
        return wanted(f"{self.server.url}/token")


def test_parallel_requests_ask_for_one_token(client, serve):
    registry = Guarded(serve)
    repository = client.repository(registry.server)
    registry.valid = {None}
    repository.ping()  # finds out how to speak
    registry.valid = set()
    registry.arrived = threading.Barrier(8)  # all have been refused before one gets a token
    threads = [threading.Thread(target=lambda: repository.open_blob(DIGEST, 4).close()) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert registry.given == 1
    assert len([seen for seen in registry.server.seen if seen.authorization == "Bearer t1"]) == 8


def test_a_token_that_is_over_early_is_asked_for_once_more_and_only_once(client, serve):
    registry = Guarded(serve)
    repository = client.repository(registry.server)
    repository.open_blob(DIGEST, 4).close()
    registry.valid = set()  # over, whatever it said
    repository.open_blob(DIGEST, 4).close()
    assert registry.given == 2
    registry.server.script = lambda seen: (
        registry._answer(seen) if "token" in seen.path else wanted(f"{registry.server.url}/token")
    )
    with pytest.raises(Denied, match="denies access to blob"):
        repository.open_blob(DIGEST, 4)
    assert registry.given == 3


def test_a_token_server_elsewhere_gets_the_password_but_no_token(client, serve):
    tokens = serve(lambda _seen: Reply(body=b'{"token": "t"}'))
    own = serve(lambda seen: Reply() if seen.authorization else wanted(f"{tokens.url}/t"))
    client.credential = ALICE
    client.repository(own).ping()
    assert [seen.authorization for seen in tokens.seen] == [BASIC]
    assert {seen.authorization for seen in own.seen} == {None, "Bearer t"}


def test_a_token_server_that_sends_us_on_takes_the_password_not_along(client, serve):
    canary = serve(lambda _seen: Reply(body=b'{"token": "t"}'))
    tokens = serve(lambda _seen: Reply(302, {"Location": f"{canary.url}/t"}))
    own = serve(lambda seen: Reply() if seen.authorization else wanted(f"{tokens.url}/t"))
    client.credential = ALICE
    client.repository(own).ping()
    assert [seen.authorization for seen in canary.seen] == [None]


def test_an_identity_token_is_not_sent_on(client, serve):
    canary = serve(lambda _seen: Reply(body=b'{"token": "t"}'))
    tokens = serve(lambda _seen: Reply(307, {"Location": f"{canary.url}/t"}))
    own = serve(lambda _seen: wanted(f"{tokens.url}/t"))
    client.credential = Credential("", "", "refresh")
    with pytest.raises(Denied, match="refuses the identity token"):
        client.repository(own).ping()
    assert canary.seen == []


def test_a_huge_token_is_not_read(client, serve):
    own = serve(
        lambda seen: (
            Reply(body=b" " * (1 << 20) + b'{"token": "t"}') if seen.path.startswith("/t") else wanted(f"{own.url}/t")
        )
    )
    with pytest.raises(InvalidArgument, match=r"a token from registry .* is larger than 1 MiB"):
        client.repository(own).ping()


def test_a_token_server_that_is_busy_is_asked_again(client, serve):
    own = serve(lambda seen: Reply(503) if seen.path.startswith("/t") else wanted(f"{own.url}/t"))
    with pytest.raises(Unavailable, match=f"token server localhost:{own.port} answers 503 Service Unavailable"):
        client.repository(own).ping()
    assert len([path for path in own.paths() if path.startswith("GET /t")]) == 5


def test_a_secret_is_only_looked_up_when_it_is_wanted(client, serve):
    own = serve(lambda _seen: Reply())
    client.credential = ALICE
    client.repository(own).ping()
    assert client.asked == []
    own.script = lambda seen: Reply() if seen.authorization == BASIC else Reply(401, {"WWW-Authenticate": "Basic"})
    client.repository(own).ping()
    client.repository(own).ping()
    assert client.asked == ["reg.test"]


def test_a_secret_that_is_not_there_is_looked_up_once(client, serve):
    own = serve(lambda _seen: Reply(401, {"WWW-Authenticate": "Basic"}))
    for _ in range(2):
        with pytest.raises(Denied):
            client.repository(own).ping()
    assert client.asked == ["reg.test"]
