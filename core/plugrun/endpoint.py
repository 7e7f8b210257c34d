"""A container's place on a network, as the engine stores it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from plugrun.tuples import NamedTuple


class Endpoint(NamedTuple):
    """One endpoint of one container. What the user asked for never changes; ``result`` follows the container's life.

    :param driver: name of the network driver.
    :param api: API version of that driver when the endpoint was made, e.g. ``"1.0"``.
    :param network: id of the network, for a driver that has networks; else ``""``.
    :param name: what users call the network: its name, or the ``--net`` value.
    :param target: see :class:`plugrun.api.NetworkRequest`.
    :param joined: id of the container whose namespace this one shares; ``""`` for none.
    :param number: see :class:`plugrun.api.Attachment`, as for ``ip``, ``ip6``, ``mac`` and ``aliases``.
    :param publishes: whether the container's ports are published here.
    :param result: what the driver's setup answered (:class:`plugrun.api.NetResult`), as JSON, while there is one.
    """

    driver: str
    api: str = ""
    network: str = ""
    name: str = ""
    target: str | None = None
    options: Mapping[str, str] = MappingProxyType({})
    joined: str = ""
    number: int = 0
    ip: str | None = None
    ip6: str | None = None
    mac: str | None = None
    aliases: tuple[str, ...] = ()
    publishes: bool = False
    result: Mapping[str, Any] | None = None

    @property
    def has_names(self) -> bool:
        """Whether it is on a user's network; a driver's own is called as the driver is, and has no names."""
        return bool(self.network) and self.name != self.driver

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that the container has here now, with prefix lengths."""
        return tuple((self.result or {}).get("addresses", ()))
