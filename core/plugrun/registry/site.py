"""Connections to one endpoint, and to where it sends us."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError
from urllib3.util import Timeout, Url

from plugrun import __version__
from plugrun.registry import failures, origin, proxies
from plugrun.registry.failures import Place
from plugrun.registry.tls import Trust

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

    from plugrun.registry.endpoint import Endpoint
    from plugrun.registry.limits import Limits
    from plugrun.registry.origin import Origin
    from plugrun.registry.sockets import Watch

_HEADERS = {"User-Agent": f"plugrun/{__version__}", "Accept-Encoding": "identity"}


class Site:
    """One endpoint's connections. Safe for threads."""

    def __init__(self, endpoint: Endpoint, limits: Limits, watch: Watch) -> None:
        self.endpoint = endpoint
        self._limits = limits
        self._watch = watch
        self._trust = Trust(endpoint)
        self._managers: dict[tuple[bool, bool, str | None], PoolManager] = {}
        self._lock = threading.Lock()
        self._base = origin.parse(f"https://{endpoint.host}/v2/", "the registry's address")
        self._settled = not endpoint.insecure
        self._known = False  # somebody has answered

    def base(self) -> Url:
        """Return the URL of the API's root.

        An insecure registry is asked by TLS first and then, if it does not know that, by plain HTTP, as docker does.

        :raises Unavailable: it is insecure and nobody answers.
        """
        with self._lock:
            if not self._settled:
                self._settle()
        return self._base

    @property
    def origin(self) -> Origin:
        """Whom the registry's secrets may be shown to."""
        return origin.of(self.base())

    def send(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes | memoryview] | None = None,
        *,
        patience: float | None = None,
    ) -> BaseHTTPResponse:
        """Send one request and return the answer's head; its body is still to be read.

        :param patience: seconds until the answer begins, if not the usual ones.
        :raises Transient: there is no connection, or it broke off.
        :raises Denied: the other side's certificate is not trusted, or it has none.
        :raises Unavailable: nobody answers.
        """
        try:
            answer = self._send(method, url, headers, body, patience)
        except (HTTPError, OSError) as error:
            raise failures.unreachable(error, self.place(url), known=self._known) from None
        self._known = True
        return answer

    def place(self, url: Url) -> Place:
        """Return whom a request for ``url`` goes to, for messages."""
        own = origin.hostname(url) == origin.hostname(self._base) and url.port == self._base.port
        return Place(self.endpoint.host, self.endpoint.host if own else url.netloc or "")

    def close(self) -> None:
        """Close the connections that are idle."""
        for manager in list(self._managers.values()):
            manager.clear()

    def _send(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes | memoryview] | None,
        patience: float | None,
    ) -> BaseHTTPResponse:
        return self._manager(url).urlopen(  # type: ignore[no-any-return, no-untyped-call, unused-ignore]
            method,
            url.url,
            body=body,
            headers={**_HEADERS, **headers},
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=Timeout(connect=self._limits.connect, read=patience or self._limits.answer),
        )

    def _manager(self, url: Url) -> PoolManager:
        """Return connections with what the host of ``url`` is owed: trust to the registry's, its identity to itself."""
        own = origin.of(url) == origin.of(self._base)
        near = origin.hostname(url) == origin.hostname(self._base)
        through = proxies.proxy(url)
        key = own, near, through
        if (manager := self._managers.get(key)) is None:
            context = self._trust.context(verified=not (near and self.endpoint.insecure), client=own)
            what = None if near else f"registry {self.endpoint.host}"
            manager = self._managers.setdefault(key, proxies.manager(through, context, self._watch, what))
        return manager

    def _settle(self) -> None:
        """Find out whether an insecure registry knows TLS."""
        try:
            self._send("GET", self._base, {}, None, None).close()
        except (HTTPError, OSError) as error:
            if not failures.speaks_http(error) and not failures.is_refused(error):
                raise failures.unreachable(error, self.place(self._base), known=False) from None
            plain = self._base._replace(scheme="http")
            try:
                self._send("GET", plain, {}, None, None).close()
            except (HTTPError, OSError) as second:
                raise failures.unreachable(second, self.place(self._base), known=False) from None
            self._base = plain
        self._settled = self._known = True
