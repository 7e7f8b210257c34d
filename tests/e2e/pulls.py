"""What every pull has in common that does not succeed: one clear line, and a store that has nothing unverified."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from images import archives

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures.engine import Cli, Result


def fresh(**changes: Any) -> archives.Parts:
    """An image of two layers that no store has yet, so that all of it must be fetched."""
    marks = secrets.token_bytes(3000)
    items = [archives.layer({"first": marks + b"1"}), archives.layer({"second": marks + b"2"})]
    gzip = {"packed": archives.gzipped, "layer_type": f"{archives.OCI_LAYER}+gzip"}
    return archives.Parts(layers=items, **gzip | changes)


def assert_failed(result: Result, *words: str, code: int = 1) -> None:
    """Insist on an exit code and on one line that says why; lines before it may say that it was tried again."""
    assert result.code == code, result.stderr
    *before, last = result.stderr.splitlines()
    assert result.stderr.endswith("\n")
    assert all(line.isprintable() for line in (*before, last)), result.stderr
    for text in ("Traceback", "internal error"):
        assert text not in result.stderr
    assert last.startswith("plugrun: "), result.stderr
    assert not any(line.startswith("plugrun: ") and "; try " not in line for line in before), result.stderr
    for word in words:
        assert word in last, f"{word!r} is not in {last!r}"


def kept(plugrun: Cli) -> set[str]:
    """Every file of the store but locks and what has come of layers: blobs, work that someone left, the index."""
    tree = archives.tree(plugrun.roots.root / "images")
    ignored = ("downloads/", "lock", "ingest/lock")
    return {f"{path} {mode}" for path, mode in tree.items() if "sha256:" in mode and not path.startswith(ignored)}


def remains(plugrun: Cli, parts: archives.Parts) -> dict[str, bytes]:
    """Return what has come of an image's layers and waits for the next pull, by digest."""
    found = {}
    for digest in (archives.sha256(parts.packed(layer)) for layer in parts.layers):
        path = plugrun.roots.root / "images/downloads" / digest.replace(":", "-")
        if path.exists():
            found[digest] = path.read_bytes()
    return found


def assert_only_beginnings(plugrun: Cli, parts: archives.Parts) -> None:
    """Insist that what has come of layers is theirs, as far as it goes."""
    layers = {archives.sha256(data): data for data in map(parts.packed, parts.layers)}
    for digest, beginning in remains(plugrun, parts).items():
        assert layers[digest].startswith(beginning), digest


def assert_all_there(plugrun: Cli, parts: archives.Parts) -> None:
    """Insist that an image is complete, true to its digests, and that nothing of its way here is left."""
    assert not list(falsely_named(plugrun))
    assert not remains(plugrun, parts)
    have = {path.name for path in (plugrun.roots.root / "images/blobs/sha256").iterdir()}
    wanted = [parts.config_bytes, *map(parts.packed, parts.layers)]
    assert have >= {archives.sha256(data).partition(":")[2] for data in wanted}


def falsely_named(plugrun: Cli) -> Iterator[Path]:
    """Yield every blob of the store whose digest is not its name."""
    for algorithm in ("sha256", "sha512"):
        for path in (plugrun.roots.root / "images/blobs" / algorithm).glob("*"):
            if hashlib.new(algorithm, path.read_bytes()).hexdigest() != path.name:
                yield path
