"""Gzip written by every CPU: blocks compressed on their own, joined to one member, as pigz does.

Each block knows the 32 KiB before it as its dictionary and ends on a byte, so that the result is little larger than
that of one thread, and every reader understands it. Source: RFC 1951 and 1952; zlib manual, ``Z_SYNC_FLUSH``.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Final

try:  # as in compression.py
    from zlib_ng import zlib_ng as zlib
except ImportError:
    import zlib  # type: ignore[no-redef]

from plugrun.images.compression import RATIO_FREE

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future, ThreadPoolExecutor

LEVEL: Final = 3  # measured on 200 MiB of /usr: 3 % larger than at 6, in 80 % of the time
_AHEAD: Final = 8  # blocks; not of the number of CPUs, on which the result would depend
_BLOCK: Final = 512 << 10
_WINDOW: Final = 32 << 10
_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time, unknown system
_RATIO: Final = 100  # half of what our own reader accepts of a layer; beyond it blocks are stored as they are


class GzipWriter:
    """Compresses what is written to it, and hands that on in order; the same bytes always give the same result.

    :param out: takes all it is given before it returns; called by the writing thread only.
    """

    def __init__(self, out: Callable[[bytes], object]) -> None:
        self._out = out
        self._pending = bytearray()
        self._window = b""
        self._crc = 0
        self._given = self._taken = 0
        self._pool: ThreadPoolExecutor | None = None
        self._jobs: deque[Future[bytes]] = deque()
        out(_HEADER)

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes; they may change afterwards."""
        self._pending += data
        while len(self._pending) > _BLOCK:  # not before there is more, for the last block ends the stream
            block = bytes(self._pending[:_BLOCK])
            del self._pending[:_BLOCK]
            self._submit(block)

    def close(self) -> None:
        """Write what is left and the end of the stream."""
        block, self._pending = bytes(self._pending), bytearray()
        while self._jobs:
            self._collect()
        self._count(block)
        self._emit(_compress(block, self._window, self._level(), zlib.Z_FINISH))
        self._out(struct.pack("<II", self._crc, self._given & 0xFFFFFFFF))
        self.abandon()

    def abandon(self) -> None:
        """End the threads; calling it twice is fine."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _submit(self, block: bytes) -> None:
        if self._pool is None:  # most layers are one block
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        while len(self._jobs) > _AHEAD:
            self._collect()
        self._count(block)
        self._jobs.append(self._pool.submit(_compress, block, self._window, self._level(), zlib.Z_SYNC_FLUSH))
        self._window = block[-_WINDOW:]

    def _count(self, block: bytes) -> None:
        self._crc = zlib.crc32(block, self._crc)
        self._given += len(block)

    def _level(self) -> int:
        """Return how hard to compress: a layer of nothing but zeros would be refused as a bomb when it is read."""
        full = self._given - len(self._jobs) * _BLOCK > RATIO_FREE // 2
        return 0 if full and self._given > self._taken * _RATIO else LEVEL

    def _collect(self) -> None:
        self._emit(self._jobs.popleft().result())

    def _emit(self, data: bytes) -> None:
        self._taken += len(data)
        self._out(data)


def _compress(block: bytes, window: bytes, level: int, flush: int) -> bytes:
    options: dict[str, Any] = {"zdict": window} if window else {}
    compressor = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, **options)
    return compressor.compress(block) + compressor.flush(flush)
