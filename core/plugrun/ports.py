"""Published ports, as value and as text; the words are Docker's."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

from plugrun.tuples import NamedTuple

PROTOCOLS = ("tcp", "udp", "sctp")
MAX_PORT = 65535
_EXPOSED = rf"(?P<first>[0-9]{{1,5}})(-(?P<last>[0-9]{{1,5}}))?(/(?P<protocol>{'|'.join(PROTOCOLS)}))?\Z"


class PortMapping(NamedTuple):
    """Ports of a container that are reachable at addresses of the host: ``size`` of them in a row.

    :param container_port: the first one in the container, 1 to 65535.
    :param host_port: the first one on the host; 0 has the driver choose one that is free.
    :param protocol: ``tcp``, ``udp`` or ``sctp``.
    :param host_address: where on the host, an IPv4 or IPv6 address; ``""`` for all its addresses of both kinds.
    """

    container_port: int
    host_port: int = 0
    protocol: str = "tcp"
    host_address: str = ""
    size: int = 1

    @property
    def inside(self) -> str:
        """The ports in the container, such as ``80/tcp`` or ``8000-8009/udp``."""
        return f"{_range(self.container_port, self.size)}/{self.protocol}"

    @property
    def outside(self) -> str:
        """The ports on the host, such as ``0.0.0.0:8080`` or ``[::1]:8000-8009``."""
        address = f"[{self.host_address}]" if ":" in self.host_address else self.host_address or "0.0.0.0"  # noqa: S104
        return f"{address}:{_range(self.host_port, self.size)}"

    def __str__(self) -> str:
        return f"{self.outside}->{self.inside}"


def exposed(text: str) -> tuple[PortMapping, ...]:
    """Return the ports that ``EXPOSE`` or ``--expose`` names, one mapping each, the host's ports left to the driver.

    :param text: ``port``, ``first-last``, either with ``/protocol``.
    :return: none if the text makes no sense: an image may say anything.
    """
    match = re.match(_EXPOSED, text.lower())
    if match is None:
        return ()
    first, last = int(match["first"]), int(match["last"] or match["first"])
    if not 1 <= first <= last <= MAX_PORT:
        return ()
    return tuple(PortMapping(port, 0, match["protocol"] or "tcp") for port in range(first, last + 1))


def settled_as_before(
    wanted: Iterable[PortMapping], settled: Iterable[PortMapping], asked: Container[PortMapping]
) -> tuple[PortMapping, ...]:
    """Give mappings that leave the host's port open the one that was chosen for them before, if one was.

    :param settled: what is published, every host port settled.
    :param asked: what users have asked for: with a port of the host, that was not chosen.
    """
    chosen = {one._replace(host_port=0): one for one in settled if one not in asked}
    return tuple(chosen.get(one, one) for one in wanted)


def _range(first: int, size: int) -> str:
    return str(first) if size == 1 else f"{first}-{first + size - 1}"
