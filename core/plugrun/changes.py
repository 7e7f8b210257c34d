"""What is different in a container's tree from the tree it began as.

The same for every storage driver: both trees are looked at as they are mounted. A driver that knows where something may
have changed (:class:`plugrun.api.SupportsChanges`) only says where to look, and the answer is the same.
"""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from plugrun import contents, descent
from plugrun.descent import Cursor, Identity, identity
from plugrun.images.metadata import read_xattrs
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.api import Changed

_DEVICES: Final = (stat.S_IFCHR, stat.S_IFBLK)


class Kind(enum.StrEnum):
    """What became of a path; the letters are those of ``docker diff``."""

    ADDED = "A"
    MODIFIED = "C"
    DELETED = "D"


class Change(NamedTuple):
    """One path that is different.

    :param path: relative to the root, without a leading ``/``; empty for the root directory itself.
    """

    kind: Kind
    path: bytes


def compare(
    parent: int, own: int, places: Iterable[Changed] | None = None, *, made: Collection[bytes] = ()
) -> Iterator[Change]:
    """Find what is different in one tree from another, ordered by path component, directories before what is in them.

    A path is different if its type, owner, permissions, device number, link target, size, time of modification,
    content, or one of the extended attributes that layers carry is. The size of a directory says nothing. A directory
    in which something is different counts as modified itself, up to the root, and so does every name of a file that has
    another name which is different. Of a directory that is gone there is one change; one that is new has all in it.

    :param parent: the tree it began as; a descriptor of its root directory, ``O_PATH`` is enough, as for ``own``.
    :param places: where something may be different; ``None`` to look everywhere.
    :param made: paths at which an empty file or directory that is in ``own`` only is no difference, and the time which
        that gave to the directory it is in is none.
    :raises FailedPrecondition: a path is too long for any program, or the trees are being rearranged.
    :raises OSError: one cannot be read.
    """
    found = _Comparison(parent, own, made).run(_EVERYWHERE if places is None else _tree(places))
    if found is None:  # a driver that did not name all names of a file
        found = _Comparison(parent, own, made).run(_EVERYWHERE)
    assert found is not None
    return iter(found)


class _Node(dict[bytes, "_Node"]):
    """A directory to look into: by name where to look below, or everywhere."""

    whole = False


_EVERYWHERE: Final = _Node()
_EVERYWHERE.whole = True


def _tree(places: Iterable[Changed]) -> _Node:
    root = _Node()
    for place in places:
        node = root
        for name in filter(None, place.path.split(b"/")):
            below = node.get(name)
            if below is None:
                below = node[name] = _Node()
            node = below
        node.whole |= place.whole
    return root


class _Level:
    """A directory on the way down.

    :ivar prefix: of the paths in it.
    :ivar names: what is still to be looked at, the last one first.
    :ivar both: whether the older tree has this directory too.
    :ivar first: where the changes in it begin.
    :ivar differs: whether it is different itself; ``touched`` whether its time is.
    :ivar made: whether something was passed over in it.
    """

    __slots__ = ("both", "differs", "first", "made", "names", "node", "prefix", "touched")

    def __init__(self, prefix: bytes, node: _Node, first: int, *, both: bool) -> None:
        self.prefix, self.node, self.first, self.both = prefix, node, first, both
        self.names: list[bytes] = []
        self.differs = self.touched = self.made = False


class _Comparison:
    """One walk through both trees."""

    def __init__(self, parent: int, own: int, made: Collection[bytes]) -> None:
        self._parent, self._own, self._made = parent, own, made
        self._found: list[Change] = []
        self._names = _Names()
        self._levels: list[_Level] = []

    def run(self, wanted: _Node) -> list[Change] | None:
        """Return the changes; ``None`` when the places left out names of a file that is different."""
        with Cursor(self._parent) as self._old, Cursor(self._own) as self._new:
            self._begin(b"", wanted, (os.fstat(self._old.fd), os.fstat(self._new.fd)))
            while self._levels:
                level = self._levels[-1]
                if level.names:
                    self._look(level, level.names.pop())
                else:
                    self._end(self._levels.pop())
        if not wanted.whole and not self._names.complete():
            return None
        return self._with_all_names()

    def _look(self, level: _Level, name: bytes) -> None:
        path = descent.check_length(level.prefix + name)
        old = descent.status(self._old.fd, name) if level.both else None
        new = descent.status(self._new.fd, name)
        if new is None:
            if old is not None:
                self._found.append(Change(Kind.DELETED, path))
        elif old is not None and stat.S_ISDIR(old.st_mode) and stat.S_ISDIR(new.st_mode):
            self._enter(level, name, path, (old, new))
        elif old is None and path in self._made and self._is_empty(name, new):
            level.made = True
        elif old is None or self._differs(name, old, new):
            self._found.append(Change(Kind.ADDED if old is None else Kind.MODIFIED, path))
            if stat.S_ISDIR(new.st_mode):
                self._enter(level, name, path, None)
            else:
                self._names.note(path, new, changed=True)
        else:
            self._names.note(path, new, changed=False)

    # --- Directories --------------------------------------------------------------------------------------------------

    def _enter(
        self, level: _Level, name: bytes, path: bytes, both: tuple[os.stat_result, os.stat_result] | None
    ) -> None:
        """Go into a directory of both trees, or of the newer one."""
        try:
            self._new.down(name)
        except OSError as error:
            if error.errno not in descent.GONE:
                raise
            return  # it went away while we looked
        if both is not None:
            self._old.down(name)
        node = _EVERYWHERE if level.node.whole or both is None else level.node.get(name, _EVERYWHERE)
        self._begin(path + b"/", node, both)

    def _begin(self, prefix: bytes, node: _Node, both: tuple[os.stat_result, os.stat_result] | None) -> None:
        level = _Level(prefix, node, len(self._found), both=both is not None)
        self._levels.append(level)
        if both is not None:
            old, new = both
            level.touched = old.st_mtime_ns != new.st_mtime_ns
            level.differs = _facts(old) != _facts(new) or read_xattrs(self._old.fd) != read_xattrs(self._new.fd)
        if node.whole:
            here = set(self._new.list())
            level.names = sorted(here.union(self._old.list()) if both is not None else here, reverse=True)
        else:
            level.names = sorted(node, reverse=True)

    def _end(self, level: _Level) -> None:
        if level.both:
            changed = len(self._found) > level.first
            if changed or level.differs or (level.touched and not level.made):
                self._found.insert(level.first, Change(Kind.MODIFIED, level.prefix[:-1]))
        if self._levels:
            self._new.up()
            if level.both:
                self._old.up()

    def _is_empty(self, name: bytes, status: os.stat_result) -> bool:
        if stat.S_ISREG(status.st_mode):
            return not status.st_size
        if not stat.S_ISDIR(status.st_mode):
            return False
        self._new.down(name)
        try:
            return not self._new.list()
        finally:
            self._new.up()

    # --- Everything else ----------------------------------------------------------------------------------------------

    def _differs(self, name: bytes, old: os.stat_result, new: os.stat_result) -> bool:
        """Compare two entries of which at most one is a directory."""
        if _facts(old) != _facts(new) or old.st_mtime_ns != new.st_mtime_ns:
            return True
        before, after = (descent.beside(tree.fd, name) for tree in (self._old, self._new))
        try:
            if stat.S_ISLNK(old.st_mode) and os.readlink(before) != os.readlink(after):
                return True
            if read_xattrs(before) != read_xattrs(after):
                return True
            return (
                stat.S_ISREG(old.st_mode)
                and identity(old) != identity(new)
                and not self._same_content(name, old.st_size)
            )
        except OSError as error:
            if error.errno not in descent.GONE:
                raise
            return True  # it is something else by now

    def _same_content(self, name: bytes, size: int) -> bool:
        """Compare two files of equal size; a program may have put the time back."""
        if not size:
            return True
        old = descent.open_regular(self._old.fd, name)
        try:
            new = descent.open_regular(self._new.fd, name)
            try:
                return contents.equal(old, new, size)
            finally:
                os.close(new)
        finally:
            os.close(old)

    def _with_all_names(self) -> list[Change]:
        """Add the other names of files that are different, and what they are in."""
        missing = self._names.unchanged_names()
        if not missing:
            return self._found
        kinds = {change.path: change.kind for change in self._found}
        for path in missing:
            while path not in kinds:
                kinds[path] = Kind.MODIFIED
                path = path.rpartition(b"/")[0]  # noqa: PLW2901
        return sorted(map(Change, kinds.values(), kinds.keys()), key=lambda change: change.path.split(b"/"))


class _Names:
    """Files with several names in the newer tree: those of one that is different are all to be told of."""

    def __init__(self) -> None:
        self._links: dict[Identity, int] = {}
        self._seen: dict[Identity, int] = {}
        self._unchanged: dict[Identity, list[bytes]] = {}

    def note(self, path: bytes, status: os.stat_result, *, changed: bool) -> None:
        if status.st_nlink < 2:
            return
        key = identity(status)
        self._seen[key] = self._seen.get(key, 0) + 1
        if changed:
            self._links[key] = status.st_nlink
        else:
            self._unchanged.setdefault(key, []).append(path)

    def complete(self) -> bool:
        """Whether every name of every file that is different was seen."""
        return all(self._seen[key] >= count for key, count in self._links.items())

    def unchanged_names(self) -> list[bytes]:
        return [path for key in self._links for path in self._unchanged.get(key, ())]


def _facts(status: os.stat_result) -> tuple[int, ...]:
    """Return what can be told from the status, but for the time."""
    kind = stat.S_IFMT(status.st_mode)
    return (
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_rdev if kind in _DEVICES else 0,
        0 if kind == stat.S_IFDIR else status.st_size,
    )
