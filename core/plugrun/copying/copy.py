"""A whole copy: from a container to the host or an archive, and the other way round."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plugrun.copying import paths
from plugrun.copying.ends import End, Target
from plugrun.copying.parents import ArchiveParents, Parents
from plugrun.copying.place import Placer
from plugrun.copying.policy import Policy
from plugrun.copying.view import seen_by
from plugrun.copying.walk import Walk
from plugrun.errors import InvalidArgument
from plugrun.images.entry import printable
from plugrun.rootfd import RootDir
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.container import ContainerRecord
    from plugrun.copying.item import Item
    from plugrun.copying.paths import Side
    from plugrun.copying.tar_out import Write
    from plugrun.engine import Engine

STDIN = 0


class Options(NamedTuple):
    """How to copy.

    :param archive: keep owners; out of a container also set-id bits, file capabilities and device nodes.
    :param follow: a link that the source path ends in.
    """

    archive: bool = False
    follow: bool = False


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a copy has come.

    :param tell: called whenever it changes.
    """

    tell: Callable[[], None]
    items: int = 0
    bytes: int = 0

    def item(self) -> None:
        """Count a file, directory, link or node."""
        self.items += 1
        self.tell()

    def data(self, count: int) -> None:
        """Count bytes."""
        self.bytes += count
        self.tell()


def copy(
    engine: Engine, source: Side, destination: Side, options: Options, progress: Progress, *, write: Write | None = None
) -> None:
    """Copy between a container, which is on one of the two sides, and the host.

    :param write: takes an archive, if the destination is one.
    :post: on an error, what was copied before is complete, and no regular file has its name that is not.
    :raises NotFound: no such container, source, or directory to copy into.
    :raises InvalidArgument: the source cannot go to the destination, or the archive is malformed.
    :raises AlreadyExists: a directory would replace something else, or something else a directory.
    :raises FailedPrecondition: the destination is read-only, or changes too much.
    :raises Unavailable: no space is left.
    """
    name = source.container if source.container is not None else destination.container
    assert name is not None
    record = engine.containers.find(name)
    with seen_by(engine, record, writing=source.container is None) as root, RootDir.at("/") as host:
        work = _Copy(engine, record, options, progress)
        inside, outside = End(root, inside=True), End(host, inside=False)
        if source.is_stream:
            work.extract(root, inside, destination)
        elif write is not None:
            work.pack(inside, source, write)
        elif source.container is not None:
            work.transfer(inside, source, outside, destination, _going_out(options))
        else:
            work.transfer(outside, source, inside, destination, _going_in(options))


def _going_in(options: Options) -> Policy:
    return Policy(owner=None if options.archive else (0, 0), rights=True, devices=True, existing=options.archive)


def _going_out(options: Options) -> Policy:
    """Give what a container made no rights on the host unless somebody asks for it."""
    own = (os.geteuid(), os.getegid())
    kept = options.archive
    return Policy(owner=None if kept else own, rights=kept, devices=kept, existing=kept)


class _Copy:
    """What the three kinds of copy share."""

    def __init__(self, engine: Engine, record: ContainerRecord, options: Options, progress: Progress) -> None:
        self._engine = engine
        self._record = record
        self._options = options
        self._progress = progress

    def transfer(self, start: End, source: Side, end: End, destination: Side, policy: Policy) -> None:
        """Copy a file or a tree from one file system into the other."""
        with contextlib.ExitStack() as opened:
            from_place, to_place = paths.place(source), paths.place(destination)
            found = start.source(from_place, follow=self._options.follow)
            opened.callback(os.close, found)
            mode = os.fstat(found).st_mode
            _check_kind(mode, from_place, devices=policy.devices)
            target = end.target(to_place, from_place, is_directory=stat.S_ISDIR(mode))
            opened.callback(os.close, target.fd)
            walk = Walk(found, start)
            placer = Placer(target.fd, _bytes(target), Parents(target.fd, end), policy, self._progress.data)
            opened.callback(placer.close)
            for item in opened.enter_context(contextlib.closing(walk.items())):
                made = placer.put(item)
                if made is not None and walk.never is None:
                    walk.never = made
                self._progress.item()
        self._report(walk, placer.devices)

    def extract(self, root: RootDir, end: End, destination: Side) -> None:
        """Put an archive from standard input into a directory of the container."""
        from plugrun.copying import tar_in

        place = paths.place(destination)
        with contextlib.ExitStack() as opened:
            target = end.directory(place)
            opened.callback(os.close, target.fd)
            parents = ArchiveParents(target.fd, end, root, place.path)
            placer = Placer(target.fd, b"", parents, _going_in(self._options), self._progress.data)
            opened.callback(placer.close)
            self._each(tar_in.read(STDIN), placer.put)

    def pack(self, start: End, source: Side, write: Write) -> None:
        """Write a file or a tree of the container to an archive, as it is there: owners, set-id bits and nodes too."""
        from plugrun.copying.tar_out import TarWriter

        place = paths.place(source)
        found = start.source(place, follow=self._options.follow)
        try:
            mode = os.fstat(found).st_mode
            _check_kind(mode, place, devices=True)
            walk = Walk(found, start)
            contents = place.contents and stat.S_ISDIR(mode)
            archive = TarWriter(b"" if contents else os.fsencode(place.name), write, self._progress.data)
            self._each(walk.items(), archive.put)
            archive.close()
        finally:
            os.close(found)
        self._report(walk, 0)
        self._some(archive.cut, "became shorter while being copied; zeros stand for the rest")

    def _each(self, items: Generator[Item], put: Callable[[Item], object]) -> None:
        with contextlib.closing(items):  # so that it lets go of its descriptors now, also after an error
            for item in items:
                put(item)
                self._progress.item()

    def _report(self, walk: Walk, devices: int) -> None:
        """Warn about what is not in the copy."""
        self._some(walk.vanished, "vanished, or became something else, while being copied")
        if walk.sockets:
            self._engine.warn(f"{walk.sockets} sockets were not copied: nothing would answer there")
        if devices:
            self._engine.warn(f"{devices} device nodes were not copied to this host; --archive (-a) copies them too")

    def _some(self, found: list[bytes], what: str) -> None:
        if found:
            example = printable(found[0] or b".")
            self._engine.warn(
                f'"{example}" {what}' if len(found) == 1 else f'"{example}" and {len(found) - 1} more {what}'
            )


def _check_kind(mode: int, place: paths.Place, *, devices: bool) -> None:
    if stat.S_ISSOCK(mode):
        raise InvalidArgument(f"{place.said} is a socket, and a copy of it would connect to nothing")
    if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not devices:
        raise InvalidArgument(
            f"{place.said} is a device node, which gives rights on this host", hint="copy it with --archive (-a)"
        )


def _bytes(target: Target) -> bytes:
    return b"" if target.name is None else os.fsencode(target.name)
