"""Byte sources between threads: a file read while another thread writes it, and a stream read ahead."""

from __future__ import annotations

import contextlib
import io
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from plugrun.waiting import LOOK

_CHUNK = 512 << 10
_AHEAD = 4  # chunks


class Following(io.RawIOBase):
    """Reads a file behind the thread that writes it.

    ``position`` is how many bytes have been read.

    :param wait_beyond: waits until the file is longer than a position, or complete, or the event is set; returns a
        descriptor and its length; raises what went wrong.
    """

    def __init__(self, wait_beyond: Callable[[int, threading.Event], tuple[int, int]]) -> None:
        self._wait_beyond = wait_beyond
        self._unwanted = threading.Event()
        self.position = 0

    def give_up(self) -> None:
        """Make another thread's ``read`` fail soon, and every one after it."""
        self._unwanted.set()

    def readable(self) -> bool:
        """Return ``True``."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer as far as there are bytes; return how many, 0 at the end."""
        descriptor, length = self._wait_beyond(self.position, self._unwanted)
        wanted = min(len(buffer), length - self.position)
        count = os.preadv(descriptor, [memoryview(buffer)[:wanted]], self.position) if wanted else 0
        self.position += count
        return count


class ReadAhead(io.RawIOBase):
    """Reads a stream in a thread of its own, so that decompressing it and using it take place at the same time.

    :param stream: closed with this; its errors are raised by the ``read`` that would have met them.
    :param give_up: makes a ``read`` that waits for the stream's bytes fail soon.
    """

    def __init__(self, stream: BinaryIO, give_up: Callable[[], None] = lambda: None) -> None:
        self._stream = stream
        self._give_up = give_up
        self._chunks: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._rest = memoryview(b"")
        self._ended: BaseException | bool = False
        self._unwanted = threading.Event()
        self._thread = threading.Thread(target=self._work, name="read-ahead", daemon=True)
        self._thread.start()

    def readable(self) -> bool:
        """Return ``True``."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer as far as there are bytes; return how many, 0 at the end."""
        if not self._rest and not self._ended:
            chunk = self._next()
            if isinstance(chunk, BaseException):
                self._ended = chunk
            else:
                self._rest, self._ended = memoryview(chunk), not chunk
        if isinstance(self._ended, BaseException):
            raise self._ended
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """End the thread, and close the stream."""
        if not self.closed:
            self._unwanted.set()
            self._give_up()
            with contextlib.suppress(queue.Empty):
                while True:
                    self._chunks.get_nowait()
            self._thread.join()
            self._stream.close()
        super().close()

    def _next(self) -> bytes | BaseException:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._chunks.get(timeout=LOOK)

    def _work(self) -> None:
        try:
            while not self._unwanted.is_set():
                chunk = self._stream.read(_CHUNK)
                self._put(chunk)
                if not chunk:
                    return
        except BaseException as error:  # noqa: BLE001 - it belongs to the reader
            self._put(error)

    def _put(self, item: bytes | BaseException) -> None:
        while not self._unwanted.is_set():
            with contextlib.suppress(queue.Full):
                self._chunks.put(item, timeout=0.1)
                return
