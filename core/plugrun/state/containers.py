"""Container records in the database.

The status column doubles as the intent log: ``creating``, ``starting`` and ``removing`` are written before the work
they name, so whatever a crash leaves is found by status and finished or undone by ``reconcile``.
"""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

from plugrun.errors import AlreadyExists, InvalidArgument, NotFound
from plugrun.state.codec import decode, encode

if TYPE_CHECKING:
    from plugrun.container import ContainerRecord, Status
    from plugrun.state.database import Database

_HEX = r"[0-9a-f]{1,64}\Z"
_IS_RUNNING_ON = """
status = 'running' AND EXISTS (
    SELECT 1 FROM json_each(containers.record, '$.endpoints') AS one WHERE json_extract(one.value, '$.network') = ?
)
"""
_USERS = """
SELECT image_id AS image, name FROM containers UNION SELECT json_extract(mount.value, '$.image_id'), containers.name
FROM containers, json_each(containers.record, '$.config.images') AS mount
"""


class ContainerStore:
    """Every container of one engine."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, record: ContainerRecord) -> None:
        """Insert a new record, durably.

        :raises AlreadyExists: the name is taken.
        """
        try:
            with self._database.transaction(durable=True) as connection:
                connection.execute(
                    "INSERT INTO containers (id, name, status, image_id, record) VALUES (?, ?, ?, ?, ?)",
                    (record.id, record.name, record.status, record.config.image_id, encode(record)),
                )
        except sqlite3.IntegrityError as error:
            owner = self.find(record.name).short_id
            raise AlreadyExists(
                f"the name {record.name!r} is taken by container {owner}",
                hint=f"choose another name, or remove that one: plugrun rm {record.name}",
            ) from error

    def update(self, record: ContainerRecord) -> None:
        """Overwrite the record with this id; one that is gone stays gone."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE containers SET name = ?, status = ?, record = ? WHERE id = ?",
                (record.name, record.status, encode(record), record.id),
            )

    def ended(self, record: ContainerRecord) -> None:
        """Store an ended container together with its exit code, which outlives the container itself."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE containers SET status = ?, record = ? WHERE id = ?",
                (record.status, encode(record), record.id),
            )
            connection.execute("INSERT OR REPLACE INTO exits (id, code) VALUES (?, ?)", (record.id, record.exit_code))

    def delete(self, container_id: str) -> None:
        """Forget a container; absent is fine."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM containers WHERE id = ?", (container_id,))

    def get(self, container_id: str) -> ContainerRecord | None:
        """Return the container with exactly this id, if there is one."""
        rows = self._database.query("SELECT record FROM containers WHERE id = ?", (container_id,))
        return decode(rows[0][0]) if rows else None

    def last_exit(self, container_id: str) -> int | None:
        """Return the exit code a container last ended with, also when it has been removed since; None if unknown."""
        rows = self._database.query("SELECT code FROM exits WHERE id = ?", (container_id,))
        return rows[0][0] if rows else None

    def find(self, name_or_id: str) -> ContainerRecord:
        """Return the container with this name, id, or unique beginning of an id, in that order.

        :raises NotFound: there is none.
        :raises InvalidArgument: the beginning fits several.
        """
        query = "SELECT record FROM containers WHERE name = ? OR id = ? ORDER BY name = ? DESC LIMIT 1"
        known = name_or_id.isprintable()  # bytes that are no UTF-8, for one, cannot even be asked for
        rows = self._database.query(query, (name_or_id, name_or_id, name_or_id)) if known else []
        if rows:
            return decode(rows[0][0])
        matches = self._starting_with(name_or_id) if re.match(_HEX, name_or_id) else []
        if len(matches) > 1:
            raise InvalidArgument(
                f"{name_or_id!r} is the beginning of {len(matches)} container ids", hint="give more digits"
            )
        if not matches:
            raise NotFound(f"no such container: {name_or_id}", hint="see all of them with: plugrun ps -a")
        return matches[0]

    def all(self, *statuses: Status) -> list[ContainerRecord]:
        """Return every container, or those in one of ``statuses``, newest first."""
        query, values = "SELECT record FROM containers", tuple(statuses)
        if values:
            query += f" WHERE status IN ({', '.join('?' * len(values))})"
        records = [decode(row[0]) for row in self._database.query(query, values)]
        return sorted(records, key=lambda record: record.created, reverse=True)

    def joined_to(self, container_id: str) -> list[ContainerRecord]:
        """Return the containers that share a container's network namespace, running or not."""
        query = "SELECT record FROM containers WHERE json_extract(record, '$.endpoints[0].joined') = ?"
        return [decode(row[0]) for row in self._database.query(query, (container_id,))]

    def running_on(self, network_id: str) -> list[ContainerRecord]:
        """Return the running containers that are on a network, by name."""
        query = f"SELECT record FROM containers WHERE {_IS_RUNNING_ON} ORDER BY name"  # noqa: S608 - ours
        return [decode(row[0]) for row in self._database.query(query, (network_id,))]

    def using_image(self, image_id: str) -> list[str]:
        """Return the names of the containers made from an image, or that mount it."""
        query = f"SELECT name FROM ({_USERS}) WHERE image = ? ORDER BY name"  # noqa: S608 - ours
        return [row[0] for row in self._database.query(query, (image_id,))]

    def images_in_use(self) -> dict[str, int]:
        """Return the ids of all images that containers are made from or mount, with the number of containers."""
        query = f"SELECT image, count(*) FROM ({_USERS}) GROUP BY image"  # noqa: S608 - ours
        return dict(self._database.query(query))

    def _starting_with(self, prefix: str) -> list[ContainerRecord]:
        query = "SELECT record FROM containers WHERE id >= ? AND id < ? LIMIT 2"
        rows = self._database.query(query, (prefix, prefix + "g"))  # 'g' sorts after every hex digit
        return [decode(row[0]) for row in rows]
