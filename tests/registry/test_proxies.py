"""``HTTP_PROXY`` and its friends."""

from __future__ import annotations

import socket
import threading

import pytest

from plugrun.errors import InvalidArgument, Unavailable
from plugrun.registry.client import Repository
from plugrun.registry.endpoint import Credential, Endpoint
from registry.server import Reply

REMOTE = Endpoint("reg.test:5000", "app", "reg.test", insecure=True)


@pytest.fixture
def plain(monkeypatch):
    """Find out at once that ``reg.test`` speaks plain HTTP: the proxy of these tests knows no CONNECT."""
    from plugrun.registry.site import Site

    def settle(site):
        site._base = site._base._replace(scheme="http")
        site._settled = True

    monkeypatch.setattr(Site, "_settle", settle)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
def test_a_proxy_is_asked(client, serve, monkeypatch, plain, name):
    proxy = serve(lambda _seen: Reply())
    monkeypatch.setenv(name, f"http://user:pass%40@{proxy.host}")
    Repository(client.transport, REMOTE).ping()
    (seen,) = proxy.seen
    assert seen.path == "http://reg.test:5000/v2/"
    assert seen.headers["proxy-authorization"] == "Basic dXNlcjpwYXNzQA=="


@pytest.mark.parametrize("none", ["reg.test", ".test", "a.test, REG.test:5000", "*"])
def test_a_host_that_needs_none(client, serve, monkeypatch, plain, none):
    proxy = serve(lambda _seen: Reply())
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("no_proxy", none)
    look_up = socket.getaddrinfo
    asked = []

    def unknown(host, *rest):
        asked.append(host)
        return look_up("reg.invalid" if host == "reg.test" else host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Unavailable, match=r"reg.test:5000 cannot be reached"):
        Repository(client.transport, REMOTE).ping()
    assert set(asked) == {"reg.test"}
    assert proxy.seen == []


def test_this_host_needs_none(client, serve, monkeypatch):
    proxy = serve(lambda _seen: Reply())
    own = serve(lambda _seen: Reply())
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    client.repository(own).ping()
    assert proxy.seen == []


class Tunnel:
    """A proxy that only knows CONNECT, and leads everywhere to one port."""

    def __init__(self, port):
        self.asked = []
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(20)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        client, _ = self._listening.accept()
        with client, client.makefile("rb") as lines, socket.create_connection(("127.0.0.1", self._port)) as server:
            while line := lines.readline().strip():
                self.asked.append(line.decode())
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=self._copy, args=(server, client))
            back.start()
            self._copy(client, server)
            back.join()

    @staticmethod
    def _copy(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self._thread.join(20)
        self._listening.close()


def test_tls_goes_through_a_tunnel(client, serve, monkeypatch, localhost_certificate):
    server = serve(
        lambda seen: Reply() if seen.authorization else Reply(401, {"WWW-Authenticate": "Basic"}), localhost_certificate
    )
    tunnel = Tunnel(server.port)
    monkeypatch.setenv("HTTPS_PROXY", tunnel.url.removeprefix("http://"))
    monkeypatch.setattr("plugrun.registry.origin.is_loopback", lambda _host: False)
    client.credential = Credential("alice", "secret")
    client.repository(server, certificates=[localhost_certificate.parent]).ping()
    client.transport.close()
    tunnel.close()
    assert tunnel.asked[0] == f"CONNECT localhost:{server.port} HTTP/1.0"
    assert not any("authorization" in line.lower() for line in tunnel.asked)
    assert len(server.seen) == 2


def test_a_proxy_that_is_not_there(client, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@127.0.0.1:{port}")
    with pytest.raises(Unavailable) as caught:
        Repository(client.transport, Endpoint("reg.test", "app", "reg.test")).ping()
    assert str(caught.value) == "registry reg.test cannot be reached: the proxy does not let us: connection refused"


@pytest.mark.parametrize("proxy", ["socks5://user:secret@127.0.0.1:1", "http://", "http://[", "http://a:b:c:d"])
def test_a_proxy_that_is_none(client, monkeypatch, proxy):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(InvalidArgument, match="is not the URL of an HTTP proxy") as caught:
        Repository(client.transport, Endpoint("reg.test", "app", "reg.test")).ping()
    assert "secret" not in str(caught.value)
