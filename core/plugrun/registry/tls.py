"""Whom a registry's TLS certificate is believed, and which one is shown to it: the ``certs.d`` of docker and podman."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from plugrun.errors import InvalidArgument, Unavailable

if TYPE_CHECKING:
    from plugrun.registry.endpoint import Endpoint

CERTIFICATES = "/etc/plugrun/certs.d"


class Trust:
    """TLS contexts for an endpoint, each made once: loading the system's certificates takes milliseconds."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._directory = next((path for path in endpoint.certificates if path.is_dir()), None)
        self._made: dict[tuple[bool, bool], ssl.SSLContext] = {}

    def context(self, *, verified: bool, client: bool) -> ssl.SSLContext:
        """Return a context.

        :param verified: certificates must be signed by whom the system or the endpoint's directory trusts.
        :param client: show the endpoint's client certificate, if there is one.
        :raises InvalidArgument: a file in the directory holds no certificate or key.
        :raises Unavailable: a file there cannot be read.
        """
        pairs = self._pairs() if client else []
        key = verified, bool(pairs)
        if key not in self._made:
            self._made[key] = self._make(pairs, verified=verified)
        return self._made[key]

    def _make(self, pairs: list[tuple[Path, Path]], *, verified: bool) -> ssl.SSLContext:
        if verified:
            context = ssl.create_default_context()
            for path in self._files("*.crt"):
                with _naming(path):
                    context.load_verify_locations(path)
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        for certificate, key in pairs:
            with _naming(certificate):
                context.load_cert_chain(certificate, key, password=_no_password)
        return context

    def _pairs(self) -> list[tuple[Path, Path]]:
        pairs = [(path, path.with_suffix(".key")) for path in self._files("*.cert")]
        for certificate, key in pairs:
            if not key.exists():
                raise InvalidArgument(f"client certificate {certificate} has no key {key}")
        return pairs

    def _files(self, pattern: str) -> list[Path]:
        return sorted(self._directory.glob(pattern)) if self._directory else []


def _no_password() -> str:
    raise ValueError("it needs a password")  # instead of asking at the terminal


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        raise InvalidArgument(f"{path} holds no usable certificate: {error.reason or error}") from None
    except ValueError as error:
        raise InvalidArgument(f"the key of {path} cannot be used: {error}") from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from None
