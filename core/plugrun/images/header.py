"""The 512-byte header block of a tar archive, in its V7, ustar and GNU forms.

Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from plugrun.errors import InvalidArgument
from plugrun.images.blocks import BLOCK

# name mode uid gid size mtime checksum type linkname magic+version uname gname major minor prefix
_FORMAT: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s64x8s8s155s12x")
_USTAR: Final = b"ustar\0"
_GNU: Final = b"ustar  \0"
_FAR: Final = 1 << 53  # seconds: no time stamp is further away, and floats still count them


class Header(NamedTuple):
    """The fields as numbers and bytes; strings end at their first NUL."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    type: bytes
    linkname: bytes
    device: tuple[int, int]
    gnu: bool


def parse(block: bytes) -> Header:
    """Check and take apart one header block.

    :raises InvalidArgument: the checksum is wrong, or a field is not a number.
    """
    name, mode, uid, gid, size, mtime, checksum, kind, link, magic, major, minor, prefix = _FORMAT.unpack(block)
    if not _checksum_holds(block, checksum):
        raise InvalidArgument("not a tar archive, or a damaged one: a header's checksum is wrong")
    name = _string(name)
    if magic.startswith(_USTAR) and prefix[0]:  # the GNU form has other things there
        name = _string(prefix) + b"/" + name
    device = (octal(major), octal(minor)) if kind in {b"3", b"4"} else (0, 0)
    seconds = octal(mtime)
    if not -_FAR < seconds < _FAR:
        raise InvalidArgument(f"archive has an entry with the time stamp {seconds}")
    return Header(
        name,
        octal(mode) & 0o7777,
        octal(uid),
        octal(gid),
        octal(size),
        seconds,
        kind,
        _string(link),
        device,
        magic == _GNU,
    )


def octal(field: bytes) -> int:
    """Parse a numeric field: octal digits, or base 256 when the first bit is set (a GNU and star extension).

    :raises InvalidArgument: it is neither.
    """
    digits = field.strip(b" \0")
    if digits.isdigit():
        try:
            return int(digits, 8)
        except ValueError:
            pass
    elif not digits:
        return 0
    elif field[0] in {0x80, 0xFF}:  # 0xFF: negative, two's complement
        return int.from_bytes(field[1:], "big", signed=False) - (field[0] == 0xFF) * (1 << 8 * (len(field) - 1))
    elif digits.split(b"\0", 1)[0].isdigit():  # some writers leave rubbish behind the terminator
        return octal(digits.split(b"\0", 1)[0])
    raise InvalidArgument(f"archive has a header with the number {field!r}")


def _string(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _checksum_holds(block: bytes, field: bytes) -> bool:
    """POSIX sums unsigned bytes; a few old writers summed signed ones, and every reader takes both."""
    expected = octal(field)
    total = sum(block) - sum(field) + 8 * 0x20
    if total == expected:
        return True
    return total - 256 * sum(byte > 127 for byte in block[:148] + block[156:BLOCK]) == expected
