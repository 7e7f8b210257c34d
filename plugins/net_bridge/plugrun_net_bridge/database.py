"""The SQLite file of the driver: opening, schema, transactions, and what a reboot makes void."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from plugrun.api import Unavailable

_BUSY_SECONDS = 60.0
_VERSION = 1
_SCHEMA = f"""
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, lasting INTEGER NOT NULL) STRICT;
CREATE TABLE networks (
    id TEXT PRIMARY KEY,
    record TEXT NOT NULL,
    next4 INTEGER NOT NULL DEFAULT 0,
    next6 INTEGER NOT NULL DEFAULT 0,
    served INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE endpoints (
    container_id TEXT NOT NULL,
    network_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    ip TEXT,
    ip6 TEXT,
    mac TEXT NOT NULL,
    holder_pid INTEGER NOT NULL,
    holder_start INTEGER NOT NULL,
    ports TEXT NOT NULL,
    lowest INTEGER,
    highest INTEGER,
    PRIMARY KEY (container_id, network_id),
    UNIQUE (container_id, number),
    UNIQUE (network_id, ip),
    UNIQUE (network_id, ip6)
) STRICT;
CREATE INDEX endpoints_published ON endpoints (lowest, highest) WHERE ports != '[]';
PRAGMA user_version = {_VERSION};
"""
_BOOT = "/proc/sys/kernel/random/boot_id"


class Database:
    """One connection, opened when first used, for threads to take turns at."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._turn = threading.RLock()

    def close(self) -> None:
        """Close the connection; using the object again opens a new one."""
        with self._turn:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """Return the rows that a statement answers.

        :raises Unavailable: the file cannot be used.
        """
        with self._turn, self._explained():
            return self._opened().execute(statement, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all in a block, or nothing when an exception leaves it. Other processes and threads wait.

        :raises Unavailable: the file cannot be used.
        """
        with self._turn:
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.execute("ROLLBACK")
                raise
            self.execute("COMMIT")

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            if not self._path.exists():
                self._create()
            connection = _connect(self._path)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != _VERSION:
            raise Unavailable(
                f"{self._path} has schema {version}, this plugrun-net-bridge knows {_VERSION}",
                hint="use the plugrun that wrote it",
            )
        connection.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes back was void after it anyway
        with open(_BOOT, encoding="ascii") as stream:
            _forget_former_boots(connection, stream.read().strip())

    def _create(self) -> None:
        """Make the file complete under another name, and have it appear at once; another process may be first.

        One that is still being turned to write-ahead logging cannot be opened by others at every moment.
        """
        new = self._path.with_name(f"{self._path.name}.{os.urandom(4).hex()}")
        try:
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with contextlib.closing(_connect(new)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(_SCHEMA)
            with contextlib.suppress(FileExistsError):
                os.link(new, self._path)
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be made: {error.strerror}") from error
        finally:
            new.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise Unavailable(f"{self._path} cannot be used: {error}", hint="is its disk full or read-only?") from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _forget_former_boots(connection: sqlite3.Connection, boot: str) -> None:
    """Empty what describes the running system, if that is another one than it was written on."""
    query = "SELECT 1 FROM facts WHERE name = 'boot' AND value = ?"
    if connection.execute(query, (boot,)).fetchone() is not None:
        return
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute(query, (boot,)).fetchone() is None:  # nobody else was first
        for table in ("endpoints", "networks", "facts WHERE NOT lasting"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 - ours
        connection.execute("INSERT INTO facts VALUES ('boot', ?, 0)", (boot,))
    connection.execute("COMMIT")
