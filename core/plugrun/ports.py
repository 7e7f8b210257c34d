"""Published ports, as value and as text; the words are Docker's."""

from __future__ import annotations

from plugrun.tuples import NamedTuple


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


def _range(first: int, size: int) -> str:
    return str(first) if size == 1 else f"{first}-{first + size - 1}"
