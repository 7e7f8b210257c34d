"""Byte sources that check what they deliver: a digest holds for what was read, or reading fails."""

from __future__ import annotations

import errno
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from plugrun.errors import InvalidArgument
from plugrun.images import digest as digests
from plugrun.images.compression import Compression, decompress, detect_in

if TYPE_CHECKING:
    import threading

CHUNK = 1 << 20


class Verified(io.RawIOBase):
    """Passes bytes on while hashing them, and fails at the end when they are not what they should be.

    :param expected: their digest; ``None`` to find it out.
    :param size: how many bytes there must be; ``None`` when unknown.
    :param what: what is read, for messages.
    """

    def __init__(
        self, raw: io.RawIOBase | io.BufferedIOBase, what: str, *, expected: str | None, size: int | None
    ) -> None:
        self._raw = raw
        self._what = what
        self._expected = expected
        self._size = size
        self._algorithm = digests.algorithm(expected) if expected else "sha256"
        self._hash = digests.hasher(self._algorithm)
        self.length = 0

    @property
    def digest(self) -> str:
        """The digest of what was read so far."""
        return f"{self._algorithm}:{self._hash.hexdigest()}"

    def readable(self) -> bool:
        """Return ``True``."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer as far as there are bytes; return how many, 0 at the end."""
        count = cast("int", self._raw.readinto(buffer))
        if count:
            self._hash.update(memoryview(buffer)[:count])
            self.length += count
            if self._size is not None and self.length > self._size:
                raise InvalidArgument(f"{self._what} is longer than the {self._size} bytes it should have")
        elif len(buffer):
            self._check()
        return count

    def close(self) -> None:
        """Close what is read from, too."""
        if not self.closed:
            self._raw.close()
        super().close()

    def _check(self) -> None:
        if self._size is not None and self.length != self._size:
            raise InvalidArgument(f"{self._what} is cut short: {self.length} of {self._size} bytes")
        if self._expected is not None and self.digest != self._expected:
            raise InvalidArgument(f"{self._what} is corrupt: its digest is {self.digest}, not {self._expected}")


class Tee(io.RawIOBase):
    """Passes bytes on while writing them to an open file, which it neither owns nor syncs."""

    def __init__(self, raw: io.RawIOBase | io.BufferedIOBase, descriptor: int) -> None:
        self._raw = raw
        self._descriptor = descriptor

    def readable(self) -> bool:
        """Return ``True``."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer as far as there are bytes; return how many, 0 at the end."""
        count = cast("int", self._raw.readinto(buffer))
        done = 0
        while done < count:
            done += os.write(self._descriptor, memoryview(buffer)[done:count])
        return count

    def close(self) -> None:
        """Close what is read from, too."""
        if not self.closed:
            self._raw.close()
        super().close()


class Stoppable(io.RawIOBase):
    """Passes bytes on until somebody else wants no more of them; what it reads from stays the caller's.

    :param stop: set to make the next read fail.
    """

    def __init__(self, raw: io.RawIOBase | io.BufferedIOBase | BinaryIO, stop: threading.Event) -> None:
        self._raw = raw
        self._stop = stop

    def readable(self) -> bool:
        """Return ``True``."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer as far as there are bytes; return how many, 0 at the end.

        :raises OSError: nobody wants them (``ECANCELED``).
        """
        if self._stop.is_set():
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))  # not EINTR: a buffer would try again
        return cast("int", self._raw.readinto(buffer))  # type: ignore[union-attr]


@dataclass(frozen=True, slots=True)
class LayerStream:
    """A layer being read.

    :param stream: the uncompressed bytes; reading them to the end checks everything that was expected.
    :param blob: what has been read of the bytes as they are stored.
    :param content: what has been read of the uncompressed bytes; the same object when nothing is compressed.
    """

    stream: io.BufferedReader
    blob: Verified
    content: Verified
    compression: Compression

    def drain(self) -> None:
        """Read to the end.

        :raises InvalidArgument: the layer is not what it should be.
        """
        drain(self.stream)


def drain(stream: io.BufferedIOBase | BinaryIO) -> None:
    """Read to the end, which is where a verified source fails if something is wrong."""
    buffer = bytearray(CHUNK)
    while stream.readinto(buffer):  # type: ignore[union-attr]
        pass


def open_layer(
    raw: io.RawIOBase, what: str, *, digest: str | None, size: int | None, diff_id: str | None
) -> LayerStream:
    """Return a layer's uncompressed bytes, checked at their end.

    :param raw: the layer as it is stored; closed with the stream.
    :param what: the layer, for messages.
    :param digest: digest of the stored bytes, as is ``size``; ``None`` when unknown.
    :param diff_id: digest of the uncompressed bytes; ``None`` when unknown.
    :raises InvalidArgument: the compression is none that a layer may have.
    """
    source, compression = _begin(raw, what)
    if compression is Compression.NONE:
        blob = content = Verified(source, what, expected=digest or diff_id, size=size)
        if None not in {digest, diff_id} and digest != diff_id:
            content = Verified(blob, what, expected=diff_id, size=None)
    else:
        blob = Verified(source, what, expected=digest, size=size)
        unpacked = decompress(blob, compression, what)
        content = Verified(unpacked, f"the content of {what}", expected=diff_id, size=None)
    return LayerStream(io.BufferedReader(content, CHUNK), blob, content, compression)


def open_content(raw: io.RawIOBase, what: str, *, diff_id: str | None) -> io.BufferedReader:
    """Return the uncompressed bytes of a layer, checked at their end, where the source checks the stored ones itself.

    Parameters and errors are those of :func:`open_layer`.
    """
    source, compression = _begin(raw, what)
    unpacked = source if compression is Compression.NONE else decompress(source, compression, what)
    return io.BufferedReader(Verified(unpacked, f"the content of {what}", expected=diff_id, size=None), CHUNK)


def _begin(raw: io.RawIOBase, what: str) -> tuple[io.BufferedReader[Any], Compression]:
    """Return a layer as it is stored, buffered, and how it is compressed; closed if that cannot be."""
    source: io.BufferedReader[Any] = io.BufferedReader(raw, CHUNK)
    try:
        return source, _layer_compression(source, what)
    except BaseException:  # also what cut short a layer that is still on its way
        source.close()
        raise


def _layer_compression(source: io.BufferedReader[Any], what: str) -> Compression:
    found = detect_in(source, what)
    if found is Compression.XZ:
        raise InvalidArgument(f"{what}: xz compression is not for layers")
    return found
