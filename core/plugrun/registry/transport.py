"""Requests to registries: with authorization, redirects, retries and limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from urllib3.exceptions import HTTPError
from urllib3.util import Url

from plugrun.errors import InvalidArgument, PlugrunError, Unavailable
from plugrun.registry import answers, failures, origin
from plugrun.registry.auth import Authorizer
from plugrun.registry.failures import Place, Transient
from plugrun.registry.limits import Limits
from plugrun.registry.retries import Retries
from plugrun.registry.site import Site
from plugrun.registry.sockets import Watch
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from plugrun.registry.endpoint import Credential, Endpoint
    from plugrun.registry.origin import Origin

MAX_ERROR = 1 << 20  # bytes, as of a token server's answer
_MAX_TOKEN = 1 << 20
_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK = 64 << 10

T = TypeVar("T")


class Request(NamedTuple):
    """What to ask a registry.

    :param url: below the API's root, e.g. ``busybox/tags/list``, or somewhere the registry named itself.
    :param what: what is asked for, for messages.
    :param scopes: what a token must be good for.
    :param body: returns what to send, for each time it is sent.
    :param patience: seconds until an answer begins, if not the usual ones.
    """

    method: str
    url: str | Url
    what: str
    scopes: tuple[str, ...] = ()
    headers: Mapping[str, str] = {}
    body: Callable[[], bytes | Iterable[bytes | memoryview]] | None = None
    patience: float | None = None


class Reply(NamedTuple):
    """A small answer, complete.

    :param url: who gave it, in the end.
    """

    status: int
    headers: Mapping[str, str]
    data: bytes
    url: Url


class Transport:
    """Connections to registries, and what satisfied them, for one command. Safe for threads.

    :param credentials: returns the credential for a registry; asked only when the registry wants to see one.
    :param notice: told one line about what takes longer: retries.
    :param limits: how long the other side may take.
    :param retries: how to try again, if not as usual.
    """

    def __init__(
        self,
        *,
        credentials: Callable[[str], Credential | None],
        notice: Callable[[str], None] = lambda _line: None,
        limits: Limits = Limits(),  # noqa: B008 (a tuple)
        retries: Retries | None = None,
    ) -> None:
        self._credentials = credentials
        self._limits = limits
        self._watch = Watch(limits)
        self._retries = retries or Retries(notice, self._wait)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._sites: dict[Endpoint, tuple[Site, Authorizer]] = {}

    @property
    def limits(self) -> Limits:
        """How long the other side may take."""
        return self._limits

    def close(self) -> None:
        """Break all connections off, also those that other threads wait for."""
        self._closed.set()
        self._watch.shutdown()
        for site, _ in list(self._sites.values()):
            site.close()

    def retry(self, attempt: Callable[[], T]) -> T:
        """Return what ``attempt`` returns, at the fifth time at the latest.

        :raises PlugrunError: as the last attempt, :class:`Transient` replaced by what it stands for.
        """

        def guarded() -> T:
            self._check()
            return attempt()

        return self._retries.run(guarded)

    def base(self, endpoint: Endpoint) -> Url:
        """Return the URL of an endpoint's API."""
        return self.retry(self._at(endpoint)[0].base)

    def fetch(self, endpoint: Endpoint, request: Request, limit: int, *, accepted: tuple[int, ...] = (200,)) -> Reply:
        """Return a small answer.

        :param limit: bytes it may have.
        :param accepted: statuses to return; others are raised as what they mean.
        :raises InvalidArgument: it is larger.
        :raises Denied: the registry does not let us.
        :raises NotFound: the registry does not have it.
        :raises Unavailable: the registry cannot be reached or is too slow, after five tries.
        """
        return self.retry(lambda: self.attempt(endpoint, request, limit, accepted=accepted))

    def attempt(self, endpoint: Endpoint, request: Request, limit: int, *, accepted: tuple[int, ...] = (200,)) -> Reply:
        """Do as :meth:`fetch` does, once.

        :raises Transient: another try may do.
        """
        response, url = self.open(endpoint, request, accepted=accepted)
        with response:
            data = self._read(response, limit, request.what, self._at(endpoint)[0].place(url))
        return Reply(response.status, response.headers, data, url)

    def open(
        self, endpoint: Endpoint, request: Request, *, accepted: tuple[int, ...] = (200,)
    ) -> tuple[BaseHTTPResponse, Url]:
        """Return an answer that is still to be read, and who gave it; try once.

        :raises Transient: another try may do.
        """
        site, authorizer = self._at(endpoint)
        response, url = self._authorized(site, authorizer, request)
        if response.status in accepted:
            return response, url
        with response:
            data = self._read(response, MAX_ERROR, "an error message", site.place(url), strict=False)
        own = origin.of(url) == site.origin
        if not own:
            error: PlugrunError = Unavailable(
                f"{site.place(url)} answers {answers.status(response.status)} about {request.what}"
            )
        else:
            error = answers.refused(
                response.status, data, endpoint, request.what, user=authorizer.user, vouched=authorizer.vouched
            )
        if answers.is_transient(response.status):
            raise Transient(error, response.headers.get("Retry-After"))
        raise error

    def _at(self, endpoint: Endpoint) -> tuple[Site, Authorizer]:
        with self._lock:
            if endpoint not in self._sites:
                site = Site(endpoint, self._limits, self._watch)

                def ask(method: str, url: Url, *, authorization: str | None, form: bytes | None) -> tuple[int, bytes]:
                    return self._ask(site, method, url, authorization, form)

                authorizer = Authorizer(endpoint, lambda: self._credentials(endpoint.registry), ask)
                self._sites[endpoint] = site, authorizer
            return self._sites[endpoint]

    def _authorized(self, site: Site, authorizer: Authorizer, request: Request) -> tuple[BaseHTTPResponse, Url]:
        url = request.url if isinstance(request.url, Url) else origin.below(site.base(), request.url)
        header = authorizer.header(request.scopes)
        response, last = self._follow(site, url, request, header, site.origin)
        if response.status == 401 and origin.of(last) == site.origin:
            asked = response.headers.getlist("WWW-Authenticate")
            try:
                again = authorizer.answer(asked, request.scopes, header)
            except BaseException:
                response.close()
                raise
            if again:
                self._discard(response)
                return self._follow(site, url, request, again, site.origin)
        return response, last

    def _follow(
        self, site: Site, url: Url, request: Request, authorization: str | None, owner: Origin
    ) -> tuple[BaseHTTPResponse, Url]:
        """Ask, also where the answer sends us; ``authorization`` is for ``owner`` alone."""
        what = f"registry {site.endpoint.host}"
        for _ in range(1 + _MAX_REDIRECTS):
            headers = dict(request.headers)
            if authorization and origin.of(url) == owner:
                headers["Authorization"] = authorization
            body = request.body() if request.body else None
            response = site.send(request.method, url, headers, body, patience=request.patience)
            if response.status not in _REDIRECTS or request.method not in {"GET", "HEAD"}:
                return response, url
            self._discard(response)
            url = origin.follow(url, response.headers.get("Location"), what)
        raise InvalidArgument(f"{what} sends us on more than {_MAX_REDIRECTS} times for {request.what}")

    def _ask(
        self, site: Site, method: str, url: Url, authorization: str | None, form: bytes | None
    ) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        request = Request(method, url, "a token", headers=headers, body=(lambda: form) if form else None)
        response, url = self._follow(site, url, request, authorization, origin.of(url))
        with response:
            data = self._read(response, _MAX_TOKEN, request.what, site.place(url))
        if answers.is_transient(response.status):
            error = Unavailable(f"token server {url.netloc} answers {answers.status(response.status)}")
            raise Transient(error, response.headers.get("Retry-After"))
        return response.status, data

    def _read(self, response: BaseHTTPResponse, limit: int, what: str, place: Place, *, strict: bool = True) -> bytes:
        """Read an answer; if it is not ``strict``, what is over the limit is left out."""
        end = time.monotonic() + self._limits.answer
        data = bytearray()
        try:
            while chunk := response.read1(_CHUNK):
                data += chunk
                if len(data) > limit:
                    if strict:
                        raise InvalidArgument(f"{what} from {place} is larger than {limit >> 20} MiB")
                    return bytes(data[:limit])
                if time.monotonic() > end:
                    raise Unavailable(f"{place} is too slow: {what} takes over {self._limits.answer:.0f} s")
        except (HTTPError, OSError) as error:
            raise failures.unreachable(error, place) from None
        return bytes(data)

    def _discard(self, response: BaseHTTPResponse) -> None:
        """Make the connection free for the next request, if that takes little."""
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and int(length) <= _CHUNK:
            try:
                self._read(response, _CHUNK, "", Place("", ""), strict=False)
            except (Transient, PlugrunError):
                response.close()
        else:
            response.close()

    def _wait(self, seconds: float) -> None:
        self._closed.wait(seconds)
        self._check()

    def _check(self) -> None:
        if self._closed.is_set():
            raise Unavailable("the connections to registries are closed")
