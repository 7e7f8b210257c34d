"""Decompression: whole, checked, bounded in size and memory, and never by another program."""

from __future__ import annotations

import collections
import gzip
import io
import lzma
import os
import random
import struct
import tracemalloc
import zlib

import pytest

from images.archives import sha256
from plugrun.errors import InvalidArgument
from plugrun.images import compression, streams
from plugrun.images.compression import Compression, decompress, detect

zstd = pytest.importorskip("compression.zstd" if os.sys.version_info >= (3, 14) else "backports.zstd")

DATA = random.Random(1).randbytes(300_000) + bytes(700_000)
PACK = {Compression.GZIP: gzip.compress, Compression.ZSTD: zstd.compress, Compression.XZ: lzma.compress}
KINDS = pytest.mark.parametrize("kind", list(PACK))
SKIPPABLE = struct.pack("<II", 0x184D2A5B, 5) + b"hello"


def unpack(data, kind=None, **options):
    return decompress(io.BytesIO(data), kind or detect(data[:10]), "x", **options).read()


@KINDS
def test_data_comes_back(kind):
    packed = PACK[kind](DATA)
    assert detect(packed[:10]) is kind
    assert unpack(packed) == DATA


@KINDS
def test_reading_in_pieces_of_any_size_gives_the_same(kind):
    stream = decompress(io.BytesIO(PACK[kind](DATA)), kind, "x")
    pieces, sizes = [], random.Random(2)
    while piece := stream.read(sizes.choice([1, 511, 512, 70_000, 1 << 20])):
        pieces.append(piece)
    assert b"".join(pieces) == DATA


@KINDS
def test_a_source_that_gives_one_byte_at_a_time_is_read_whole(kind):
    class Slow(io.BytesIO):
        def read(self, size=-1, /):
            return super().read(min(size, 1))

    packed = PACK[kind](DATA[299_000:302_000])
    assert decompress(Slow(packed), kind, "x").read() == DATA[299_000:302_000]


@KINDS
def test_several_frames_are_one_stream(kind):
    assert unpack(PACK[kind](b"one ") + PACK[kind](b"") + PACK[kind](b"two")) == b"one two"


def test_skippable_zstd_frames_are_skipped():
    assert unpack(SKIPPABLE + zstd.compress(b"data") + SKIPPABLE) == b"data"


@KINDS
def test_zero_padding_is_accepted_and_anything_else_is_not(kind):
    assert unpack(PACK[kind](b"data") + bytes(200_000)) == b"data"
    with pytest.raises(InvalidArgument, match=r"corrupt|too early"):
        unpack(PACK[kind](b"data") + b"garbage")
    with pytest.raises(InvalidArgument, match=r"corrupt|too early"):
        unpack(PACK[kind](b"data") + bytes(200_000) + b"garbage")


@KINDS
@pytest.mark.parametrize("cut", [1, 9, 1000])
def test_truncated_data_is_refused(kind, cut):
    with pytest.raises(InvalidArgument, match="ends too early"):
        unpack(PACK[kind](DATA)[:-cut])


@KINDS
def test_flipped_bits_are_refused(kind):
    options = {"options": {zstd.CompressionParameter.checksum_flag: 1}} if kind is Compression.ZSTD else {}
    packed = bytearray(PACK[kind](DATA[:200_000], **options))
    for position in range(20, len(packed), len(packed) // 10):
        packed[position] ^= 0x10
    with pytest.raises(InvalidArgument, match=r"corrupt|too early"):
        unpack(bytes(packed), kind)


@KINDS
def test_more_than_the_allowed_bytes_are_refused(kind):
    packed = PACK[kind](DATA)
    assert unpack(packed, max_bytes=len(DATA)) == DATA
    with pytest.raises(InvalidArgument, match=f"more than {len(DATA) - 1} bytes"):
        unpack(packed, max_bytes=len(DATA) - 1)


def bomb(kind, size):
    """Yield the compressed form of ``size`` zeros without ever holding it."""
    packer = zlib.compressobj(9, wbits=31) if kind is Compression.GZIP else None
    if kind is Compression.XZ:
        packer = lzma.LZMACompressor(preset=1)
    elif kind is Compression.ZSTD:
        packer = zstd.ZstdCompressor()
    for _ in range(size >> 20):
        yield packer.compress(bytes(1 << 20))
    yield packer.flush()


@KINDS
def test_a_bomb_ends_at_the_ratio_in_flat_memory(kind, monkeypatch):
    monkeypatch.setattr(compression, "RATIO_FREE", 32 << 20)
    packed = b"".join(bomb(kind, 64 << 20))
    assert len(packed) * 500 < 64 << 20
    stream = decompress(io.BytesIO(packed), kind, "x")
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgument, match="more than 200 times its size"):
            collections.deque(iter(lambda: stream.read(1 << 20), b""), maxlen=0)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@KINDS
def test_small_data_may_be_as_compressible_as_it_likes(kind):
    assert unpack(b"".join(bomb(kind, 8 << 20))) == bytes(8 << 20)


def test_plain_data_and_unknown_data_count_as_not_compressed():
    for data in (b"", b"\0" * 512, b"etc/passwd", b"\x1f", b"BZh9 is a file name"):
        assert detect(data[:10]) is Compression.NONE


def test_bzip2_is_refused_by_name():
    import bz2

    with pytest.raises(InvalidArgument, match="bzip2"):
        detect(bz2.compress(b"x")[:10])


@KINDS
def test_no_program_is_run(kind, tmp_path, monkeypatch):
    for name in ("gzip", "zstd", "xz", "unpigz", "igzip"):
        (tmp_path / name).write_text(f"#!/bin/sh\n: > {tmp_path}/marker\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    os.system("gzip")  # the control: the trap works
    assert (tmp_path / "marker").exists()
    (tmp_path / "marker").unlink()
    assert unpack(PACK[kind](DATA)) == DATA
    assert not (tmp_path / "marker").exists()


# --- Layers, checked while they are read ------------------------------------------------------------------------


def open_layer(data, **expected):
    wanted = {"digest": None, "size": None, "diff_id": None} | expected
    return streams.open_layer(io.BytesIO(data), "layer", **wanted)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
def test_a_layer_that_is_what_it_should_be_is_read(pack):
    packed = pack(DATA)
    layer = open_layer(packed, digest=sha256(packed), size=len(packed), diff_id=sha256(DATA))
    assert layer.stream.read() == DATA
    found = open_layer(packed)
    found.drain()
    assert (found.blob.digest, found.blob.length, found.content.digest) == (sha256(packed), len(packed), sha256(DATA))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"digest": sha256(b"other")}, "layer is corrupt: its digest is"),
        ({"diff_id": sha256(b"other")}, "layer is corrupt: its digest is"),
        ({"size": 10}, "longer than the 10 bytes"),
        ({"size": 10 << 20}, "cut short"),
    ],
)
def test_a_layer_that_is_something_else_fails_at_its_end(pack, wrong, reason):
    packed = pack(DATA)
    right = {"digest": sha256(packed), "size": len(packed), "diff_id": sha256(DATA)}
    layer = open_layer(packed, **(right | wrong))
    with pytest.raises(InvalidArgument, match=reason):
        layer.drain()


def test_sha512_is_as_good():
    import hashlib

    long = "sha512:" + hashlib.sha512(DATA).hexdigest()
    open_layer(DATA, digest=long, diff_id=sha256(DATA)).drain()
    with pytest.raises(InvalidArgument, match="is corrupt"):
        open_layer(DATA + b"x", digest=long).drain()


def test_no_layer_is_compressed_with_xz():
    with pytest.raises(InvalidArgument, match="xz compression is not for layers"):
        open_layer(lzma.compress(DATA))
