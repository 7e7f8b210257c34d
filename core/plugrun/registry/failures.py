"""What goes wrong on the way to a registry, in words: urllib3's exceptions as errors of the engine."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any, TypeVar

from urllib3 import exceptions

from plugrun.errors import Denied, PlugrunError, Unavailable
from plugrun.registry.tls import CERTIFICATES
from plugrun.tuples import NamedTuple

E = TypeVar("E", bound=BaseException)
_SHOWN = 200  # characters of what a registry says
# How OpenSSL says that what came is no TLS: of 1.1 and 3.0, of 3.2 and later, and of a long first line.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})


class Transient(Exception):
    """Something that may be gone at the next try.

    :param error: what to raise if it is not.
    :param retry_after: the header of that name, if there was one.
    """

    def __init__(self, error: PlugrunError, retry_after: str | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


class Place(NamedTuple):
    """Whom a request went to.

    :param registry: the endpoint's host.
    :param host: where it was sent, which the registry may have named.
    """

    registry: str
    host: str

    def __str__(self) -> str:
        if self.host == self.registry:
            return f"registry {self.registry}"
        return f"{self.host} (sent there by registry {self.registry})"


def shown(text: str) -> str:
    """Return somebody else's words for a message: one line, printable, not long."""
    text = " ".join(text[: 2 * _SHOWN].split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def unreachable(error: Exception, place: Place, *, known: bool = True) -> Transient | PlugrunError:
    """Return what to raise for an exception of urllib3 or a socket: :class:`Transient` if another try makes sense.

    :param known: it has answered before; to find nobody is then a passing trouble, and else a wrong name.
    """
    tls = _find(error, ssl.SSLError)
    if isinstance(tls, ssl.SSLCertVerificationError):
        return Denied(
            f"{place}'s certificate is not trusted: {shown(tls.verify_message).rstrip('.')}",
            hint=f"put its CA in {CERTIFICATES}/{place.registry}/ca.crt, or list it as insecure in the config",
        )
    if tls and tls.reason in _NO_TLS:
        return Denied(f"{place} speaks plain HTTP", hint="list it as insecure in the config")
    unavailable = Unavailable(f"{place} cannot be reached: {cause(error)}")
    return unavailable if _is_final(error) or (not known and _is_nobody(error)) else Transient(unavailable)


def cause(error: Exception) -> str:
    """Return in some words why a connection failed."""
    if isinstance(error, exceptions.ProxyError):
        return f"the proxy does not let us: {cause(error.original_error)}"
    if isinstance(error, exceptions.ReadTimeoutError):
        return "it does not answer in time"
    tls = _find(error, ssl.SSLError)
    if tls:
        reason = shown(tls.reason or str(tls)).replace("_", " ").lower()
        return "the connection broke off" if _is_end(tls) else f"TLS fails: {reason}"
    system = next((link for link in _chain(error) if isinstance(link, OSError)), None)
    if system and system.strerror:
        return shown(system.strerror).lower()
    if isinstance(system, TimeoutError):
        return "it takes too long"
    return shown(str(system)) if system and system.args else "the connection broke off"


def speaks_http(error: Exception) -> bool:
    """Whether a TLS handshake failed because the other side does not know TLS."""
    tls = _find(error, ssl.SSLError)
    return tls is not None and tls.reason in _NO_TLS


def is_refused(error: Exception) -> bool:
    """Whether nobody listens at a port, or whoever does hangs up on us."""
    return _find(error, ConnectionError) is not None or _find(error, ssl.SSLEOFError) is not None


def _is_nobody(error: Exception) -> bool:
    """Whether no connection came about at all."""
    return (
        _find(error, exceptions.ConnectTimeoutError) is not None
        or _find(error, exceptions.NewConnectionError) is not None
    )


def _is_final(error: Exception) -> bool:
    """Whether the next try would fail, too, or take as long."""
    unknown = _find(error, socket.gaierror)
    tls = _find(error, ssl.SSLError)
    if unknown:
        return unknown.errno != socket.EAI_AGAIN
    return isinstance(error, exceptions.ReadTimeoutError) or (tls is not None and not _is_end(tls))


def _is_end(error: ssl.SSLError) -> bool:
    return isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def _find(error: Exception, kind: type[E]) -> E | None:
    return next((link for link in _chain(error) if isinstance(link, kind)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, and what it was made of."""
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        link = todo.pop(0)
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            todo += [*link.args, link.__cause__]  # not the context: it may be another request's
