"""Tar archives written byte by byte, because no archiver writes what an attacker would."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

BLOCK = 512
END = bytes(2 * BLOCK)


def number(value: int, width: int) -> bytes:
    """Return octal digits, or base 256 where they do not fit."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    first = 0xFF if value < 0 else 0x80
    return bytes([first]) + (value % (1 << 8 * (width - 1))).to_bytes(width - 1, "big")


def header(
    name: bytes,
    kind: bytes = b"0",
    *,
    size: int = 0,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 1_000_000_000,
    link: bytes = b"",
    major: int = 0,
    minor: int = 0,
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    tail: bytes = b"",
) -> bytes:
    """Build one header block with a right checksum; ``tail`` overwrites what follows the device numbers."""
    block = b"".join(
        [
            name.ljust(100, b"\0"),
            number(mode, 8),
            number(uid, 8),
            number(gid, 8),
            number(size, 12),
            number(mtime, 12),
            b" " * 8,
            kind,
            link.ljust(100, b"\0"),
            magic,
            bytes(64),
            number(major, 8),
            number(minor, 8),
            tail or prefix,
        ]
    ).ljust(BLOCK, b"\0")
    assert len(block) == BLOCK
    return sealed(block)


def sealed(block: bytes) -> bytes:
    """Put the right checksum into a header block."""
    blank = block[:148] + b" " * 8 + block[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes, data: bytes = b"", **fields) -> bytes:
    fields.setdefault("size", len(data))
    return header(name, **fields) + padded(data)


def directory(name: bytes, **fields) -> bytes:
    return header(name, b"5", **{"mode": 0o755} | fields)


def symlink(name: bytes, target: bytes, **fields) -> bytes:
    return header(name, b"2", link=target, **fields)


def hardlink(name: bytes, target: bytes, **fields) -> bytes:
    return header(name, b"1", link=target, **fields)


def record(keyword: bytes, value: bytes) -> bytes:
    body = b" " + keyword + b"=" + value + b"\n"
    length = len(body)
    while length != len(str(length)) + len(body):
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    content = b"".join(record(*pair) for pair in records)
    return file(b"PaxHeaders/x", content, kind=kind)


def xattr(name: bytes, value: bytes) -> bytes:
    return pax((b"SCHILY.xattr." + name, value))


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    return file(b"././@LongLink", name + b"\0", kind=kind)


def layer(*members: bytes) -> bytes:
    return b"".join(members) + END


class Dribble(io.RawIOBase):
    """A stream of pieces, produced while it is read, a few bytes at a time; counts what was asked of it."""

    def __init__(self, pieces: Iterable[bytes], step: int = 1 << 20) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._rest = b""
        self._step = step
        self.served = 0
        self.ended = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                self.ended = True
                return b""
            self._rest = piece
        count = min(size if size >= 0 else self._step, self._step)
        data, self._rest = self._rest[:count], self._rest[count:]
        self.served += len(data)
        return data


def snapshot(root: Path, *, times: bool = True) -> dict[str, tuple[object, ...]]:
    """Describe every file below ``root``, itself included, so that two trees can be compared."""
    return {str(path.relative_to(root)): describe(path, times=times) for path in [root, *sorted(walk(root))]}


def walk(root: Path) -> Iterator[Path]:
    for entry in os.scandir(root):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path))


def describe(path: Path, *, times: bool) -> tuple[object, ...]:
    status = path.lstat()
    content: object = None
    if stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names(path)}
    owner = (status.st_uid, status.st_gid)
    mtime = status.st_mtime_ns if times else None
    links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink  # not counted by every file system
    return status.st_mode, owner, mtime, links, status.st_rdev, content, xattrs


def names(path: Path) -> list[str]:
    return sorted(os.listxattr(path, follow_symlinks=False))
