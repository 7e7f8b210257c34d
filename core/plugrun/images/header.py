"""The 512-byte header block of a tar archive, in its V7, ustar and GNU forms.

Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import functools
import struct
from typing import Final

from plugrun.errors import InvalidArgument
from plugrun.images.blocks import BLOCK
from plugrun.tuples import NamedTuple

FORMAT: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s64x8s8s155s12x")
_USTAR: Final = b"ustar\0"
_GNU: Final = b"ustar  \0"
_FAR: Final = 1 << 53  # seconds: no time stamp is further away, and floats still count them


class Header(NamedTuple):
    """The fields as they are in the block; numbers are only taken apart where an entry needs them."""

    name: bytes
    mode: bytes
    uid: bytes
    gid: bytes
    size: bytes
    mtime: bytes
    checksum: bytes
    type: bytes
    linkname: bytes
    magic: bytes  # and version
    major: bytes
    minor: bytes
    prefix: bytes

    def path(self) -> bytes:
        """Return the entry's name, with the prefix that POSIX.1-1988 put in front of it."""
        name = string(self.name)
        if self.prefix[0] and self.magic.startswith(_USTAR):  # the GNU form has other things there
            return string(self.prefix) + b"/" + name
        return name

    def is_gnu(self) -> bool:
        """Whether GNU tar wrote this header in its own form."""
        return self.magic == _GNU

    def seconds(self) -> int:
        """Return the time of modification.

        :raises InvalidArgument: it is not a number, or a senseless one.
        """
        seconds = octal(self.mtime)
        if not -_FAR < seconds < _FAR:
            raise InvalidArgument(f"archive has an entry with the time stamp {seconds}")
        return seconds

    def device(self) -> tuple[int, int]:
        """Return the major and minor number.

        :raises InvalidArgument: they are not numbers.
        """
        return octal(self.major), octal(self.minor)


def parse(block: bytes) -> Header:
    """Check the checksum of one header block, and split it into its fields.

    :raises InvalidArgument: the checksum is wrong.
    """
    header = Header._make(FORMAT.unpack(block))
    if not _checksum_holds(block, header.checksum):
        raise InvalidArgument("the checksum of a tar header is wrong")
    return header


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


@functools.lru_cache(maxsize=1024)
def repeated_octal(field: bytes) -> int:
    """Parse a field that most entries of an archive have in common: measured, a tenth of reading a header."""
    return octal(field)


def string(field: bytes) -> bytes:
    """Return the field up to its first NUL."""
    return field.split(b"\0", 1)[0]


def _checksum_holds(block: bytes, field: bytes) -> bool:
    """POSIX sums unsigned bytes; a few old writers summed signed ones, and every reader takes both."""
    try:
        expected = octal(field)
    except InvalidArgument:  # some other kind of file
        return False
    total = sum(block) - sum(field) + 8 * 0x20
    if total == expected:
        return True
    return total - 256 * sum(byte > 127 for byte in block[:148] + block[156:BLOCK]) == expected
