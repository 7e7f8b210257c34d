"""What every refusal has in common: its exit code, one clear line, and an engine that is as it was before."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from images import archives

if TYPE_CHECKING:
    from fixtures.engine import Cli, Result

# What may change though nothing was made: the log of SQLite, the index of who is loading, a driver's empty directories.
CHURN = ("state.db", "reserve", "network")


def assert_refused(result: Result, code: int, *words: str) -> None:
    """Insist on the exit code and on one printable line that has the words."""
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.code == code, result.stderr
    assert result.stderr.startswith("plugrun: ")
    assert result.stderr.rstrip("\n").isprintable()
    assert "Traceback" not in result.stderr
    assert "internal error" not in result.stderr
    for word in words:
        assert word in result.stderr, f"{word!r} is not in {result.stderr!r}"


def made(plugrun: Cli) -> set[str]:
    """Everything that a command may have made: containers, files of both roots, images with their content."""
    root, run_root = plugrun.roots.root, plugrun.roots.run_root
    return {
        *(f"container {name}" for name in containers(root / "state.db")),
        *(f"root/{path}" for path in files(root)),
        *(f"runroot/{path}" for path in files(run_root)),
        *(f"image {path} {content}" for path, content in archives.tree(root / "images").items()),
    }


def containers(database: Path) -> list[str]:
    """Return every container's name, as ``ps -a`` would, without the time that a program takes to start."""
    if not database.exists():
        return []
    with tempfile.TemporaryDirectory() as place:  # reading needs room for a log
        for path in database.parent.glob("state.db*"):
            shutil.copy(path, place)
        with closing(sqlite3.connect(Path(place, database.name))) as connection:
            return [row[0] for row in connection.execute("SELECT name FROM containers")]


def files(root: Path) -> Iterator[str]:
    """Yield every path below a root, but not what is inside of layers."""
    for directory, names, others in os.walk(root):
        if directory.endswith("/fs"):
            names.clear()
            continue
        for name in (*names, *others):
            path = str(Path(directory, name).relative_to(root))
            if not path.startswith(CHURN):
                yield path


@contextmanager
def nothing_made(plugrun: Cli) -> Iterator[None]:
    """Insist that the block leaves the engine as it was."""
    before = made(plugrun)
    yield
    changed = made(plugrun) ^ before
    assert not changed, "\n".join(sorted(changed))
