"""Where a URL leads, and where a registry may send us (RFC 6454: scheme, host and port are an origin)."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urljoin

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from plugrun.errors import InvalidArgument
from plugrun.registry.failures import shown
from plugrun.tuples import NamedTuple

_PORTS = {"http": 80, "https": 443}
# Where clouds hand out the machine's own credentials, among others.
_LINK_LOCAL = tuple(map(ipaddress.ip_network, ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128")))
_NUMBER = r"[0-9]+|0[xX][0-9A-Fa-f]*"


class Origin(NamedTuple):
    """Whom a secret may be shown to."""

    scheme: str
    host: str
    port: int


def parse(text: str, what: str) -> Url:
    """Read an absolute URL the way it will be connected to.

    :param what: where it was found, for the message.
    :raises InvalidArgument: it is none for http or https, or holds a user name, which only serves to deceive.
    """
    try:
        url = parse_url(text)
    except LocationParseError:
        url = Url()
    if url.scheme not in _PORTS or not url.host or url.auth is not None or not text.isprintable():
        raise InvalidArgument(f"{what} is {shown(text)!r}, not an http or https URL")
    return url


def of(url: Url) -> Origin:
    """Return a URL's origin."""
    scheme = url.scheme or ""
    return Origin(scheme, hostname(url), url.port or _PORTS[scheme])


def hostname(url: Url) -> str:
    """Return the host a URL names, without brackets, port and final dot, in lower case."""
    return (url.host or "").strip("[]").rstrip(".").lower()


def below(base: Url, path: str) -> Url:
    """Return the URL of a path relative to ``base``."""
    return parse(urljoin(base.url, path), "an address")


def follow(base: Url, location: str | None, what: str) -> Url:
    """Return where a ``Location`` leads.

    :param base: what was asked.
    :param what: who sends us, for messages.
    :raises InvalidArgument: nowhere, from https to http, or to an address of this link alone.
    """
    if not location:
        raise InvalidArgument(f"{what} sends us on without saying where")
    target = parse(urljoin(base.url, location), f"where {what} sends us")
    if base.scheme == "https" and target.scheme != "https":
        raise InvalidArgument(f"{what} sends us from https on to plain HTTP at {target.netloc}")
    if hostname(target) != hostname(base):
        check_address(hostname(target), what)
    return target


def check_address(host: str, what: str) -> None:
    """Refuse an address that means something else on every network, such as a cloud's metadata service.

    :raises InvalidArgument: ``host`` is such an address; a name is none.
    """
    address = _address(host)
    if address and any(address in network for network in _LINK_LOCAL if network.version == address.version):
        raise InvalidArgument(f"{what} sends us on to the link-local address {host}")


def is_public_name(host: str) -> bool:
    """Whether a host is a name, and not this host's own."""
    return not is_address(host) and host != "localhost" and not host.endswith(".localhost")


def is_address(host: str) -> bool:
    """Whether a host is an IP address, in any spelling that a resolver takes for one."""
    return _address(host) is not None or re.fullmatch(_NUMBER, host.rpartition(".")[2]) is not None


def is_loopback(host: str) -> bool:
    """Whether a host is surely this one."""
    address = _address(host)
    return address.is_loopback if address else host == "localhost"


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not re.fullmatch(_NUMBER, host.rpartition(".")[2]):
            return None
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))  # 2852039166 and 0xa9fea9fe, too
        except (OSError, ValueError):
            return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
