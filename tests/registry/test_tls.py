"""Whose certificate is trusted, and what "insecure" allows."""

from __future__ import annotations

import socket
import ssl
import subprocess

import pytest

from plugrun.errors import Denied, InvalidArgument
from plugrun.registry.endpoint import Credential
from registry.server import Reply, make_certificate


def test_a_certificate_of_the_directory_is_trusted(client, serve, localhost_certificate, tmp_path):
    server = serve(lambda _seen: Reply(), localhost_certificate)
    client.repository(server, certificates=[tmp_path / "none", localhost_certificate.parent]).ping()


def test_only_the_first_directory_that_exists_counts(client, serve, localhost_certificate, tmp_path):
    server = serve(lambda _seen: Reply(), localhost_certificate)
    with pytest.raises(Denied, match="self-signed certificate"):
        client.repository(server, certificates=[tmp_path, localhost_certificate.parent]).ping()


def test_an_unknown_certificate_is_not_trusted(client, serve, localhost_certificate):
    server = serve(lambda _seen: Reply(), localhost_certificate)
    client.credential = Credential("alice", "secret")
    with pytest.raises(Denied) as caught:
        client.repository(server).ping()
    assert str(caught.value) == f"registry {server.host}'s certificate is not trusted: self-signed certificate"
    assert caught.value.hint == (
        f"put its CA in /etc/plugrun/certs.d/{server.host}/ca.crt, or list it as insecure in the config"
    )
    assert server.seen == []
    assert client.delays == []


def test_a_certificate_for_another_name_is_not_trusted(client, serve, tmp_path):
    server = serve(lambda _seen: Reply(), make_certificate(tmp_path / "ca.crt", "DNS:other.test"))
    with pytest.raises(Denied, match=r"is not trusted: Hostname mismatch, certificate is not valid for 'localhost'$"):
        client.repository(server, certificates=[tmp_path]).ping()
    assert server.seen == []


def test_an_insecure_registry_may_have_any_certificate(client, serve, localhost_certificate):
    server = serve(lambda _seen: Reply(), localhost_certificate)
    client.repository(server, insecure=True).ping()


def test_plain_http_is_not_spoken(client, serve):
    server = serve(lambda _seen: Reply())
    with pytest.raises(Denied) as caught:
        client.repository(server, insecure=False).ping()
    assert str(caught.value) == f"registry {server.host} speaks plain HTTP"
    assert caught.value.hint == "list it as insecure in the config"
    assert server.seen == []


def test_plain_http_is_spoken_to_an_insecure_registry(client, serve):
    server = serve(lambda _seen: Reply())
    client.repository(server, insecure=True).ping()
    assert server.paths() == ["GET /v2/"] * 2


def test_an_insecure_registry_that_knows_tls_gets_nothing_plain(client, serve, localhost_certificate):
    server = serve(lambda _seen: Reply(breaks=True), localhost_certificate)
    repository = client.repository(server, insecure=True)
    repository.ping()
    server.close()
    plain = serve(lambda _seen: Reply(), port=server.port)
    with pytest.raises(Denied, match="speaks plain HTTP"):
        repository.ping()
    assert plain.seen == []
    client.repository(plain, "other", insecure=True).ping()  # which was not known to speak TLS


def test_a_host_that_an_insecure_registry_names_needs_a_certificate(client, serve, localhost_certificate):
    canary = serve(lambda _seen: Reply(body=b"x"), localhost_certificate)
    server = serve(lambda _seen: Reply(307, {"Location": f"https://127.0.0.1:{canary.port}/x"}))
    with pytest.raises(Denied, match=r"^127.0.0.1:\d+ .sent there by registry localhost:\d+.'s certificate"):
        client.repository(server).open_blob("sha256:" + "ab" * 32, 1)
    assert canary.seen == []


@pytest.fixture
def shown(client, serve, localhost_certificate, tmp_path):
    """Return the client certificates that the registry and another host saw."""
    mine = make_certificate(tmp_path / "client.cert")
    (tmp_path / "ca.crt").write_bytes(localhost_certificate.read_bytes())
    servers = [serve(lambda _seen: Reply(body=b"x"), localhost_certificate) for _ in range(2)]
    for server in servers:
        server.context.load_verify_locations(mine)
        server.context.verify_mode = ssl.CERT_OPTIONAL
    servers[0].script = lambda _seen: Reply(307, {"Location": f"{servers[1].url}/x"})
    client.repository(servers[0], certificates=[tmp_path]).open_blob("sha256:" + "ab" * 32, 1).close()
    return [server.certificates for server in servers]


def test_a_client_certificate_is_shown_to_the_registry_alone(shown):
    assert [bool(each) for certificates in shown for each in certificates] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("ca.crt", b"nothing", "ca.crt holds no usable certificate"),
        ("a.cert", b"", r"a.cert has no key .*a\.key"),
    ],
)
def test_bad_files(client, serve, localhost_certificate, tmp_path, name, data, why):
    (tmp_path / name).write_bytes(data)
    server = serve(lambda _seen: Reply(), localhost_certificate)
    with pytest.raises(InvalidArgument, match=why):
        client.repository(server, certificates=[tmp_path]).ping()


def test_a_key_with_a_password_is_not_asked_for(client, serve, localhost_certificate, tmp_path):
    pair = make_certificate(tmp_path / "a.cert")
    key = pair.with_suffix(".key").rename(tmp_path / "open.key")
    command = ["openssl", "pkcs8", "-topk8", "-in", key, "-out", tmp_path / "a.key", "-passout", "pass:secret"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    server = serve(lambda _seen: Reply(), localhost_certificate)
    with pytest.raises(InvalidArgument, match=r"the key of .*a.cert cannot be used: it needs a password"):
        client.repository(server, certificates=[tmp_path]).ping()


def test_nothing_is_sent_in_clear_while_connections_are_broken_off(client, serve, localhost_certificate, monkeypatch):
    """Another thread may send at any moment: ssl's own shutdown makes a plain socket of it first."""
    spoken, shutdown = [], socket.socket.shutdown

    def look(sock, how):
        if not getattr(sock, "server_side", True):
            spoken.append(sock.version())
        shutdown(sock, how)

    monkeypatch.setattr(socket.socket, "shutdown", look)
    server = serve(lambda _seen: Reply(), localhost_certificate)
    client.repository(server, certificates=[localhost_certificate.parent]).ping()
    client.transport.close()
    assert spoken == ["TLSv1.3"]
