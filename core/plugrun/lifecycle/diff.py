"""What a container changed in its root file system since it was made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from plugrun import linux
from plugrun.api import SupportsChanges
from plugrun.changes import compare
from plugrun.lifecycle import trees
from plugrun.lifecycle.pause import paused
from plugrun.rootfd import RootDir
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from plugrun.api import Changed
    from plugrun.changes import Change
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine

# What the engine makes for its own mounts, as far as an image lacks it. In the container other things lie there, so its
# programs can neither use nor change it; docker diff and docker commit leave it out too.
MOUNT_POINTS: Final = frozenset({b"dev", b"proc", b"sys", b"etc/hosts", b"etc/hostname", b"etc/resolv.conf"})


class Changes(NamedTuple):
    """A container's tree, and what is different in it from its image.

    :param root: descriptor of its root directory; closed at the end of the block.
    :param changes: in order, see :func:`plugrun.changes.compare`.
    """

    root: int
    changes: Sequence[Change]


@contextlib.contextmanager
def changes(engine: Engine, record: ContainerRecord, *, pause: bool = True) -> Iterator[Changes]:
    """Have a container's changes and the tree they are in for a block.

    :param pause: whether one that runs is paused while its driver looks for places; what is found after that may be of
        later moments.
    :pre: the caller holds the container's lock.
    :raises NotFound: the driver has no such snapshot.
    :raises FailedPrecondition: see :func:`plugrun.changes.compare`.
    """
    driver = engine.storage(record.storage, record.storage_options)
    still = paused(engine, record) if pause and isinstance(driver, SupportsChanges) else contextlib.nullcontext()
    with trees.own(engine, record) as own:
        with still:
            found = places(engine, record, own)
        with compared(engine, record, own, found) as answer:
            yield answer


@contextlib.contextmanager
def compared(engine: Engine, record: ContainerRecord, own: Path, found: Sequence[Changed] | None) -> Iterator[Changes]:
    """Have the changes in a mounted tree for a block.

    :param own: where ``record.snapshot`` is mounted.
    :param found: what :func:`places` answered.
    """
    with RootDir.at(own) as tree:
        with trees.parent(engine, record) as parent, RootDir.at(parent) as older:
            listed = list(compare(older.fd, tree.fd, found, made=MOUNT_POINTS))
        yield Changes(tree.fd, listed)


def places(engine: Engine, record: ContainerRecord, own: Path) -> Sequence[Changed] | None:
    """Return where a driver says that a container may be different; ``None`` if it cannot say.

    :param own: where ``record.snapshot`` is mounted.
    """
    driver = engine.storage(record.storage, record.storage_options)
    if not isinstance(driver, SupportsChanges):
        return None
    sync(own)
    return list(driver.changes(record.snapshot))


def sync(tree: Path) -> None:
    """Have the file system that is mounted at a place write down what it holds in memory: syncfs(2)."""
    linux.syncfs(str(tree))
