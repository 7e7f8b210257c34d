"""The SQLite file: opening, schema, transactions.

Write-ahead logging lets readers go on while one process writes. Writers take their lock at once (``BEGIN
IMMEDIATE``), so that two never meet half-way through. Sources: https://sqlite.org/wal.html, https://sqlite.org/lang_transaction.html.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from plugrun.errors import Unavailable
from plugrun.paths import sync_directory

_BUSY_SECONDS = 60.0
_EXITS_KEPT = 1000

# Each brings the schema to its number, from the one before; what has been released is never changed.
_MIGRATIONS = (
    f"""
CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    image_id TEXT NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX containers_status ON containers (status);
CREATE TABLE exits (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    code INTEGER
) STRICT;
CREATE TRIGGER exits_bounded AFTER INSERT ON exits BEGIN
    DELETE FROM exits WHERE sequence <= NEW.sequence - {_EXITS_KEPT};
END;
""",  # noqa: S608 - only our own numbers go in
    """
CREATE TABLE snapshots (
    key TEXT PRIMARY KEY,
    container_id TEXT NOT NULL,
    name TEXT NOT NULL,
    storage TEXT NOT NULL,
    created REAL NOT NULL,
    ready INTEGER NOT NULL,
    UNIQUE (container_id, name)
) STRICT;
CREATE INDEX snapshots_unready ON snapshots (created) WHERE NOT ready;
CREATE TABLE volumes (
    name TEXT PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    storage TEXT NOT NULL,
    ready INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX volumes_unready ON volumes (name) WHERE NOT ready;
""",
    """
CREATE TABLE networks (
    name TEXT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    driver TEXT NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX containers_joined ON containers (json_extract(record, '$.endpoints[0].joined'));
""",
)
SCHEMA_VERSION = len(_MIGRATIONS)


class Database:
    """One connection, opened when first used and closed by :meth:`close`.

    :param room: entered while something is written; makes sure that there is room on the disk.
    """

    def __init__(
        self, path: Path, *, room: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    ) -> None:
        self._path = path
        self._room = room
        self._connection: sqlite3.Connection | None = None

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection; the first use opens the file and brings its schema up to date.

        :raises Unavailable: the file cannot be opened, is damaged, or is from a newer plugrun.
        """
        if self._connection is None:
            with self._explained(), self._room():
                self._connection = self._open()
        return self._connection

    def close(self) -> None:
        """Close the connection; using the object again opens a new one."""
        if self._connection is not None:
            with self._room():  # the last one to close moves the log into the database
                self._connection.close()
            self._connection = None

    def query(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """Return the rows of a ``SELECT``.

        :raises Unavailable: as :attr:`connection`.
        """
        connection = self.connection
        with self._explained():
            return connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Run a write transaction: all of it, or nothing when an exception leaves the block.

        :param durable: whether it must survive a power failure from the moment it returns. Others survive the death of
            any process, and after a power failure are there in order, up to some point.
        """
        connection = self.connection
        with self._explained(), self._room():
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
        if not self._path.exists():
            self._create()
        connection = self._connect(self._path)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            self._check_version(version)
            if version < SCHEMA_VERSION:
                _migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    def _check_version(self, version: int) -> None:
        if version > SCHEMA_VERSION:
            raise Unavailable(
                f"{self._path} has schema {version}, this plugrun knows {SCHEMA_VERSION}",
                hint="use the newer plugrun that wrote it",
            )
        if version == 0:
            raise Unavailable(f"{self._path} is no database of plugrun", hint="move it away")

    def _create(self) -> None:
        """Make the database complete under another name, and have it appear at once; another process may be first.

        One that is still being turned to write-ahead logging cannot be opened by others at every moment.
        """
        new = self._path.with_name(f"{self._path.name}.{os.urandom(4).hex()}")
        try:
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with contextlib.closing(self._connect(new)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                _migrate(connection)
            with contextlib.suppress(FileExistsError):
                os.link(new, self._path)
        except OSError as error:
            raise Unavailable(f"the state database {self._path} cannot be made: {error.strerror}") from error
        finally:
            new.unlink(missing_ok=True)
        sync_directory(self._path.parent)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise Unavailable(
                f"the state database {self._path} cannot be used: {error}",
                hint="is its disk full or read-only? 'plugrun doctor' shows more",
            ) from error


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, in one transaction; another process may be doing the same."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for script in _MIGRATIONS[version:]:
            for statement in _statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {max(version, SCHEMA_VERSION)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    """Split a script; executescript() would commit our transaction first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
