"""Sparse files in the four forms that GNU tar writes: segments are pairs of offset and length, ``data`` is all of them.

Source: GNU tar manual, appendix "Storing Sparse Files".
"""

from __future__ import annotations

from images.layers import file, header, number, padded, pax


def sparse_1_0(size: int, segments: list[tuple[int, int]], data: bytes, name: bytes = b"sparse", **fields) -> bytes:
    lines = [len(segments), *(n for pair in segments for n in pair)]
    stored = padded(b"".join(b"%d\n" % n for n in lines)) + data
    records = pax(
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", name),
        (b"GNU.sparse.realsize", b"%d" % size),
    )
    return records + file(b"GNUSparseFile.0/sparse", stored, **fields)


def old_sparse(size: int, segments: list[tuple[int, int]], data: bytes, name: bytes = b"sparse") -> bytes:
    slots = [number(offset, 12) + number(length, 12) for offset, length in segments]
    first, rest = slots[:4], slots[4:]
    tail = bytes(41) + b"".join(first).ljust(96, b"\0") + bytes([bool(rest)]) + number(size, 12)
    blocks = [header(name, b"S", size=len(data), magic=b"ustar  \0", tail=tail)]
    while rest:
        now, rest = rest[:21], rest[21:]
        blocks.append((b"".join(now).ljust(504, b"\0") + bytes([bool(rest)])).ljust(512, b"\0"))
    return b"".join(blocks) + padded(data)


def sparse_0_1(size: int, segments: list[tuple[int, int]], data: bytes, name: bytes = b"sparse") -> bytes:
    listed = b",".join(b"%d,%d" % pair for pair in segments)
    records = [(b"GNU.sparse.name", name), (b"GNU.sparse.map", listed)]
    return pax(*_counts(size, segments), *records) + file(b"x", data)


def sparse_0_0(size: int, segments: list[tuple[int, int]], data: bytes, name: bytes = b"sparse") -> bytes:
    pairs = [
        pair for o, n in segments for pair in ((b"GNU.sparse.offset", b"%d" % o), (b"GNU.sparse.numbytes", b"%d" % n))
    ]
    return pax(*_counts(size, segments), *pairs) + file(name, data)


def _counts(size: int, segments: list[tuple[int, int]]) -> list[tuple[bytes, bytes]]:
    return [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"%d" % len(segments))]
