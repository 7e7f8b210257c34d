"""What the driver remembers: the networks that are up and the endpoints on them, in one SQLite file.

Everything is recorded before it is made, so that whatever a crash leaves is found. It is void after a reboot, which
leaves nothing of it on the machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from plugrun.api import Network, PortMapping, Subnet
from plugrun_net_bridge.database import Database

_COLUMNS = "container_id, network_id, number, name, ip, ip6, mac, holder_pid, holder_start, ports"


class Endpoint(NamedTuple):
    """One container's place on one network, and what it was given there.

    :param name: the container's, for messages.
    :param ip: without prefix, like ``ip6``.
    :param holder_pid: with ``holder_start`` the process that holds the ports' sockets; 0 for none.
    """

    container_id: str
    network_id: str
    number: int
    name: str
    ip: str | None
    ip6: str | None
    mac: str
    holder_pid: int = 0
    holder_start: int = 0
    ports: tuple[PortMapping, ...] = ()


class Store:
    """The networks and endpoints of one state directory."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path)
        self._do = self._database.execute
        self.transaction = self._database.transaction
        self.close = self._database.close
        self._path = path

    def exists(self) -> bool:
        """Whether anything was ever remembered."""
        return self._path.exists()

    # --- Networks -------------------------------------------------------------------------------------------------

    def add_network(self, network: Network) -> None:
        """Remember a network that is going to be up; that it is already is fine."""
        values = (network.id, _encode_network(network))
        self._do("INSERT INTO networks (id, record) VALUES (?, ?) ON CONFLICT DO NOTHING", values)

    def knows(self, network_id: str) -> bool:
        """Whether a network is up."""
        return bool(self._do("SELECT 1 FROM networks WHERE id = ?", (network_id,)))

    def is_served(self, network_id: str) -> bool:
        """Whether our resolver listens on a network."""
        return bool(self._do("SELECT 1 FROM networks WHERE id = ? AND served", (network_id,)))

    def set_served(self, network_id: str) -> None:
        """Remember that our resolver listens on a network."""
        self._do("UPDATE networks SET served = 1 WHERE id = ?", (network_id,))

    def networks(self) -> list[Network]:
        """Return the networks that are up."""
        return [_decode_network(row[0]) for row in self._do("SELECT record FROM networks ORDER BY id")]

    def forget_network(self, network_id: str) -> None:
        """Forget a network; unknown is fine."""
        self._do("DELETE FROM networks WHERE id = ?", (network_id,))

    def next_given(self, network_id: str) -> tuple[int, int]:
        """Return which IPv4 and which IPv6 address to give next, counted from the first that can be given."""
        rows = self._do("SELECT next4, next6 FROM networks WHERE id = ?", (network_id,))
        return (rows[0][0], rows[0][1]) if rows else (0, 0)

    def set_next_given(self, network_id: str, next4: int, next6: int) -> None:
        """Remember them."""
        self._do("UPDATE networks SET next4 = ?, next6 = ? WHERE id = ?", (next4, next6, network_id))

    # --- Endpoints ------------------------------------------------------------------------------------------------

    def add(self, endpoint: Endpoint) -> None:
        """Remember an endpoint that is going to be made.

        :raises sqlite3.IntegrityError: its container is on the network already, or another one has its address.
        """
        values = (*endpoint[:-1], _encode(endpoint.ports), *_reach(endpoint.ports))
        marks = ", ".join("?" * len(values))
        self._do(f"INSERT INTO endpoints ({_COLUMNS}, lowest, highest) VALUES ({marks})", values)  # noqa: S608 - ours

    def set_ports(self, endpoint: Endpoint) -> None:
        """Remember other ports of an endpoint, and who holds them."""
        query = (
            "UPDATE endpoints SET ports = ?, lowest = ?, highest = ?, holder_pid = ?, holder_start = ?"
            " WHERE container_id = ? AND network_id = ?"
        )
        values = (_encode(endpoint.ports), *_reach(endpoint.ports), endpoint.holder_pid, endpoint.holder_start)
        self._do(query, (*values, endpoint.container_id, endpoint.network_id))

    def find(self, container_id: str, network_id: str) -> Endpoint | None:
        """Return the endpoint of a container on a network."""
        rows = self._endpoints("container_id = ? AND network_id = ?", container_id, network_id)
        return rows[0] if rows else None

    def of_container(self, container_id: str) -> list[Endpoint]:
        """Return the endpoints of a container."""
        return self._endpoints("container_id = ?", container_id)

    def of_network(self, network_id: str) -> list[Endpoint]:
        """Return the endpoints on a network."""
        return self._endpoints("network_id = ?", network_id)

    def all(self) -> list[Endpoint]:
        """Return every endpoint."""
        return self._endpoints("1")

    def published(self) -> list[Endpoint]:
        """Return the endpoints that have ports published."""
        return self._endpoints("ports != '[]'")

    def published_near(self, lowest: int, highest: int) -> list[Endpoint]:
        """Return the endpoints that may have ports of the host published in a range: all but those that cannot."""
        return self._endpoints("ports != '[]' AND lowest <= ? AND highest >= ?", highest, lowest)

    def owner(self, network_id: str, address: str) -> Endpoint | None:
        """Return the endpoint that has an address."""
        column = "ip6" if ":" in address else "ip"
        rows = self._endpoints(f"network_id = ? AND {column} = ?", network_id, address)
        return rows[0] if rows else None

    def taken(self, network_id: str) -> set[str]:
        """Return the addresses given to endpoints on a network."""
        rows = self._do("SELECT ip, ip6 FROM endpoints WHERE network_id = ?", (network_id,))
        return {address for row in rows for address in row if address is not None}

    def count(self, network_id: str) -> int:
        """Return the number of endpoints on a network."""
        return int(self._do("SELECT count(*) FROM endpoints WHERE network_id = ?", (network_id,))[0][0])

    def forget(self, container_id: str, network_id: str) -> None:
        """Forget an endpoint; unknown is fine."""
        self._do("DELETE FROM endpoints WHERE container_id = ? AND network_id = ?", (container_id, network_id))

    # --- Facts ----------------------------------------------------------------------------------------------------

    def fact(self, name: str) -> str:
        """Return something remembered under a name, ``""`` if nothing is."""
        rows = self._do("SELECT value FROM facts WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else ""

    def set_fact(self, name: str, value: str, *, lasting: bool = False) -> None:
        """Remember it.

        :param lasting: also over a reboot.
        """
        self._do("INSERT OR REPLACE INTO facts (name, value, lasting) VALUES (?, ?, ?)", (name, value, int(lasting)))

    def _endpoints(self, condition: str, *values: object) -> list[Endpoint]:
        query = f"SELECT {_COLUMNS} FROM endpoints WHERE {condition} ORDER BY container_id, number"  # noqa: S608 - ours
        return [_decode_endpoint(row) for row in self._do(query, values)]


def _encode_network(network: Network) -> str:
    values = {**network._asdict(), "options": dict(network.options), "data": dict(network.data)}
    return json.dumps(values, separators=(",", ":"))


def _decode_network(text: str) -> Network:
    values = json.loads(text)
    return Network(**{**values, "subnets": tuple(Subnet(*one) for one in values["subnets"])})


def _encode(ports: Sequence[PortMapping]) -> str:
    return json.dumps(ports, separators=(",", ":")) if ports else "[]"


def _reach(ports: Sequence[PortMapping]) -> tuple[int | None, int | None]:
    """Return the lowest and the highest of the host's ports, so that others need not look at each."""
    if not ports:
        return None, None
    return min(one.host_port for one in ports), max(one.host_port + one.size - 1 for one in ports)


def _decode_endpoint(row: Sequence[Any]) -> Endpoint:
    *plain, ports = row
    found = Endpoint(*plain)
    return found if ports == "[]" else found._replace(ports=tuple(PortMapping(*one) for one in json.loads(ports)))
