"""What went wrong, in words: urllib3's exceptions and a registry's answers as errors of the engine."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from urllib3 import exceptions

from plugrun.errors import Denied, DriverError, InvalidArgument, NotFound, PlugrunError, Unavailable
from plugrun.registry.tls import CERTIFICATES

if TYPE_CHECKING:
    from plugrun.registry.endpoint import Endpoint

E = TypeVar("E", bound=BaseException)
_SHOWN = 200  # characters of what a registry says
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
# How OpenSSL says that what came is no TLS: of 1.1 and 3.0, of 3.2 and later, and of a long first line.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})


class Interrupted(Unavailable):
    """A body broke off or stalled; worth another try."""


class Transient(Exception):
    """Something that may be gone at the next try.

    :param error: what to raise if it is not.
    :param retry_after: the header of that name, if there was one.
    """

    def __init__(self, error: PlugrunError, retry_after: str | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


def shown(text: str) -> str:
    """Return somebody else's words for a message: one line, printable, not long."""
    text = " ".join(text[: 2 * _SHOWN].split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def unreachable(error: Exception, host: str) -> Transient | PlugrunError:
    """Return what to raise for an exception of urllib3 or a socket: :class:`Transient` if another try makes sense."""
    tls = _find(error, ssl.SSLError)
    if tls and not isinstance(tls, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _tls(tls, host)
    if isinstance(error, exceptions.ReadTimeoutError):
        return _cannot(host, "it does not answer in time")  # waiting once was long enough
    why, final = _cause(error)
    return _cannot(host, why) if final else Transient(_cannot(host, why))


def _cause(error: Exception) -> tuple[str, bool]:
    """Return why a connection failed, and whether that will not change soon."""
    unknown = _find(error, socket.gaierror)
    if unknown:
        return (unknown.strerror or "unknown name").lower(), unknown.errno != socket.EAI_AGAIN
    if isinstance(error, exceptions.ConnectTimeoutError) and not isinstance(error, exceptions.NewConnectionError):
        return "connecting takes too long", False
    if isinstance(error, exceptions.ProxyError):
        return f"the proxy refuses: {error.original_error}", False
    cause = _find(error, OSError)
    return (cause.strerror.lower() if cause and cause.strerror else "the connection broke off"), False


def _find(error: Exception, kind: type[E]) -> E | None:
    return next((link for link in _chain(error) if isinstance(link, kind)), None)


def speaks_http(error: Exception) -> bool:
    """Whether a TLS handshake failed because the other side does not know TLS."""
    return any(isinstance(link, ssl.SSLError) and link.reason in _NO_TLS for link in _chain(error))


def is_refused(error: Exception) -> bool:
    """Whether nobody listens at a port, or whoever does hangs up on us."""
    return any(isinstance(link, ConnectionError | ssl.SSLEOFError) for link in _chain(error))


def _tls(error: ssl.SSLError, host: str) -> PlugrunError:
    if isinstance(error, ssl.SSLCertVerificationError):
        why = shown(error.verify_message).rstrip(".")
        return Denied(
            f"registry {host}'s certificate is not trusted: {why}",
            hint=f"put its CA in {CERTIFICATES}/{host}/ca.crt, or list it as insecure in the config",
        )
    if error.reason in _NO_TLS:
        return Denied(f"registry {host} speaks plain HTTP", hint="list it as insecure in the config")
    reason = (error.reason or "it breaks off").replace("_", " ").lower()
    return _cannot(host, f"TLS fails: {reason}")


def _cannot(host: str, why: str) -> Unavailable:
    return Unavailable(f"registry {host} cannot be reached: {shown(why)}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, and what it was made of."""
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        link = todo.pop(0)
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            todo += [*link.args, link.__cause__, link.__context__]


def status(number: int) -> str:
    """Return ``503 Service Unavailable`` of 503."""
    try:
        return f"{number} {HTTPStatus(number).phrase}"
    except ValueError:
        return str(number)


def is_transient(number: int) -> bool:
    """Whether a status may be another one soon."""
    return number in _TRANSIENT


def refused(number: int, data: bytes, endpoint: Endpoint, what: str, *, user: str | None) -> PlugrunError:
    """Return what to raise for an answer that is not the one hoped for.

    :param number: its status.
    :param data: its body.
    :param what: what was asked for, e.g. ``image localhost:5000/app:v2``.
    :param user: as whom; ``None`` if as nobody.
    """
    said = words(data)
    tail = f": {said}" if said else ""
    host, login = endpoint.host, f"plugrun login {endpoint.registry}"
    answers = f"registry {host} answers {status(number)} about {what}{tail}"
    if number in {401, 403}:
        return _denied(number, endpoint, what, tail, user)
    if number == 404:
        return NotFound(f"no {what} in the registry{tail}")
    if is_transient(number):
        hint = f"wait a while, or log in: {login}" if number == 429 else None
        return Unavailable(f"{host} answers {status(number)}{tail}", hint=hint)
    return InvalidArgument(answers) if 400 <= number < 500 else DriverError(answers)


def _denied(number: int, endpoint: Endpoint, what: str, tail: str, user: str | None) -> Denied:
    host, login = endpoint.host, f"plugrun login {endpoint.registry}"
    if user is None:
        return Denied(f"registry {host} denies access to {what}{tail}", hint=f"log in if it is private: {login}")
    who = user or "its identity token"
    if number == 401:
        return Denied(f"registry {host} refuses the credentials of {who}{tail}", hint=login)
    return Denied(f"registry {host} denies {who} access to {what}{tail}")


def words(data: bytes) -> str:
    """Return what the body of an error says: the errors of the distribution-spec, or a line of text."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        text = data[: 4 * _SHOWN].decode(errors="replace").strip()
        return "" if text.startswith("<") else shown(text)
    return shown(_message(value))


def _message(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    errors = value.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        value = errors[0]
    found = next((value[key] for key in ("message", "details", "error", "code") if value.get(key)), "")
    return found if isinstance(found, str) else ""
