"""Volumes in the database.

A row comes before the volume's snapshot and goes after it. Until it is ``ready``, and again from the moment in which
the volume is to go, the row only says that a snapshot may be there: whatever a crash leaves is found by it and removed
by ``reconcile``. Which containers use a volume is told by their own records, so that the two can never disagree.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from plugrun.errors import AlreadyExists, FailedPrecondition, NotFound
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.state.database import Database

_USERS = """
SELECT json_extract(mount.value, '$.name'), containers.id, containers.name
FROM containers, json_each(containers.record, '$.config.volumes') AS mount ORDER BY containers.name
"""


class Volume(NamedTuple):
    """One volume: an active snapshot without a parent.

    :param key: of the snapshot in the storage driver ``storage``.
    :param options: as the user gave them, ``size`` among them.
    :param created: seconds since the epoch.
    :param anonymous: nobody named it: it goes with the container that it was made for, and when others are pruned.
    """

    name: str
    key: str
    storage: str
    options: Mapping[str, str] = MappingProxyType({})
    labels: Mapping[str, str] = MappingProxyType({})
    created: float = 0.0
    anonymous: bool = False


class VolumeStore:
    """Every volume of one engine."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, volume: Volume) -> None:
        """Note, durably, that a volume is about to be made.

        :raises AlreadyExists: the name is taken, perhaps by one that a crash left.
        """
        row = (volume.name, volume.key, volume.storage, 0, _encode(volume))
        try:
            with self._database.transaction(durable=True) as connection:
                connection.execute(
                    "INSERT INTO volumes (name, key, storage, ready, record) VALUES (?, ?, ?, ?, ?)", row
                )
        except sqlite3.IntegrityError as error:
            raise AlreadyExists(f"there is a volume {volume.name} already") from error

    def made(self, name: str) -> None:
        """Note, durably, that a volume is there."""
        with self._database.transaction(durable=True) as connection:
            connection.execute("UPDATE volumes SET ready = 1 WHERE name = ?", (name,))

    def unmade(self, name: str, *, but: str = "") -> None:
        """Note that a volume is about to be removed: from now on it is none any more.

        :param but: id of a container that may use it.
        :raises FailedPrecondition: a container uses it, even one that does not run; names all that do.
        """
        with self._database.transaction() as connection:
            rows = connection.execute(_USERS).fetchall()
            users = sorted({user for volume, container, user in rows if volume == name and container != but})
            if users:
                raise FailedPrecondition(
                    f"volume {name} is in use by {', '.join(users)}",
                    hint=f"remove what uses it first: plugrun rm {' '.join(users)}",
                )
            connection.execute("UPDATE volumes SET ready = 0 WHERE name = ?", (name,))

    def forget(self, name: str) -> None:
        """Forget a volume that is gone; absent is fine."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM volumes WHERE name = ?", (name,))

    def get(self, name: str) -> Volume | None:
        """Return the volume of this name, if there is one."""
        return next(iter(self._query("name = ? AND ready", name)), None)

    def find(self, name: str) -> Volume:
        """Return the volume of this name.

        :raises NotFound: there is none.
        """
        found = self.get(name) if name.isprintable() else None
        if found is None:
            raise NotFound(f"no such volume: {name}", hint="see all of them with: plugrun volume ls")
        return found

    def all(self) -> list[Volume]:
        """Return every volume, by name."""
        return self._query("ready")

    def left(self, name: str) -> Volume | None:
        """Return what is being made or removed under a name, or was when a process died."""
        return next(iter(self._query("name = ? AND NOT ready", name)), None)

    def users(self) -> dict[str, dict[str, str]]:
        """Return the names of the containers that use each volume, by their ids."""
        found: dict[str, dict[str, str]] = {}
        for volume, container, name in self._database.query(_USERS):
            found.setdefault(volume, {})[container] = name
        return found

    def _query(self, condition: str, *values: str) -> list[Volume]:
        rows = self._database.query(f"SELECT record FROM volumes WHERE {condition} ORDER BY name", values)  # noqa: S608
        return [_decode(row[0]) for row in rows]


def _encode(volume: Volume) -> str:
    raw = {**volume._asdict(), "options": dict(volume.options), "labels": dict(volume.labels)}
    return json.dumps(raw, separators=(",", ":"))


def _decode(text: str) -> Volume:
    """Return the volume that :func:`_encode` wrote; keys of a newer plugrun are ignored."""
    raw = json.loads(text)
    return Volume(**{name: value for name, value in raw.items() if name in Volume._fields})
