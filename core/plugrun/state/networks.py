"""Networks in the database. Which containers are on one is told by their own records: the two cannot disagree."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from plugrun.api import Network, Subnet
from plugrun.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.state.database import Database

_USERS = """
SELECT json_extract(endpoint.value, '$.network'), containers.id, containers.name
FROM containers, json_each(containers.record, '$.endpoints') AS endpoint ORDER BY containers.name
"""


class NetworkRecord(NamedTuple):
    """A network, and what only the engine knows of it.

    :param created: seconds since the epoch.
    """

    network: Network
    labels: Mapping[str, str] = MappingProxyType({})
    created: float = 0.0


class NetworkStore:
    """Every network of one engine."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, record: NetworkRecord) -> None:
        """Record a network, durably.

        :raises AlreadyExists: the name is taken.
        """
        network = record.network
        row = (network.name, network.id, network.driver, _encode(record))
        try:
            with self._database.transaction(durable=True) as connection:
                connection.execute("INSERT INTO networks (name, id, driver, record) VALUES (?, ?, ?, ?)", row)
        except sqlite3.IntegrityError as error:
            raise AlreadyExists(
                f"there is a network {network.name} already", hint="choose another name, or see: plugrun network ls"
            ) from error

    def remove(self, network: Network) -> None:
        """Forget a network; absent is fine.

        :raises FailedPrecondition: a container is on it, even one that does not run; names all that are.
        """
        with self._database.transaction() as connection:
            rows = connection.execute(_USERS).fetchall()
            users = [user for on, _, user in rows if on == network.id]
            if users:
                raise FailedPrecondition(
                    f"network {network.name} is in use by {', '.join(users)}",
                    hint=f"take them off it first: plugrun network disconnect {network.name} {users[0]}",
                )
            connection.execute("DELETE FROM networks WHERE id = ?", (network.id,))

    def get(self, network_id: str) -> NetworkRecord | None:
        """Return the network with exactly this id, if there is one."""
        return next(iter(self._query("id = ?", network_id)), None)

    def named(self, name: str) -> NetworkRecord | None:
        """Return the network of exactly this name, if there is one."""
        return next(iter(self._query("name = ?", name)), None) if name.isprintable() else None

    def find(self, name_or_id: str) -> NetworkRecord:
        """Return the network with this name, id, or unique beginning of an id.

        :raises NotFound: there is none.
        :raises InvalidArgument: the beginning fits several.
        """
        if (found := self.named(name_or_id)) is not None:
            return found
        digits = name_or_id if name_or_id and not set(name_or_id) - set("0123456789abcdef") else "-"
        matches = self._query("id >= ? AND id < ?", digits, digits + "g")
        if len(matches) > 1:
            raise InvalidArgument(
                f"{name_or_id!r} is the beginning of {len(matches)} network ids", hint="give more digits"
            )
        if not matches:
            raise NotFound(f"no such network: {name_or_id}", hint="see all of them with: plugrun network ls")
        return matches[0]

    def all(self) -> list[NetworkRecord]:
        """Return every network, by name."""
        return self._query("1")

    def users(self) -> dict[str, dict[str, str]]:
        """Return the names of the containers that are on each network, by network id and their own id."""
        found: dict[str, dict[str, str]] = {}
        for network, container, name in self._database.query(_USERS):
            if network:
                found.setdefault(network, {})[container] = name
        return found

    def _query(self, condition: str, *values: str) -> list[NetworkRecord]:
        rows = self._database.query(f"SELECT record FROM networks WHERE {condition} ORDER BY name", values)  # noqa: S608
        return [_decode(row[0]) for row in rows]


def _encode(record: NetworkRecord) -> str:
    network = record.network
    raw = {
        **network._asdict(),
        "subnets": [subnet._asdict() for subnet in network.subnets],
        "options": dict(network.options),
        "data": dict(network.data),
    }
    return json.dumps({"network": raw, "labels": dict(record.labels), "created": record.created}, separators=(",", ":"))


def _decode(text: str) -> NetworkRecord:
    """Return the record that :func:`_encode` wrote; keys of a newer plugrun are ignored."""
    raw = json.loads(text)
    values = _known(Network._fields, raw["network"])
    values["subnets"] = tuple(Subnet(**_known(Subnet._fields, one)) for one in values["subnets"])
    return NetworkRecord(Network(**values), raw["labels"], raw["created"])


def _known(fields: tuple[str, ...], raw: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if name in fields}
