"""Container snapshots in the database, and the keys that are being made or removed.

A row comes before its snapshot and goes after it. Until it is ``ready``, and again from the moment in which the
snapshot is to go, the row only says that a key may be there: whatever a crash leaves is found by it and removed by
``reconcile``.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from plugrun.errors import AlreadyExists, NotFound
from plugrun.state.codec import encode
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.container import ContainerRecord
    from plugrun.state.database import Database

_COLUMNS = "key, container_id, name, storage, created, ready"


class Saved(NamedTuple):
    """One snapshot of a container.

    :param key: of an active snapshot in the storage driver ``storage``, which nothing writes to.
    :param name: what the user calls it, once among the container's; that of :func:`passing` for one without a name.
    :param created: seconds since the epoch.
    :param ready: whether it is there, whole.
    """

    key: str
    container_id: str
    name: str
    storage: str
    created: float
    ready: bool = False


def passing(key: str, container_id: str, storage: str) -> Saved:
    """Return a row for a key that will be the container's own, or was: under a name that no user can give."""
    return Saved(key, container_id, f"/{key}", storage, time.time())


class SnapshotStore:
    """Every container's snapshots in one engine."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, saved: Saved, container: str) -> None:
        """Note that a snapshot is about to be made.

        :param container: the container's name, for the message.
        :raises AlreadyExists: the container has another one of this name.
        """
        try:
            with self._database.transaction() as connection:
                connection.execute(f"INSERT INTO snapshots ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", saved)  # noqa: S608
        except sqlite3.IntegrityError as error:
            raise AlreadyExists(
                f"container {container} has a snapshot {saved.name!r} already",
                hint=f"choose another name, or remove that one: plugrun snapshot rm {container} {saved.name}",
            ) from error

    def made(self, key: str) -> None:
        """Note, durably, that a snapshot is there."""
        with self._database.transaction(durable=True) as connection:
            connection.execute("UPDATE snapshots SET ready = 1 WHERE key = ?", (key,))

    def unmade(self, key: str) -> None:
        """Note that a snapshot is about to be removed: from now on it is none any more."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE snapshots SET ready = 0, name = '/' || key WHERE key = ?", (key,))

    def forget(self, key: str) -> None:
        """Forget a key that is gone; absent is fine."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM snapshots WHERE key = ?", (key,))

    def switch(self, record: ContainerRecord, replaced: Iterable[tuple[Saved, Saved]]) -> None:
        """Have a container, and its snapshots with it, be in other keys from now on, durably and all at once.

        :param record: the container's, with its new key.
        :param replaced: keys until now and their successors, which have been added; afterwards the former are passing.
        """
        with self._database.transaction(durable=True) as connection:
            connection.execute("UPDATE containers SET record = ? WHERE id = ?", (encode(record), record.id))
            for old, new in replaced:
                connection.execute("DELETE FROM snapshots WHERE key = ?", (new.key,))
                connection.execute(
                    "UPDATE snapshots SET key = ?, storage = ? WHERE key = ?", (new.key, new.storage, old.key)
                )
                connection.execute(
                    f"INSERT INTO snapshots ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608 - names of columns
                    passing(old.key, old.container_id, old.storage),
                )

    def find(self, record: ContainerRecord, name: str) -> Saved:
        """Return the snapshot of a container that is called ``name``.

        :raises NotFound: there is none; the hint lists those there are.
        """
        found = self.of(record.id)
        for saved in found:
            if saved.name == name:
                return saved
        names = ", ".join(saved.name for saved in found)
        raise NotFound(
            f"container {record.name} has no snapshot {name!r}",
            hint=f"it has: {names}" if names else f"it has none; make one with: plugrun snapshot create {record.name}",
        )

    def of(self, container_id: str) -> list[Saved]:
        """Return the snapshots of a container, the oldest first."""
        return self._query("container_id = ? AND ready", container_id)

    def all(self) -> list[Saved]:
        """Return the snapshots of all containers, the oldest first."""
        return self._query("ready")

    def unready(self) -> list[Saved]:
        """Return the keys that are being made or removed, or were when a process died."""
        return self._query("NOT ready")

    def keys(self, container_id: str) -> list[Saved]:
        """Return every key that a container may have beside its own."""
        return self._query("container_id = ?", container_id)

    def known(self) -> set[str]:
        """Return every key that the engine has given out and not yet forgotten, volumes' and containers' own too."""
        rows = self._database.query(
            "SELECT key FROM snapshots UNION ALL SELECT key FROM volumes"
            " UNION ALL SELECT coalesce(json_extract(record, '$.snapshot'), id) FROM containers"
        )
        return {row[0] for row in rows}

    def _query(self, condition: str, *values: str) -> list[Saved]:
        statement = f"SELECT {_COLUMNS} FROM snapshots WHERE {condition} ORDER BY created, name"  # noqa: S608 - ours
        rows = self._database.query(statement, values)
        return [Saved(*row)._replace(ready=bool(row[-1])) for row in rows]
