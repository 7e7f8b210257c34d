"""Through whom a host is reached: ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY``, in upper or lower case."""

from __future__ import annotations

import ssl
from urllib.parse import unquote
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import urllib3
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, make_headers, parse_url

from plugrun.errors import InvalidArgument
from plugrun.registry import origin
from plugrun.registry.failures import shown
from plugrun.registry.sockets import Watch, pool_classes

_KEPT = 8  # idle connections to a host: as many as layers are downloaded at a time, and some


def proxy(url: Url) -> str | None:
    """Return the URL of the proxy for a URL; this host itself is never asked through one."""
    host = origin.hostname(url)
    found = getproxies_environment()
    if origin.is_loopback(host) or proxy_bypass_environment(f"{host}:{url.port}" if url.port else host, found):
        return None
    return found.get(url.scheme or "")


def manager(through: str | None, context: ssl.SSLContext, watch: Watch, what: str | None) -> urllib3.PoolManager:
    """Return keep-alive connections that use ``context`` for TLS.

    :param through: the URL of a proxy.
    :param what: who sends us there, for messages, when link-local addresses are refused.
    :raises InvalidArgument: the proxy is none that speaks HTTP.
    """
    check = (lambda address: origin.check_address(address, what)) if what else None
    made = urllib3.PoolManager(maxsize=_KEPT, ssl_context=context) if through is None else _through(through, context)
    made.pool_classes_by_scheme = pool_classes(watch, check)
    return made


def _through(through: str, context: ssl.SSLContext) -> urllib3.ProxyManager:
    try:
        url = parse_url(through if "://" in through else f"http://{through}")
    except LocationParseError:
        url = Url()
    if url.scheme not in {"http", "https"} or not url.host:
        public = through.rpartition("@")[2]  # without the password
        raise InvalidArgument(f"the proxy of the environment, {shown(public)!r}, is not the URL of an HTTP proxy")
    headers = make_headers(proxy_basic_auth=unquote(url.auth)) if url.auth else None
    address = url._replace(auth=None).url
    return urllib3.ProxyManager(address, proxy_headers=headers, maxsize=_KEPT, ssl_context=context)
