"""A forward-only stream as the 512-byte blocks of a tar archive: counted, bounded, never over-read."""

from __future__ import annotations

from typing import BinaryIO, Final

from plugrun.errors import DriverError, InvalidArgument

BLOCK: Final = 512
_CHUNK: Final = 1 << 20


class Source:
    """Reads a stream in large chunks, hands it out in pieces, and counts.

    :param limit: bytes after which the stream is refused.
    """

    __slots__ = ("_buffer", "_left", "_limit", "_position", "_stream")

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        self._limit = self._left = limit
        self._buffer = b""
        self._position = 0

    def _fill(self) -> bool:
        """Replace the used-up buffer by the next chunk; false at the end of the stream.

        :raises InvalidArgument: the stream is larger than allowed.
        :raises DriverError: it cannot be read.
        """
        try:
            self._buffer = self._stream.read(_CHUNK)
        except OSError as error:
            raise DriverError(f"cannot read the archive: {error}") from error
        self._position = 0
        self._left -= len(self._buffer)
        if self._left < 0:
            raise InvalidArgument(f"archive is larger than {self._limit} bytes uncompressed")
        return bool(self._buffer)

    def block(self) -> bytes | None:
        """Return the next block, or ``None`` when the stream ends just before it.

        :raises InvalidArgument: the stream ends inside the block, or is larger than allowed.
        """
        position = self._position
        block = self._buffer[position : position + BLOCK]
        if len(block) == BLOCK:
            self._position = position + BLOCK
            return block
        if not block and not self._fill():
            return None
        return self.exactly(BLOCK)

    def exactly(self, count: int) -> bytes:
        """Return the next ``count`` bytes; the caller has bounded ``count``.

        :raises InvalidArgument: the stream ends before, or is larger than allowed.
        """
        pieces = []
        while count:
            piece = self.take(count)
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def take(self, most: int) -> memoryview:
        """Return between one and ``most`` bytes, as many as are at hand.

        :pre: ``most`` is positive.
        :raises InvalidArgument: the stream has ended, or is larger than allowed.
        """
        if self.ended():
            raise InvalidArgument("archive is truncated: it ends in the middle of an entry")
        start = self._position
        self._position = min(start + most, len(self._buffer))
        return memoryview(self._buffer)[start : self._position]

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes.

        :raises InvalidArgument: the stream ends before, or is larger than allowed.
        """
        while count:
            count -= len(self.take(count))

    def ended(self) -> bool:
        """Whether the stream has nothing more.

        :raises InvalidArgument: it is larger than allowed.
        """
        return self._position == len(self._buffer) and not self._fill()

    def drain(self) -> None:
        """Read to the end of the stream, so that whoever hashes it sees every byte.

        :raises InvalidArgument: the stream is larger than allowed.
        """
        while self._fill():
            pass


class Data:
    """The stored bytes of one entry.

    :param size: bytes in the archive, padding not counted.
    """

    __slots__ = ("_padding", "_source", "left")

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self._padding = -size % BLOCK
        self.left = size

    def take(self, most: int) -> memoryview:
        """Return between one and ``most`` bytes; see :meth:`Source.take`.

        :pre: ``most`` is positive and not more than ``left``.
        """
        piece = self._source.take(most)
        self.left -= len(piece)
        return piece

    def close(self) -> None:
        """Pass over what nobody read, and the padding, which umoci leaves out after the last entry."""
        self._source.skip(self.left)
        while self._padding and not self._source.ended():
            self._padding -= len(self._source.take(self._padding))
        self.left = self._padding = 0
