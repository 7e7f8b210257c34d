"""Blobs on their way into the store: files that grow, outlive an interrupt, and are read while they grow.

A blob is written to ``downloads/<algorithm>-<hex>`` inside the store, under a lock on that file, so that two processes
never fetch the same bytes. What is there already, after an interrupt or a crash, is hashed and continued. Only once
its digest is right does a blob leave here, as a link in the working directory of a load (see :mod:`ingest`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from plugrun import locks, paths
from plugrun.errors import Interrupted, InvalidArgument, PlugrunError, Unavailable
from plugrun.images import digest as digests
from plugrun.images.following import Following
from plugrun.images.patience import Patience
from plugrun.waiting import LOOK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_CHUNK = 1 << 20
_LOCK_POLL = 0.02  # seconds
_MAX_AGE = 7 * 86_400.0  # seconds after which nobody comes back for the rest of a blob


class Body(Protocol):
    """A blob's bytes as they come.

    :param offset: where in the blob they begin; not always where was asked for.
    """

    offset: int

    def readinto(self, buffer: Any, /) -> int | None:
        """Fill the buffer as far as there are bytes; return how many, 0 at the end."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class Cancelled(PlugrunError):
    """Nobody wants the blob any more."""


def area(root: Path) -> Path:
    """Return the directory of blobs on their way into the store at ``root``."""
    return root / "downloads"


def remove_old(root: Path, *, max_age: float = _MAX_AGE) -> int:
    """Remove what nobody came back for.

    :param max_age: seconds since it grew last; 0 removes all that no process is fetching now.
    :return: bytes freed.
    """
    freed = 0
    for path, status in _remains(root):
        if time.time() - status.st_mtime < max_age:
            continue
        if _remove(path):
            freed += status.st_size
    return freed


def _remove(path: Path) -> bool:
    """Remove a file; return whether that was done, as long as no process uses it."""
    if (descriptor := locks.try_acquire(path)) is None:
        return False
    path.unlink(missing_ok=True)
    os.close(descriptor)
    return True


def sizes(root: Path) -> list[int]:
    """Return the bytes that there are of each blob on its way."""
    return [status.st_size for _, status in _remains(root)]


def _remains(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    with contextlib.suppress(FileNotFoundError):  # nothing has ever been fetched
        for name in os.listdir(area(root)):
            with contextlib.suppress(FileNotFoundError):  # complete meanwhile
                yield area(root) / name, os.stat(area(root) / name)


class Download:
    """One blob being fetched: one thread calls :meth:`fetch`, others read what is there so far.

    :param root: the content store.
    :param what: the blob, for messages.
    :param stop: set to make everything here end soon.
    """

    def __init__(self, root: Path, digest: str, size: int, what: str, stop: threading.Event) -> None:
        self.digest = digest
        self.size = size
        self.what = what
        self.resumed = 0  # bytes that were here before
        self._path = area(root) / digest.replace(":", "-")
        self._stop = stop
        self._changed = threading.Condition()
        self._available = 0
        self._complete = False
        self._failure: BaseException | None = None
        self._descriptor = -1

    @property
    def is_complete(self) -> bool:
        """Whether all is here, and verified."""
        return self._complete

    @property
    def available(self) -> int:
        """Bytes that can be read now."""
        return self._available

    def fetch(
        self,
        open_at: Callable[[int], Body],
        keep: Callable[[Path], None],
        find: Callable[[], Path | None] = lambda: None,
    ) -> None:
        """Fetch what is missing, and check the digest of all.

        :param open_at: returns the blob's bytes from an offset on; called again when it broke off.
        :param keep: called with the verified file while it is locked, to link it.
        :param find: returns the verified blob if it has come into the store while another process was waited for.
        :raises InvalidArgument: the bytes are others than they should be; they are removed.
        :raises Unavailable: the registry does not deliver, or the disk is full.
        """
        try:
            self._claim()
            if not self._take(find):
                self._transfer(open_at)
                os.fsync(self._descriptor)
                keep(self._path)
            self._settle(None)
        except BaseException as error:
            failure = self._explained(error)
            self._settle(failure)
            raise failure from error
        finally:
            if self._descriptor >= 0:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def open(self) -> Following:
        """Return the blob from its beginning; reading waits for what is not here yet.

        Its end comes only when the digest was right, otherwise ``read`` raises what :meth:`fetch` does.
        """
        return Following(self._wait_beyond)

    def cancel(self) -> None:
        """Make all who wait for the blob end at once, and :meth:`fetch` soon."""
        with self._changed:
            if not self._complete and self._failure is None:
                self._failure = Cancelled(f"fetching {self.what} was given up")
            self._changed.notify_all()

    def close(self) -> None:
        """Let go of the file; what was fetched of a blob that is not complete stays for the next time."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def forget(self) -> None:
        """Remove the file, after its blob has been published; another process that uses it now does so later."""
        if self._path.exists():  # else the lock would be made anew, for which a full disk has no room
            _remove(self._path)

    def _claim(self) -> None:
        """Wait until no other process fetches this blob, and have a file that is nobody else's to write to."""
        while True:
            if self._stop.is_set():
                raise Cancelled(f"fetching {self.what} was given up")
            paths.ensure_private(self._path.parent)
            descriptor = locks.try_acquire(self._path)
            if descriptor is None:
                self._stop.wait(_LOCK_POLL)
                continue
            status = os.fstat(descriptor)
            if status.st_nlink == 1 or status.st_size == self.size:
                self._descriptor = descriptor
                return
            self._path.unlink()  # a verified blob, which others have kept: its true size is another than is wanted
            os.close(descriptor)

    def _take(self, find: Callable[[], Path | None]) -> bool:
        """Use a blob that is in the store already, instead of the new file here."""
        if os.fstat(self._descriptor).st_size or (found := find()) is None:
            return False
        self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = os.open(found, os.O_RDONLY | os.O_CLOEXEC)
        self._advance(self.size)
        return True

    def _transfer(self, open_at: Callable[[int], Body]) -> None:
        hashed = digests.hasher(digests.algorithm(self.digest))
        buffer = memoryview(bytearray(_CHUNK))
        self._take_over(hashed, buffer)
        patience = Patience(self._stop)
        while self._available < self.size:
            before, started = self._available, time.monotonic()
            try:
                self._copy(open_at(before), hashed, buffer)
            except Interrupted:
                if not patience.is_left(self._available - before, time.monotonic() - started):
                    raise
        actual = f"{digests.algorithm(self.digest)}:{hashed.hexdigest()}"
        if actual != self.digest:
            raise InvalidArgument(f"{self.what} is corrupt: its digest is {actual}, not {self.digest}")

    def _take_over(self, hashed: Any, buffer: memoryview) -> None:
        """Hash what is here already."""
        if os.fstat(self._descriptor).st_size > self.size:
            os.ftruncate(self._descriptor, 0)
        while count := os.preadv(self._descriptor, [buffer], self._available):
            hashed.update(buffer[:count])
            self.resumed += count
            self._advance(count)

    def _copy(self, body: Body, hashed: Any, buffer: memoryview) -> None:
        """Append a body; what it repeats of what is here is skipped."""
        with contextlib.closing(body):
            self._append(body, hashed, buffer)

    def _append(self, body: Body, hashed: Any, buffer: memoryview) -> None:
        skip = self._available - body.offset
        if skip < 0:
            raise Unavailable(f"{self.what}: the registry sends it from byte {body.offset}, not {self._available}")
        while count := body.readinto(buffer) or 0:
            if self._stop.is_set():
                raise Cancelled(f"fetching {self.what} was given up")
            chunk = buffer[min(skip, count) : count]
            skip -= count - len(chunk)
            if self._available + len(chunk) > self.size:
                raise InvalidArgument(f"{self.what} is longer than the {self.size} bytes it should have")
            done = 0
            while done < len(chunk):
                done += os.pwrite(self._descriptor, chunk[done:], self._available + done)
            hashed.update(chunk)
            self._advance(len(chunk))
            if self._available == self.size:
                return

    def _advance(self, count: int) -> None:
        with self._changed:
            self._available += count
            self._changed.notify_all()

    def _settle(self, failure: BaseException | None) -> None:
        with self._changed:
            self._complete, self._failure = failure is None, failure
            self._changed.notify_all()

    def _explained(self, error: BaseException) -> BaseException:
        """Return what readers see, and leave nothing that cannot be continued."""
        if isinstance(error, InvalidArgument):
            self._path.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            return error
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            self._path.unlink(missing_ok=True)  # its owner needs the room for something else
            return Unavailable(
                f"no space left on the disk of {self._path.parent} for {self.what}",
                hint="free some space there, or use another --root",
            )
        return Unavailable(f"cannot write {self.what} to {self._path.parent}: {error.strerror or error}")

    def _wait_beyond(self, position: int, unwanted: threading.Event) -> tuple[int, int]:
        """Wait until there is more than ``position`` bytes; return a descriptor and how many there are."""
        with self._changed:
            while self._available <= position and not self._complete and self._failure is None:
                if unwanted.is_set():
                    raise Cancelled(f"reading {self.what} was given up")
                self._changed.wait(LOOK)
            if self._failure is not None:
                raise self._failure
            return self._descriptor, self._available
