"""Reading container logs as conmon writes them: Kubernetes' CRI format, one record a line.

A record is ``TIME STREAM TAG CONTENT``: an RFC 3339 time, ``stdout`` or ``stderr``, and ``F`` for a piece that ends its
line or ``P`` for one that does not. conmon ends a record at each newline and at most every 8 KiB, so a container can
neither write a record of its own (whatever it prints is content) nor make a reader hold more than one piece.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from plugrun import inotify, processes
from plugrun.errors import NotFound, Unavailable
from plugrun.times import parse_timestamp
from plugrun.tuples import NamedTuple

_LIMIT = 1 << 20  # bytes of one record; what is longer was not written by a monitor
_BLOCK = 1 << 16


class Piece(NamedTuple):
    """A piece of one line of output.

    :param stream: ``"stdout"`` or ``"stderr"``.
    :param time: as the monitor wrote it, RFC 3339 with nanoseconds.
    :param data: the bytes, with the newline if they end the line.
    :param first: whether they begin the line; the pieces of a stream come in order.
    """

    stream: str
    time: str
    data: bytes
    first: bool


class Record(NamedTuple):
    """One line of the file.

    :param ends: whether its content ends a line of output.
    """

    time: str
    stream: str
    ends: bool
    data: bytes


def read(
    path: Path,
    *,
    follow: bool = False,
    ended: int | None = None,
    tail: int | None = None,
    since: int | None = None,
    until: int | None = None,
) -> Iterator[Piece]:
    """Yield a container's output.

    :param follow: at the end wait for more, until ``ended`` or ``until``.
    :param ended: pidfd of the monitor; ``None`` if it is gone.
    :param tail: start with this many lines before the end. A line whose pieces alternate with those of the other
        stream may begin in its middle.
    :param since: nanoseconds since the epoch; lines that began before are left out, as are those after ``until``.
    :raises NotFound: there is no log.
    :raises Unavailable: it cannot be watched.
    """
    open_lines: set[str] = set()
    hidden: set[str] = set()
    for record in _Records(path, tail=tail, ended=ended if follow else None, until=until):
        first = record.stream not in open_lines
        if first and (since is not None or until is not None):
            began = parse_timestamp(record.time) or 0
            if until is not None and began > until:
                return
            (hidden.add if since is not None and began < since else hidden.discard)(record.stream)
        (open_lines.discard if record.ends else open_lines.add)(record.stream)
        if record.stream not in hidden:
            yield Piece(record.stream, record.time, record.data, first)


def parse(line: bytes) -> Record | None:
    """Split a line of the file, with its newline; ``None`` if it is no record."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or parts[1] not in {b"stdout", b"stderr"} or parts[2] not in {b"F", b"P"}:
        return None
    if not (parts[0].isascii() and parts[0][:4].isdigit() and parts[0][4:5] == b"-"):
        return None
    ends = parts[2] == b"F"
    return Record(parts[0].decode("ascii"), parts[1].decode("ascii"), ends, parts[3] if ends else parts[3][:-1])


class _Records:
    """The records of a log, through rotation and to its end; lines that are none are skipped."""

    def __init__(self, path: Path, *, tail: int | None, ended: int | None, until: int | None) -> None:
        self._path = path
        self._ended = ended
        self._until = until
        self._tail = tail
        self._watch = -1

    def __iter__(self) -> Iterator[Record]:
        self._open()
        try:
            if self._tail is not None:
                self._file.seek(tail_offset(self._file, self._tail))
            while True:
                yield from self._available()
                if not self._more():
                    return
        finally:
            self._close()

    def _open(self) -> None:
        if self._ended is not None:  # watched before it is read, so no change falls between the two
            events = inotify.IN_MODIFY | inotify.IN_ATTRIB | inotify.IN_MOVE_SELF
            try:
                self._watch = inotify.watch(str(self._path), events)
            except FileNotFoundError:
                pass  # the next line tells
            except OSError as error:
                hint = "raise fs.inotify.max_user_instances or max_user_watches with sysctl"
                raise Unavailable(f"cannot follow {self._path}: {error.strerror}", hint=hint) from error
        try:
            self._file: BinaryIO = open(self._path, "rb", buffering=_BLOCK)  # noqa: SIM115 - closed by _close
        except FileNotFoundError as error:
            raise NotFound(f"there is no log {self._path}", hint="the container was never started") from error

    def _close(self) -> None:
        self._file.close()
        if self._watch >= 0:
            os.close(self._watch)
            self._watch = -1

    def _available(self) -> Iterator[Record]:
        """Yield what is there now, leaving the file before a record that is not complete."""
        whole = True
        while line := self._file.readline(_LIMIT):
            if not line.endswith(b"\n") and len(line) < _LIMIT:
                self._file.seek(-len(line), os.SEEK_CUR)
                return
            if whole and (record := parse(line)) is not None:
                yield record
            whole = line.endswith(b"\n")

    def _more(self) -> bool:
        """Wait until there may be more; ``False`` if there is not going to be any."""
        if self._rotated():
            return True
        if self._ended is None:
            return False
        poll = select.poll()
        poll.register(self._watch, select.POLLIN)
        poll.register(self._ended, select.POLLIN)
        left = None if self._until is None else (self._until - time.time_ns()) / 1e9
        ready = {descriptor for descriptor, _ in poll.poll(processes.milliseconds(left))}
        if self._watch in ready:
            os.read(self._watch, _BLOCK)
        if not ready or self._ended in ready:
            self._ended = None  # what is there by now is the rest
        return True

    def _rotated(self) -> bool:
        """Go to the beginning when the monitor, at its size limit, has put a new file in place of the full one."""
        here = os.fstat(self._file.fileno())
        if here.st_size < self._file.tell():
            self._file.seek(0)
            return True
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False  # the container has been removed
        if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
            return False
        self._close()
        self._open()
        return True


def tail_offset(file: BinaryIO, lines: int) -> int:
    """Return where the last ``lines`` lines of output begin: reads the file backwards, block by block."""
    position = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return position
    streams: set[str] = set()
    rest = b""
    while position > 0:
        step = min(_BLOCK, position)
        position -= step
        file.seek(position)
        block = file.read(step) + rest
        offset = position + len(block)
        head, newline, body = (b"", b"\n", block) if position == 0 else block.partition(b"\n")
        rest = (head + newline)[:_LIMIT]
        for line in reversed([part + b"\n" for part in body.removesuffix(b"\n").split(b"\n")] if body else []):
            record = parse(line)
            if record is not None and (record.ends or record.stream not in streams):
                if lines == 0:
                    return offset
                lines -= 1
                streams.add(record.stream)
            offset -= len(line)
    return 0
