"""A transport whose waiting takes no time, and servers for it to ask."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from plugrun.registry import config
from plugrun.registry.client import Repository, Transport
from plugrun.registry.endpoint import Endpoint
from plugrun.registry.limits import Limits
from plugrun.registry.retries import Retries
from registry.server import make_certificate, serving


class Client:
    """A transport, and what it told and waited."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.delays: list[float] = []
        self.asked: list[str] = []
        self.credential = None
        self.limits = Limits()
        self._transport: Transport | None = None

    @property
    def transport(self) -> Transport:
        if self._transport is None:
            retries = Retries(self.notices.append, self.delays.append, wall=lambda: 1_000_000_000, jitter=lambda: 1.0)
            self._transport = Transport(credentials=self._find, limits=self.limits, retries=retries)
        return self._transport

    def repository(self, server, name="app", **options) -> Repository:
        return Repository(self.transport, self.endpoint(server, name, **options))

    def endpoint(self, server, name="app", host=None, insecure=None, certificates=()) -> Endpoint:
        plain = server.scheme == "http" if insecure is None else insecure
        return Endpoint(host or server.host, name, "reg.test", plain, tuple(certificates))

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def _find(self, registry):
        self.asked.append(registry)
        return self.credential


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def client():
    made = Client()
    yield made
    made.close()


@pytest.fixture
def serve():
    """Start a server that answers with what a function of the request returns."""
    with contextlib.ExitStack() as stack:
        yield lambda script, certificate=None, port=0: stack.enter_context(serving(script, certificate, port))


@pytest.fixture(scope="session")
def localhost_certificate(tmp_path_factory) -> Path:
    """A certificate for localhost in a directory of its own, as ``ca.crt``: it is its own CA."""
    return make_certificate(tmp_path_factory.mktemp("certs") / "ca.crt")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of its own, with nothing in it."""
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "home"


@pytest.fixture
def docker_config(home):
    """Write ``~/.docker/config.json``; return its path."""

    def write(content):
        path = home / ".docker" / "config.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.fixture
def no_registries_conf(monkeypatch):
    monkeypatch.delenv(config.FILE_VARIABLE, raising=False)
    monkeypatch.delenv(config.CERTIFICATES_VARIABLE, raising=False)


@pytest.fixture
def load(tmp_path, no_registries_conf):
    """Load a configuration of one text, or of several in registries.conf.d."""

    def load(text="", **drop_ins):
        (tmp_path / "registries.conf").write_text(text)
        (tmp_path / "registries.conf.d").mkdir()
        for name, content in drop_ins.items():
            (tmp_path / "registries.conf.d" / f"{name}.conf").write_text(content)
        return config.load(tmp_path)

    return load
