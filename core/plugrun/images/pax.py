"""The extended headers of a tar archive: POSIX pax records, and the extended attributes they carry.

Source: POSIX.1-2017, pax, "pax Extended Header"; star(5) for ``SCHILY.*``; libarchive's tar(5) for ``LIBARCHIVE.*``.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import Final

from plugrun.errors import InvalidArgument

Records = Mapping[bytes, bytes]

_SCHILY: Final = b"SCHILY.xattr."
_LIBARCHIVE: Final = b"LIBARCHIVE.xattr."
_SPARSE_PAIR: Final = {b"GNU.sparse.offset", b"GNU.sparse.numbytes"}
SPARSE_MAP: Final = b"GNU.sparse.map"

_TIME: Final = re.compile(rb"(-?)([0-9]{1,16})(?:\.([0-9]{0,32}))?")
_NUMBER: Final = re.compile(rb"[0-9]{1,19}")
_ESCAPED: Final = re.compile(rb"%([0-9A-Fa-f]{2})")


def parse_records(content: bytes) -> dict[bytes, bytes]:
    """Split an extended header into its records; the last of equal keywords wins.

    The repeated offset and length records of GNU sparse format 0.0 become one record as in format 0.1.

    :raises InvalidArgument: a record is malformed.
    """
    records: dict[bytes, bytes] = {}
    pairs: list[bytes] = []
    position = 0
    while position < len(content):
        keyword, value, position = _record(content, position)
        if keyword in _SPARSE_PAIR:
            pairs.append(value)
        else:
            records[keyword] = value
    if pairs:
        records[SPARSE_MAP] = b",".join(pairs)
    return records


def _record(content: bytes, start: int) -> tuple[bytes, bytes, int]:
    """Return keyword and value of ``<length> <keyword>=<value><newline>``, and the position after it."""
    space = content.find(b" ", start, start + 20)
    digits = content[start:space] if space >= 0 else b""
    end = start + int(digits) if digits.isdigit() else 0
    equals = content.find(b"=", space, end)
    if equals <= space + 1 or not space < end <= len(content) or content[end - 1] != 0x0A:
        raise InvalidArgument("archive has a malformed PAX header")
    return content[space + 1 : equals], content[equals + 1 : end - 1], end


def number(value: bytes) -> int:
    """Parse a decimal number that is not negative.

    :raises InvalidArgument: it is none.
    """
    if not _NUMBER.fullmatch(value):
        raise InvalidArgument(f"archive has a PAX header with the number {value[:40]!r}")
    return int(value)


def nanoseconds(value: bytes) -> int:
    """Parse a time in seconds, with a fraction if it likes.

    :raises InvalidArgument: it is none.
    """
    match = _TIME.fullmatch(value)
    if not match:
        raise InvalidArgument(f"archive has a PAX header with the time {value[:40]!r}")
    sign, seconds, fraction = match.groups()
    total = int(seconds) * 1_000_000_000 + int((fraction or b"")[:9].ljust(9, b"0"))
    return -total if sign else total


def xattrs(records: Records) -> dict[str, bytes]:
    """Return the extended attributes of an entry; names that are not UTF-8 have surrogate escapes.

    :raises InvalidArgument: a name has a NUL byte, or a value is not what its keyword promises.
    """
    found: dict[str, bytes] = {}
    for keyword, value in records.items():
        if keyword.startswith(_LIBARCHIVE):
            name = _ESCAPED.sub(lambda m: bytes([int(m[1], 16)]), keyword[len(_LIBARCHIVE) :])
            found.setdefault(_xattr_name(name), _base64(value))
        elif keyword.startswith(_SCHILY):
            found[_xattr_name(keyword[len(_SCHILY) :])] = value
    return found


def _xattr_name(name: bytes) -> str:
    if b"\0" in name:
        raise InvalidArgument("archive has an extended attribute with a NUL byte in its name")
    return name.decode(errors="surrogateescape")


def _base64(value: bytes) -> bytes:
    try:
        return binascii.a2b_base64(value + b"=" * (-len(value) % 4))  # libarchive leaves the padding out
    except binascii.Error as error:
        raise InvalidArgument("archive has an extended attribute that is not base64") from error
