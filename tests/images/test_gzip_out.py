"""Gzip written in blocks is one stream that every reader takes, whatever is written how."""

from __future__ import annotations

import gzip
import io
import random
import subprocess

import pytest

from plugrun.images import compression, gzip_out
from plugrun.images.compression import Compression, decompress

BLOCK = gzip_out._BLOCK


def compressed(pieces):
    out = bytearray()
    writer = gzip_out.GzipWriter(out.extend)
    for piece in pieces:
        writer.write(piece)
    writer.close()
    return bytes(out)


def sample(size):
    words = [b"%x " % number for number in range(2000)]
    chosen = random.Random(size)
    return b"".join(chosen.choices(words, k=size // 4))[:size]


@pytest.mark.parametrize("size", [0, 1, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 7 * BLOCK + 3])
def test_every_reader_takes_it(size):
    data = sample(size)
    made = compressed([data])
    assert gzip.decompress(made) == data
    assert subprocess.run(["gzip", "-dc"], input=made, capture_output=True, check=True).stdout == data


def test_the_pieces_make_no_difference_and_the_buffer_may_be_used_again():
    data = sample(3 * BLOCK + 5)
    buffer = bytearray(1000)

    def pieces():
        for start in range(0, len(data), 1000):
            piece = data[start : start + 1000]
            buffer[: len(piece)] = piece
            yield memoryview(buffer)[: len(piece)]

    assert compressed(pieces()) == compressed([data])


def test_blocks_know_what_was_before():
    data = sample(20_000) * 200
    assert len(compressed([data])) < 1.2 * len(gzip.compress(data, 3))


def test_what_compresses_too_well_can_be_read_again(monkeypatch):
    monkeypatch.setattr(gzip_out, "RATIO_FREE", 8 << 20)
    monkeypatch.setattr(compression, "RATIO_FREE", 8 << 20)
    zeros = bytes(1 << 20)
    made = compressed([zeros] * 100)
    stream = decompress(io.BytesIO(made), Compression.GZIP, "a layer")
    total = 0
    while chunk := stream.read(1 << 20):
        total += len(chunk)
    assert total == 100 << 20


def test_threads_end_when_writing_fails():
    def full(_):
        raise OSError(28, "No space left on device")

    out = []
    writer = gzip_out.GzipWriter(out.append)
    writer._out = full
    with pytest.raises(OSError, match="No space"):
        writer.write(sample(50 * BLOCK))
    writer.abandon()
    writer.abandon()
    assert writer._pool is None
