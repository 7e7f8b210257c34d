"""Where a registry may send us, and who sees a secret there."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from plugrun.errors import InvalidArgument, PlugrunError, Unavailable
from plugrun.registry import origin
from plugrun.registry.endpoint import Credential
from registry.server import Reply

DIGEST = "sha256:" + "ab" * 32
BASIC = "Basic YWxpY2U6c2VjcmV0"  # alice:secret
ASK = Reply(401, {"WWW-Authenticate": 'Basic realm="r"'})


def guarded(reply):
    """Ask for a password first."""
    return lambda seen: reply(seen) if seen.authorization == BASIC else ASK


def to(url):
    return Reply(307, {"Location": url})


@pytest.mark.parametrize(
    ("base", "location", "expected"),
    [
        ("https://a.test/v2/x", "/y", "https://a.test/y"),
        ("https://a.test/v2/x", "y?z=1", "https://a.test/v2/y?z=1"),
        ("https://a.test/v2/x", "//B.test/y", "https://b.test/y"),
        ("https://a.test/v2/x", "https://b.test:444/y", "https://b.test:444/y"),
        ("http://a.test/", "https://a.test/", "https://a.test/"),
        ("http://a.test/", "http://127.0.0.1:1/", "http://127.0.0.1:1/"),
        ("http://[fe80::1]/", "/y", "http://[fe80::1]/y"),  # the user's own choice
        ("https://[::1]:5/", "y", "https://[::1]:5/y"),
    ],
)
def test_locations_that_are_followed(base, location, expected):
    assert origin.follow(origin.parse(base, "it"), location, "it").url == expected


@pytest.mark.parametrize(
    ("base", "location", "why"),
    [
        ("https://a.test/", None, "without saying where"),
        ("https://a.test/", "", "without saying where"),
        ("https://a.test/", "http://a.test/", "plain HTTP"),
        ("https://a.test/", "ftp://a.test/", "not an http or https URL"),
        ("https://a.test/", "file:///etc/passwd", "not an http or https URL"),
        ("https://a.test/", "https://a.test@b.test/", "not an http or https URL"),
        ("https://a.test/", "https://b.test/\x1b[2J", "not an http or https URL"),
        ("https://a.test/", "https://b.test:99999/", "not an http or https URL"),
        ("https://a.test/", "https://169.254.169.254/latest", "link-local"),
        ("http://a.test/", "http://169.254.169.254/latest", "link-local"),
        ("http://a.test/", "http://[fe80::1%25eth0]/", "link-local"),
        ("http://a.test/", "http://[::ffff:169.254.169.254]/", "link-local"),
        ("http://a.test/", "http://[fd00:ec2::254]/", "link-local"),
        ("http://a.test/", "http://2852039166/", "link-local"),
        ("http://a.test/", "http://0xA9FEA9FE/", "link-local"),
        ("http://a.test/", "http://0251.0376.0251.0376/", "link-local"),
        ("http://a.test/", "http://169.254.169.254./", "link-local"),
    ],
)
def test_locations_that_are_refused(base, location, why):
    with pytest.raises(InvalidArgument, match=why):
        origin.follow(origin.parse(base, "it"), location, "it")


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "1", "0x7f.1", "::1", "localhost", "a.localhost", "1.2.3.4"])
def test_what_is_no_public_name(host):
    assert not origin.is_public_name(host)


@pytest.mark.parametrize("host", ["auth.docker.io", "a", "1.a", "0x7f.test"])
def test_public_names(host):
    assert origin.is_public_name(host)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_another_origin_does_not_see_the_password_but_the_own_one_does(client, serve, status):
    canary = serve(lambda _seen: Reply(body=b"blob"))
    own = serve(
        guarded(lambda seen: Reply(status, {"Location": "/there" if seen.path != "/there" else f"{canary.url}/x"}))
    )
    client.credential = Credential("alice", "secret")
    with client.repository(own).open_blob(DIGEST, 4) as body:
        assert body.read() == b"blob"
    assert [seen.authorization for seen in canary.seen] == [None]
    assert [(seen.path, seen.authorization) for seen in own.seen if seen.path == "/there"] == [("/there", BASIC)]


def test_the_same_host_by_another_name_is_another_origin(client, serve):
    away = guarded(lambda _seen: to(f"http://127.0.0.1:{own.port}/x"))
    own = serve(lambda seen: Reply(body=b"blob") if seen.path == "/x" else away(seen))
    client.credential = Credential("alice", "secret")
    client.repository(own).open_blob(DIGEST, 4).close()
    assert [seen.authorization for seen in own.seen if seen.path == "/x"] == [None]


@pytest.mark.parametrize("challenge", ['Basic realm="r"', 'Bearer realm="{url}/token",service="s"'])
@pytest.mark.parametrize("asks", [False, True])
def test_a_challenge_of_another_origin_is_not_answered(client, serve, challenge, asks):
    canary = serve(lambda seen: Reply(401, {"WWW-Authenticate": challenge.format(url=canary.url)}))
    away = to(f"{canary.url}/x")
    own = serve(guarded(lambda _seen: away) if asks else lambda _seen: away)
    client.credential = Credential("alice", "secret")
    with pytest.raises(Unavailable, match=f"^localhost:{canary.port} .sent there by .* answers 401 Unauthorized"):
        client.repository(own).open_blob(DIGEST, 4)
    assert [(seen.path, seen.authorization) for seen in canary.seen] == [("/x", None)]


def test_redirects_end(client, serve):
    own = serve(lambda seen: to(f"{seen.path}x") if seen.path != "/v2/" else Reply())
    with pytest.raises(InvalidArgument, match="more than 5 times"):
        client.repository(own).manifest("v1")
    assert len([seen for seen in own.seen if seen.path != "/v2/"]) == 6


def test_what_is_sent_is_not_redirected(client, serve):
    canary = serve(lambda _seen: Reply(201))
    own = serve(lambda seen: to(canary.url) if seen.method == "PUT" else Reply())
    with pytest.raises(PlugrunError, match="307 Temporary Redirect"):
        client.repository(own).put_manifest("v1", b"{}", "application/json")
    assert canary.seen == []


def test_tls_is_not_given_up(client, serve, localhost_certificate):
    canary = serve(lambda _seen: Reply(body=b"blob"))
    own = serve(lambda _seen: to(f"{canary.url}/x"), localhost_certificate)
    with pytest.raises(InvalidArgument, match=f"from https on to plain HTTP at localhost:{canary.port}$"):
        client.repository(own, certificates=[localhost_certificate.parent]).open_blob(DIGEST, 4)
    assert canary.seen == []


def test_a_name_of_a_link_local_address_is_not_asked(client, serve, monkeypatch):
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest: look_up("127.0.0.1" if host == "meta.test" else host, *rest)
    )
    canary = serve(lambda _seen: Reply(body=b"blob"))
    own = serve(lambda _seen: to(f"http://meta.test:{canary.port}/x"))
    client.repository(own).open_blob(DIGEST, 4).close()
    assert len(canary.seen) == 1
    monkeypatch.setattr(origin, "_LINK_LOCAL", (ipaddress.ip_network("127.0.0.0/8"),))
    with pytest.raises(InvalidArgument, match="link-local address"):
        client.repository(own, "other").open_blob(DIGEST, 4)  # has connections of its own
    assert len(canary.seen) == 1
