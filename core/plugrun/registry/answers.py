"""What a registry's answer means when it is not the one hoped for (distribution-spec, "Error Codes")."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from plugrun.errors import Denied, DriverError, InvalidArgument, NotFound, PlugrunError, Unavailable
from plugrun.registry.failures import shown

if TYPE_CHECKING:
    from plugrun.registry.endpoint import Endpoint

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_LINE = 1000  # bytes of an error that is plain text


def status(number: int) -> str:
    """Return ``503 Service Unavailable`` of 503."""
    try:
        return f"{number} {HTTPStatus(number).phrase}"
    except ValueError:
        return str(number)


def is_transient(number: int) -> bool:
    """Whether a status may be another one soon."""
    return number in _TRANSIENT


def refused(
    number: int, data: bytes, endpoint: Endpoint, what: str, *, user: str | None, vouched: bool = False
) -> PlugrunError:
    """Return what to raise for an answer that is not the one hoped for.

    :param number: its status.
    :param data: its body.
    :param what: what was asked for, e.g. ``image localhost:5000/app:v2``.
    :param user: as whom; ``None`` if as nobody.
    :param vouched: a token server knows him.
    """
    said = words(data)
    tail = f": {said}" if said else ""
    host, login = endpoint.host, f"plugrun login {endpoint.registry}"
    answers = f"registry {host} answers {status(number)} about {what}{tail}"
    if number in {401, 403}:
        return _denied(endpoint, what, tail, user, unknown=number == 401 and not vouched)
    if number == 404:
        return NotFound(f"no {what} in the registry{tail}")
    if is_transient(number):
        hint = f"wait a while, or log in: {login}" if number == 429 else None
        return Unavailable(f"{host} answers {status(number)}{tail}", hint=hint)
    return InvalidArgument(answers) if 400 <= number < 500 else DriverError(answers)


def _denied(endpoint: Endpoint, what: str, tail: str, user: str | None, *, unknown: bool) -> Denied:
    host, login = endpoint.host, f"plugrun login {endpoint.registry}"
    if user is None:
        return Denied(f"registry {host} denies access to {what}{tail}", hint=f"check the name, or log in: {login}")
    who = user or "its identity token"
    if unknown:
        return Denied(f"registry {host} refuses the credentials of {who}{tail}", hint=login)
    return Denied(
        f"registry {host} denies {who} access to {what}{tail}",
        hint=f"check the name, or log in as somebody else: {login}",
    )


def words(data: bytes) -> str:
    """Return what the body of an error says: the errors of the distribution-spec, or a line of text."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        text = data[:_LINE].decode(errors="replace").strip()
        return "" if text.startswith(("<", "[", "{")) else shown(text)
    return shown(_message(value))


def _message(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    errors = value.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        value = errors[0]
    found = next((value[key] for key in ("message", "details", "error", "code") if value.get(key)), "")
    return found if isinstance(found, str) else ""
