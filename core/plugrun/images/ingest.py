"""How bytes get into the content store: verified beside it, then linked in all together.

Each load works in a directory of its own below ``ingest/``, on the store's file system. Blobs that are in the store
already are linked there too, so that a removal meanwhile cannot take them away. A crash leaves only that directory,
and perhaps blobs that no image names; the next load removes both.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plugrun import paths
from plugrun.errors import InvalidArgument, Unavailable
from plugrun.images import layout
from plugrun.images.digest import hasher
from plugrun.images.document import MAX_SIZE
from plugrun.images.streams import CHUNK, LayerStream, Tee, Verified, open_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Blob:
    """Verified bytes.

    :param size: how many.
    """

    digest: str
    size: int


class BlobWriter:
    """A blob whose bytes are made here."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._hash = hasher("sha256")
        self._size = 0

    @property
    def blob(self) -> Blob:
        """What has been written."""
        return Blob(f"sha256:{self._hash.hexdigest()}", self._size)

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes, all of them.

        :raises OSError: the store is full.
        """
        left = memoryview(data)
        self._hash.update(left)
        self._size += len(left)
        while left:
            left = left[os.write(self._descriptor, left) :]


class Ingest:
    """The working directory of one load, with blobs named by digest; get one from :func:`session`."""

    def __init__(self, root: Path, directory: Path) -> None:
        self._root = root
        self._directory = directory

    def pin(self, digest: str, size: int) -> bool:
        """Take over a blob that the store has already, verified anew; ``False`` when it has none, or a damaged one.

        :param digest: checked.
        """
        own = self.path(digest)
        try:
            os.link(layout.blob_path(self._root, digest), own)
        except FileExistsError:  # verified when it came here
            return own.stat().st_size == size
        except FileNotFoundError:
            return False
        try:
            with Verified(_open(own), "a blob", expected=digest, size=size) as stored:
                _drain(stored)
        except InvalidArgument:
            os.unlink(own)  # publish() puts the new one in its place
            return False
        return True

    def add(
        self, raw: io.RawIOBase | io.BufferedIOBase, what: str, *, digest: str | None = None, size: int | None = None
    ) -> Blob:
        """Copy bytes here, hashing them on the way.

        :param raw: where they come from; closed.
        :param what: what they are, for messages.
        :param digest: what their digest must be, ``None`` to find it out; as ``size`` in bytes.
        :raises InvalidArgument: they are something else.
        """
        path = self._directory / f"new-{os.urandom(8).hex()}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with Verified(Tee(raw, descriptor), what, expected=digest, size=size) as source:
                _drain(source)
                added = Blob(source.digest, source.length)
        finally:
            os.close(descriptor)
        path.rename(self.path(added.digest))
        return added

    @contextlib.contextmanager
    def writing(self) -> Iterator[BlobWriter]:
        """Have a new blob to be written for a block; it is kept if the block succeeds."""
        path = self._directory / f"new-{os.urandom(8).hex()}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            writer = BlobWriter(descriptor)
            yield writer
        finally:
            os.close(descriptor)
        path.rename(self.path(writer.blob.digest))

    def adopt(self, path: Path, digest: str) -> None:
        """Take over a file of the store's file system that holds a blob.

        :pre: it has been verified, and does not change any more.
        """
        with contextlib.suppress(FileExistsError):
            os.link(path, self.path(digest))

    def add_bytes(self, data: bytes) -> Blob:
        """Add a document."""
        return self.add(io.BytesIO(data), "a document")

    def read(self, blob: Blob, what: str) -> bytes:
        """Return the content of a document.

        :raises InvalidArgument: it is too large for one.
        """
        if blob.size > MAX_SIZE:
            raise InvalidArgument(f"{what} is larger than {MAX_SIZE >> 20} MiB")
        return self.path(blob.digest).read_bytes()

    def chunks(self, digest: str, size: int) -> Iterator[memoryview]:
        """Yield the bytes of a blob that is here, at most ``size`` at once; each view is good until the next."""
        buffer = bytearray(size)
        with _open(self.path(digest)) as raw:
            while count := raw.readinto(buffer):
                yield memoryview(buffer)[:count]

    def open_layer(self, blob: Blob, what: str, *, diff_id: str | None) -> LayerStream:
        """Return the uncompressed bytes of a blob; parameters and errors as :func:`streams.open_layer`."""
        return open_layer(_open(self.path(blob.digest)), what, digest=blob.digest, size=blob.size, diff_id=diff_id)

    def sync(self, digests: Iterable[str]) -> None:
        """Make blobs survive power loss: fsync(2)."""
        for digest in digests:
            descriptor = os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def publish(self, digests: Iterable[str]) -> None:
        """Link blobs into the store. One that is there already and was not pinned may be damaged, so it is replaced.

        :pre: they are synced; the caller holds the store's lock and names them in the index next.
        """
        directories = set()
        for digest in digests:
            own, target = self.path(digest), layout.blob_path(self._root, digest)
            try:
                os.link(own, target)
            except FileExistsError:
                if not own.samefile(target):
                    own.replace(target)
            directories.add(target.parent)
        for directory in directories:
            paths.sync_directory(directory)

    def path(self, digest: str) -> Path:
        """Return where a blob is, or would be, until the session ends."""
        return self._directory / digest.replace(":", "-")


@contextlib.contextmanager
def session(root: Path, *, recover: Callable[[], None]) -> Iterator[Ingest]:
    """Open a working directory for one load, and remove it afterwards.

    :param recover: called when an earlier load was killed, while no other is running.
    :raises Unavailable: the store cannot be written, or is full.
    """
    try:
        layout.ensure(root)
        area = root / "ingest"
        paths.ensure_private(area)
        with _shared(area, recover):
            directory = area / os.urandom(8).hex()
            directory.mkdir(mode=0o700)
            try:
                yield Ingest(root, directory)
            finally:
                _remove(directory)
    except OSError as error:
        raise Unavailable(f"cannot write to the image store {root}: {error.strerror or error}") from error


@contextlib.contextmanager
def _shared(area: Path, recover: Callable[[], None]) -> Iterator[None]:
    """Hold the lock that all loads share. Whoever gets it alone knows that everything here was left behind."""
    descriptor = os.open(area / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left = [path for path in area.iterdir() if path.name != "lock"]
            if left:
                recover()
            for directory in left:
                _remove(directory)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> io.FileIO:
    return io.FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


def _drain(source: Verified) -> None:
    """Read to the end, which is where a verified source fails if something is wrong."""
    buffer = bytearray(CHUNK)
    while source.readinto(buffer):
        pass


def _remove(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
