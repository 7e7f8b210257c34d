"""Proving to a registry who asks: Basic (RFC 7617), or a Bearer token (Docker's token authentication).

A secret goes to the registry's own origin, or to the token server that the registry itself named; a challenge that came
from anywhere else is never answered (CVE-2020-15157).
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from plugrun.errors import Denied, InvalidArgument
from plugrun.images import document
from plugrun.registry import challenge, origin
from plugrun.registry.answers import words
from plugrun.registry.failures import shown
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from urllib3.util import Url

    from plugrun.registry.challenge import Challenge
    from plugrun.registry.endpoint import Credential, Endpoint

_LIFETIME = 60  # seconds, if the token server does not say
_MARGIN = 10  # seconds before its end at which a token is not used any more
_SHORTEST = 5  # seconds for which any token is used
_CLIENT = "plugrun"


class Asker(Protocol):
    """Asks a token server; the transport is one."""

    def __call__(self, method: str, url: Url, *, authorization: str | None, form: bytes | None) -> tuple[int, bytes]:
        """Return status and body.

        :param authorization: for the origin of ``url`` alone.
        """


class _Token(NamedTuple):
    header: str
    end: float  # as time.monotonic() says it


class Authorizer:
    """Who asks at one endpoint. Safe for threads: those that need the same token at the same time share one request.

    :param find: returns the endpoint's credential; called once, when a registry wants to see one.
    :param ask: asks a token server.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        find: Callable[[], Credential | None],
        ask: Asker,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._find = find
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._looked = False
        self._credential: Credential | None = None
        self._basic: str | None = None
        self._bearer: tuple[Url, str] | None = None  # realm and service
        self._tokens: dict[tuple[str, ...], _Token] = {}

    @property
    def user(self) -> str | None:
        """As whom the endpoint was asked; ``None`` as long as nobody said who he is."""
        return self._credential.username if self._credential else None

    @property
    def vouched(self) -> bool:
        """Whether a token server knows the user, so that a refusal is about what he may do."""
        return bool(self._tokens)

    def header(self, scopes: tuple[str, ...]) -> str | None:
        """Return the ``Authorization`` to begin with: what satisfied the endpoint so far.

        :raises Denied: a new token is due, and the token server does not give one.
        """
        with self._lock:
            return self._basic or (self._token(scopes) if self._bearer else None)

    def answer(self, headers: Iterable[str], scopes: tuple[str, ...], refused: str | None) -> str | None:
        """Return the ``Authorization`` to try after the endpoint answered 401.

        :param headers: its ``WWW-Authenticate``.
        :param refused: the ``Authorization`` it was asked with.
        :returns: ``None`` if there is nothing else to try.
        :raises Denied: the token server does not give a token, or is none to show a credential to.
        """
        challenges = {found.scheme: found for found in reversed(challenge.parse(headers))}
        with self._lock:
            if "bearer" in challenges:
                self._bearer = self._realm(challenges["bearer"])
                if (known := self._tokens.get(scopes)) and known.header == refused:
                    del self._tokens[scopes]
                self._basic = None
                found: str | None = self._token(scopes)
            elif "basic" in challenges and (credential := self._look()) and not credential.identity_token:
                found = self._basic = _basic(credential)
            else:
                return None
            return None if found == refused else found

    def _look(self) -> Credential | None:
        if not self._looked:
            self._credential = self._find()
            self._looked = True
        return self._credential

    def _realm(self, bearer: Challenge) -> tuple[Url, str]:
        host = self._endpoint.host
        url = origin.parse(bearer.parameters.get("realm", ""), f"the token server of registry {host}")
        name = origin.hostname(url)
        near = name == origin.hostname(origin.parse(f"https://{host}", "registry"))
        if url.scheme != "https" and not (near and self._endpoint.insecure):
            raise Denied(f"registry {host} names the token server {shown(url.url)}, which speaks plain HTTP")
        if not near and not origin.is_public_name(name):
            raise Denied(f"registry {host} names the token server {shown(url.url)}, which has no public name")
        return url._replace(fragment=None), bearer.parameters.get("service", "")

    def _token(self, scopes: tuple[str, ...]) -> str:
        token = self._tokens.get(scopes)
        if token is None or token.end <= self._clock():
            token = self._tokens[scopes] = self._fetch(scopes)
        return token.header

    def _fetch(self, scopes: tuple[str, ...]) -> _Token:
        assert self._bearer
        realm, service = self._bearer
        credential = self._look()
        began = self._clock()
        query = [("service", service)] if service else []
        if credential and credential.identity_token:
            query += [("client_id", _CLIENT), ("grant_type", "refresh_token"), ("scope", " ".join(scopes))]
            form = urlencode([*query, ("refresh_token", credential.identity_token)]).encode()
            status, data = self._ask("POST", realm, authorization=None, form=form)
        else:
            query += [("scope", scope) for scope in scopes]
            joined = "&".join(filter(None, (realm.query, urlencode(query))))
            basic = _basic(credential) if credential else None
            status, data = self._ask("GET", realm._replace(query=joined or None), authorization=basic, form=None)
        if status != 200:
            raise self._denied(status, data)
        return self._read(data, began)

    def _denied(self, status: int, data: bytes) -> Denied:
        host = self._endpoint.host
        tail = f": {said}" if (said := words(data)) else f" with status {status}"
        hint = f"plugrun login {self._endpoint.registry}"
        if self.user is None:
            return Denied(f"the token server of registry {host} refuses anonymous access{tail}", hint=hint)
        who = f"credentials of {self.user}" if self.user else "identity token"
        return Denied(f"registry {host} refuses the {who}{tail}", hint=hint)

    def _read(self, data: bytes, began: float) -> _Token:
        what = f"the answer of the token server of registry {self._endpoint.host}"
        found: dict[str, Any] = document.parse(data, what).values
        token = found.get("token") or found.get("access_token")
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):  # it becomes a header
            raise InvalidArgument(f"{what} has no token")
        lifetime = found.get("expires_in")
        if not isinstance(lifetime, int | float) or not lifetime > 0:
            lifetime = _LIFETIME
        return _Token(f"Bearer {token}", began + max(_SHORTEST, min(float(lifetime), 1e6) - _MARGIN))


def _basic(credential: Credential) -> str:
    pair = f"{credential.username}:{credential.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"
