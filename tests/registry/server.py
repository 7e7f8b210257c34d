"""A scripted HTTP server on loopback, which keeps what it was asked."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple


class Seen(NamedTuple):
    """A request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


class Reply(NamedTuple):
    """An answer.

    :param body: bytes, or pieces that are sent one by one; with pieces there is no Content-Length but a given one.
    :param breaks: hang up after it.
    """

    status: int = 200
    headers: dict[str, str] = {}
    body: bytes | Iterable[bytes] = b""
    breaks: bool = False


class Server:
    """Answers every request with what ``script`` returns for it.

    :param port: where it listens.
    :param raw: returns pieces to send instead of an answer.
    :param certificates: what clients showed, one of each connection.
    """

    def __init__(self, script: Callable[[Seen], Reply], certificate: Path | None = None, port: int = 0) -> None:
        self.script = script
        self.seen: list[Seen] = []
        self.lock = threading.Lock()
        self.raw: Callable[[], Iterable[bytes]] | None = None
        self.certificates: list[object] = []
        self.connections = 0
        self._http = _Http(("127.0.0.1", port), _Handler)
        self._http.owner = self
        self.port = self._http.server_address[1]
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            self._http.context = context
        self.context = self._http.context
        self.scheme = "https" if certificate else "http"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def paths(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.seen]

    def close(self) -> None:
        if not self._thread.is_alive():
            return
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    owner: Server
    context: ssl.SSLContext | None = None

    def finish_request(self, request, client_address):
        with self.owner.lock:
            self.owner.connections += 1
        with contextlib.suppress(OSError):  # hung up, or no TLS
            if self.context:
                request.settimeout(20)
                request = self.context.wrap_socket(request, server_side=True)
                self.owner.certificates.append(request.getpeercert())
            elif request.recv(1, socket.MSG_PEEK) == b"\x16":  # TLS: Go's server says this, too
                request.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                return
            with request if self.context else contextlib.nullcontext():
                super().finish_request(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, self.path, headers, body)
        owner = self.server.owner
        with owner.lock:
            owner.seen.append(seen)
        if owner.raw:
            for piece in owner.raw():
                self.wfile.write(piece)
            self.close_connection = True
        else:
            self._send(owner.script(seen))

    def _send(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        whole = isinstance(reply.body, bytes)
        if whole and "Content-Length" not in reply.headers and "Transfer-Encoding" not in reply.headers:
            self.send_header("Content-Length", str(len(reply.body)))
        if not whole and not {"Content-Length", "Transfer-Encoding"} & reply.headers.keys():
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            for piece in [reply.body] if whole else reply.body:
                self.wfile.write(piece)
        self.close_connection |= reply.breaks

    def log_message(self, *_args: object) -> None:
        pass


@contextlib.contextmanager
def serving(script: Callable[[Seen], Reply], certificate: Path | None = None, port: int = 0) -> Iterator[Server]:
    """Serve meanwhile."""
    server = Server(script, certificate, port)
    try:
        yield server
    finally:
        server.close()


def make_certificate(path: Path, names: str = "DNS:localhost,IP:127.0.0.1") -> Path:
    """Write a self-signed certificate there, with its key beside it as ``.key``."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", path.with_suffix(".key"), "-out", path, "-days", "2", "-subj", "/CN=test"]
    subprocess.run([*command, "-addext", f"subjectAltName={names}"], check=True, capture_output=True, timeout=60)
    return path
