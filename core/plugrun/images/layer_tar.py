"""Changes of a container's tree into an image layer.

Source: OCI image specification, layer.md, "Change Types" and "Representing Changes".
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from plugrun.changes import Kind
from plugrun.errors import FailedPrecondition
from plugrun.images import tar_out
from plugrun.images.entry import printable
from plugrun.images.tree_tar import TreeTar
from plugrun.images.whiteout import PREFIX, is_mark

if TYPE_CHECKING:
    from plugrun.changes import Change
    from plugrun.images.tree_tar import Write


def write(root: int, changes: Iterable[Change], out: Write) -> None:
    """Write the uncompressed tar of a layer that makes a tree of the one it began as.

    Each change comes after the directories it is in, with what they are now; so the layer can be unpacked alone.

    :param root: the tree as it is now; a descriptor of its root directory, ``O_PATH`` is enough.
    :param changes: as :func:`plugrun.changes.compare` yields them.
    :param out: takes all it is given before it returns.
    :raises FailedPrecondition: a layer cannot hold one of them, or the tree is being rearranged.
    :raises DriverError: something in the tree cannot be read.
    """
    with TreeTar(root, out, check=_check) as archive:
        written: set[bytes] = set()
        for change in changes:
            _check_name(change.path)
            missing = [above for above in _above(change.path) if above not in written]
            for path in missing:
                archive.add(path)
            written.update(missing)
            if change.kind is Kind.DELETED:
                directory, slash, name = change.path.rpartition(b"/")
                archive.write(tar_out.member(directory + slash + PREFIX + name, tar_out.REGULAR, tar_out.Owned(mode=0)))
            elif change.path not in written:
                archive.add(change.path)
                written.add(change.path)
        archive.end()


def _above(path: bytes) -> list[bytes]:
    """Return the directories that a path is in, the root first."""
    if not path:
        return []
    parts = path.split(b"/")
    return [b"/".join(parts[:count]) for count in range(len(parts))]


def _check_name(path: bytes) -> None:
    """Refuse a name that means a removal in a layer; also where one was removed, which nothing can say."""
    if PREFIX in path and any(part.startswith(PREFIX) for part in path.split(b"/")):
        raise FailedPrecondition(
            f'"/{printable(path)}" cannot be in an image: names that begin with {PREFIX.decode()} mean a removal there',
            hint="rename or remove it in the container, or use plugrun export",
        )


def _check(path: bytes, status: os.stat_result) -> None:
    if is_mark(status):
        raise FailedPrecondition(
            f'"/{printable(path)}" cannot be in an image: a character device 0:0 means a removal there',
            hint="remove it in the container, or use plugrun export",
        )
