"""Decompression inside this process, never by a program that might be found in a container (CVE-2014-9357)."""

from __future__ import annotations

import enum
import io
import sys
from typing import TYPE_CHECKING, Any, Protocol, cast

from plugrun.errors import InvalidArgument

try:  # more than twice as fast, where there is a wheel of it
    from zlib_ng import zlib_ng as zlib
except ImportError:
    import zlib  # type: ignore[no-redef]

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = 10  # bytes that :func:`detect` needs
MAX_BYTES = 256 << 30
_MAX_RATIO = 200  # real layers stay below 30; deflate reaches 1:1032 and xz 1:6700 on zeros
RATIO_FREE = 1 << 30  # bytes that may be as compressible as they like
_CHUNK = 64 << 10
_OUT = 256 << 10


class Compression(enum.StrEnum):
    """How bytes are compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    XZ = "xz"


class Readable(Protocol):
    """What every byte source here can do."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most ``size`` bytes, ``b""`` at the end."""
        ...


def detect(prefix: bytes) -> Compression:
    """Tell the compression from the first :data:`PREFIX` bytes; anything unknown counts as not compressed.

    :raises InvalidArgument: it is one that no image may use.
    """
    if prefix.startswith(b"\x1f\x8b"):
        return Compression.GZIP
    if prefix.startswith(b"\x28\xb5\x2f\xfd") or (prefix[1:4] == b"\x2a\x4d\x18" and prefix[0] >> 4 == 5):
        return Compression.ZSTD  # a frame, or a skippable frame before it: RFC 8878, 3.1
    if prefix.startswith(b"\xfd7zXZ\x00"):
        return Compression.XZ
    if prefix[:3] == b"BZh" and prefix[4:10] == b"1AY&SY":
        raise InvalidArgument("bzip2 compression is not supported", hint="compress with gzip or zstd instead")
    return Compression.NONE


def detect_in(stream: io.BufferedReader[Any], what: str) -> Compression:
    """Tell the compression of a stream without taking anything from it; raises as :func:`detect`.

    :param what: what is read, for messages.
    """
    prefix = stream.peek(PREFIX)[:PREFIX]
    try:
        return detect(prefix)
    except InvalidArgument as error:
        raise InvalidArgument(f"{what}: {error}", hint=error.hint) from None


def decompress(raw: Readable, compression: Compression, what: str, *, max_bytes: int = MAX_BYTES) -> io.BufferedReader:
    """Return a stream of the decompressed bytes of ``raw``, in constant memory.

    The stream reads ``raw`` to its very end and raises :class:`InvalidArgument` from ``read`` when the data is corrupt,
    ends too early, or grows beyond ``max_bytes`` or any sensible ratio.

    :param what: what is decompressed, for messages.
    :pre: ``compression`` is not ``NONE``.
    """
    new, failures = _decoder(compression)
    what = f"{what}: the {compression} data"
    source = _Decompressed(raw, what, new=new, failures=failures, max_bytes=max_bytes)
    return io.BufferedReader(source, _OUT)


class _Decoder(Protocol):
    """One frame being decoded: the interface of ``lzma.LZMADecompressor``."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """The interface of ``lzma.LZMADecompressor`` for one gzip member."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self.needs_input = True
        self.eof = False
        self.unused_data = b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        inflate = self._inflate
        out = inflate.decompress(inflate.unconsumed_tail + data, max_length)
        self.eof, self.unused_data = inflate.eof, inflate.unused_data
        # A full output buffer may leave more inside zlib, without any input left over.
        self.needs_input = not inflate.unconsumed_tail and len(out) < max_length
        return out


def _decoder(compression: Compression) -> tuple[Callable[[], Any], tuple[type[Exception], ...]]:
    """Return what makes a decoder, and what it raises."""
    if compression is Compression.GZIP:
        return _Gzip, (cast("type[Exception]", zlib.error),)
    if compression is Compression.XZ:
        import lzma

        return lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=256 << 20), (lzma.LZMAError, EOFError)
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.ZstdDecompressor, (zstd.ZstdError, EOFError)  # libzstd refuses windows over 128 MiB by itself


class _Decompressed(io.RawIOBase):
    """Joins the frames (gzip members) of a compressed stream."""

    def __init__(
        self,
        raw: Readable,
        what: str,
        *,
        new: Callable[[], _Decoder],
        failures: tuple[type[Exception], ...],
        max_bytes: int,
    ) -> None:
        self._raw = raw
        self._pending = b""
        self._new = new
        self._decoder = new()
        self._failures = failures
        self._what = what
        self._max_bytes = max_bytes
        self._taken = 0
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed and isinstance(self._raw, io.IOBase):
            self._raw.close()
        super().close()

    def _next(self, limit: int) -> bytes:
        """Return 1 to ``limit`` bytes, none at the end."""
        while True:
            if self._decoder.eof and not self._next_frame():
                return b""
            taken = self._take() if self._decoder.needs_input or self._pending else b""
            if not taken and self._decoder.needs_input:
                raise InvalidArgument(f"{self._what} ends too early")
            try:
                out = self._decoder.decompress(taken, limit)
            except self._failures as error:
                raise InvalidArgument(f"{self._what} is corrupt: {error}") from None
            if out:
                self._count(len(out))
                return out

    def _next_frame(self) -> bool:
        """Start on what follows a complete frame; ``False`` at the end of the stream."""
        rest = self._decoder.unused_data or self._take()
        while rest and not rest.strip(b"\0"):  # padding, which gzip(1) accepts too
            rest = self._take()
        if not rest:
            return False
        self._pending = rest
        self._decoder = self._new()
        return True

    def _take(self) -> bytes:
        if self._pending:
            taken, self._pending = self._pending, b""
        else:
            taken = self._raw.read(_CHUNK) or b""
            self._taken += len(taken)
        return taken

    def _count(self, length: int) -> None:
        self._given += length
        if self._given > self._max_bytes:
            raise InvalidArgument(f"{self._what} expands to more than {self._max_bytes} bytes")
        if self._given > RATIO_FREE and self._given > self._taken * _MAX_RATIO:
            raise InvalidArgument(f"{self._what} expands to more than {_MAX_RATIO} times its size")
