"""Tokens and passwords: to whom they are shown, how long they are used."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, urlsplit

import pytest

from plugrun.errors import Denied, InvalidArgument
from plugrun.registry.auth import Authorizer
from plugrun.registry.endpoint import Credential, Endpoint

ALICE = Credential("alice", "secret")
BASIC = "Basic YWxpY2U6c2VjcmV0"
PULL = ("repository:app:pull",)
PUSH = ("repository:app:pull,push",)


def bearer(realm="https://auth.test/token", service="reg.test"):
    return [f'Bearer realm="{realm}",service="{service}"']


class TokenServer:
    """Gives tokens ``t1``, ``t2``, …"""

    def __init__(self, credential=None, *, host="reg.test", insecure=False, **answer):
        self.asked = []
        self.time = 1000.0
        self.answer = answer
        self.status = 200
        self.data = None
        self.authorizer = Authorizer(
            Endpoint(host, "app", "reg.test", insecure), lambda: credential, self._ask, lambda: self.time
        )

    def _ask(self, method, url, *, authorization, form):
        self.asked.append((method, url.url, authorization, form))
        token = {"token": f"t{len(self.asked)}", **self.answer}
        return self.status, json.dumps(token).encode() if self.data is None else self.data


def test_a_token_is_asked_for_by_service_and_scope():
    server = TokenServer()
    assert server.authorizer.header(PULL) is None
    assert server.authorizer.answer(bearer(), PULL, None) == "Bearer t1"
    (method, url, authorization, form) = server.asked[0]
    assert (method, authorization, form) == ("GET", None, None)
    assert urlsplit(url)._replace(query="").geturl() == "https://auth.test/token"
    assert parse_qs(urlsplit(url).query) == {"service": ["reg.test"], "scope": list(PULL)}
    assert server.authorizer.user is None


def test_every_scope_is_asked_for_and_the_query_of_the_realm_kept():
    server = TokenServer()
    server.authorizer.answer(bearer("https://auth.test/token?account=a"), (*PUSH, "repository:b:pull"), None)
    query = parse_qs(urlsplit(server.asked[0][1]).query)
    assert query == {"account": ["a"], "service": ["reg.test"], "scope": [*PUSH, "repository:b:pull"]}


def test_a_password_is_shown_to_the_token_server():
    server = TokenServer(Credential("älice", "sec:ret"))
    server.authorizer.answer(bearer(), PULL, None)
    assert base64.b64decode(server.asked[0][2].removeprefix("Basic ")).decode() == "älice:sec:ret"
    assert server.authorizer.user == "älice"


def test_an_identity_token_is_posted():
    server = TokenServer(Credential("", "", "refresh me"))
    assert server.authorizer.answer(bearer(), PULL, None) == "Bearer t1"
    (method, url, authorization, form) = server.asked[0]
    assert (method, url, authorization) == ("POST", "https://auth.test/token", None)
    assert parse_qs(form.decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["refresh me"],
        "service": ["reg.test"],
        "scope": list(PULL),
        "client_id": ["plugrun"],
    }


@pytest.mark.parametrize(
    ("answer", "used", "over"),
    [({}, 49, 51), ({"expires_in": 300}, 289, 291), ({"expires_in": 1}, 4, 6), ({"expires_in": -5}, 49, 51)],
)
def test_a_token_is_used_until_shortly_before_its_end(answer, used, over):
    server = TokenServer(**answer)
    server.authorizer.answer(bearer(), PULL, None)
    server.time = 1000.0 + used
    assert server.authorizer.header(PULL) == "Bearer t1"
    server.time = 1000.0 + over
    assert server.authorizer.header(PULL) == "Bearer t2"
    assert len(server.asked) == 2


def test_scopes_have_tokens_of_their_own():
    server = TokenServer()
    assert server.authorizer.answer(bearer(), PULL, None) == "Bearer t1"
    assert server.authorizer.header(PUSH) == "Bearer t2"
    assert server.authorizer.header(PULL) == "Bearer t1"


def test_a_refused_token_is_replaced_and_one_that_another_thread_replaced_is_used():
    server = TokenServer()
    assert server.authorizer.answer(bearer(), PULL, None) == "Bearer t1"
    assert server.authorizer.answer(bearer(), PULL, "Bearer t1") == "Bearer t2"
    assert server.authorizer.answer(bearer(), PULL, "Bearer t1") == "Bearer t2"  # came later with the old one
    assert len(server.asked) == 2


def test_nothing_is_tried_twice():
    server = TokenServer(ALICE, token="same")
    assert server.authorizer.answer(bearer(), PULL, None) == "Bearer same"
    assert server.authorizer.answer(bearer(), PULL, "Bearer same") is None
    assert server.authorizer.answer(['Basic realm="r"'], PULL, None) == BASIC
    assert server.authorizer.answer(['Basic realm="r"'], PULL, BASIC) is None
    assert TokenServer().authorizer.answer(['Basic realm="r"'], PULL, None) is None
    assert TokenServer(Credential("a", "", "refresh")).authorizer.answer(["Basic"], PULL, None) is None
    assert TokenServer(ALICE).authorizer.answer(["Negotiate"], PULL, None) is None
    assert TokenServer(ALICE).authorizer.answer([], PULL, None) is None


def test_a_password_serves_every_scope():
    server = TokenServer(ALICE)
    server.authorizer.answer(['Basic realm="r"'], PULL, None)
    assert server.authorizer.header(PUSH) == BASIC
    assert server.asked == []


@pytest.mark.parametrize(
    ("realm", "host", "insecure"),
    [
        ("http://auth.test/token", "reg.test", False),
        ("http://auth.test/token", "reg.test", True),
        ("http://reg.test/token", "reg.test", False),
        ("https://127.0.0.1/token", "reg.test", True),
        ("https://localhost/token", "reg.test", False),
        ("https://auth.localhost./token", "reg.test", False),
        ("https://169.254.169.254/token", "reg.test", False),
        ("https://2852039166/token", "reg.test", False),
        ("https://[::1]/token", "127.0.0.1:5000", False),
        ("https://1.2.3.4/token", "reg.test", False),
    ],
)
def test_token_servers_that_get_no_password(realm, host, insecure):
    server = TokenServer(ALICE, host=host, insecure=insecure)
    with pytest.raises(Denied, match="names the token server"):
        server.authorizer.answer(bearer(realm), PULL, None)
    assert server.asked == []


@pytest.mark.parametrize(
    ("realm", "host", "insecure"),
    [
        ("https://auth.test/token", "reg.test", False),
        ("https://auth.test:8443/token", "reg.test", True),
        ("http://reg.test:5001/token", "reg.test:5000", True),
        ("https://127.0.0.1:5001/token", "127.0.0.1:5000", False),
        ("https://localhost:5001/token", "LOCALHOST:5000", False),
        ("https://[::1]:5001/token", "[::1]:5000", False),
    ],
)
def test_token_servers_that_do(realm, host, insecure):
    server = TokenServer(ALICE, host=host, insecure=insecure)
    assert server.authorizer.answer(bearer(realm), PULL, None) == "Bearer t1"
    assert server.asked[0][2] == BASIC


@pytest.mark.parametrize("realm", ["", "auth.test/token", "ftp://auth.test/", "https://a@auth.test/"])
def test_what_is_no_token_server(realm):
    with pytest.raises(InvalidArgument, match="not an http or https URL"):
        TokenServer(ALICE).authorizer.answer(bearer(realm), PULL, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"token": 5}',
        b'{"token": ""}',
        b'{"token": "a\\nX: b"}',
        b'{"token": "\xc3\xa4"}',
        b"[" * 99999,
    ],
)
def test_what_is_no_token(data):
    server = TokenServer()
    server.data = data
    with pytest.raises(InvalidArgument, match="the answer of the token server"):
        server.authorizer.answer(bearer(), PULL, None)


def test_access_token_is_another_name():
    server = TokenServer()
    server.data = b'{"access_token": "a"}'
    assert server.authorizer.answer(bearer(), PULL, None) == "Bearer a"


def test_a_token_server_that_refuses():
    server = TokenServer(ALICE)
    server.status, server.data = 401, b'{"details": "incorrect username\\u001b or password"}'
    with pytest.raises(Denied) as caught:
        server.authorizer.answer(bearer(), PULL, None)
    assert (
        str(caught.value) == "registry reg.test refuses the credentials of alice: incorrect username\\x1b or password"
    )
    assert caught.value.hint == "plugrun login reg.test"
    server = TokenServer()
    server.status, server.data = 403, b"<html>"
    with pytest.raises(Denied, match="refuses anonymous access with status 403"):
        server.authorizer.answer(bearer(), PULL, None)
