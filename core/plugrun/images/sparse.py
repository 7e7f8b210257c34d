"""Where the data of a sparse file goes: the maps of GNU tar's old format and of PAX formats 0.0, 0.1 and 1.0.

Source: GNU tar manual, appendix "Storing Sparse Files" and "Basic Tar Format" (``struct oldgnu_header``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugrun.errors import InvalidArgument
from plugrun.images.blocks import BLOCK, Source
from plugrun.images.header import octal
from plugrun.images.pax import number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Segments = tuple[tuple[int, int], ...]


def old_gnu_map(header: bytes, source: Source, most: int) -> tuple[Segments, int]:
    """Read the map of a type ``S`` entry, its extension blocks included.

    :param most: segments allowed.
    :return: the segments, and the size of the file with its holes.
    :raises InvalidArgument: the map is malformed or too long.
    """
    pairs = list(_pairs(header, 386, 4))
    more = header[482]
    while more:
        block = source.exactly(BLOCK)
        pairs += _pairs(block, 0, 21)
        _check_count(len(pairs), most)
        more = block[504]
    return tuple(pairs), octal(header[483:495])


def _pairs(block: bytes, start: int, count: int) -> Iterator[tuple[int, int]]:
    for at in range(start, start + 24 * count, 24):
        if block[at + 12]:  # an unused slot has no length
            yield octal(block[at : at + 12]), octal(block[at + 12 : at + 24])


def listed_map(value: bytes, most: int) -> Segments:
    """Parse the map of formats 0.0 and 0.1, ``offset,length,offset,length…``.

    :raises InvalidArgument: it is malformed or too long.
    """
    _check_count(value.count(b",") // 2, most)
    numbers = [number(text) for text in value.split(b",")] if value else []
    return _paired(numbers)


def leading_map(source: Source, most: int) -> tuple[Segments, int]:
    """Read the map of format 1.0, decimal lines in whole blocks before the data.

    :return: the segments, and the bytes that the map took of the entry's data.
    :raises InvalidArgument: it is malformed or too long.
    """
    numbers: list[int] = []
    rest = b""
    blocks = 0
    wanted = 1
    while len(numbers) < wanted:
        *lines, rest = (rest + source.exactly(BLOCK)).split(b"\n")
        blocks += 1
        if not numbers and lines:
            numbers.append(number(lines.pop(0)))
            _check_count(numbers[0], most)
            wanted += 2 * numbers[0]
        numbers += map(number, lines[: wanted - len(numbers)])
        if len(rest) > BLOCK:
            raise InvalidArgument("archive has a malformed map of a sparse file")
    return _paired(numbers[1:]), blocks * BLOCK


def check(segments: Segments, size: int, stored: int) -> None:
    """Make sure that segments ascend, stay in the file, and need exactly the data that is there.

    :param size: bytes of the file with its holes.
    :param stored: bytes of data in the archive.
    :raises InvalidArgument: they do not.
    """
    end = 0
    for offset, length in segments:
        if offset < end or length < 0:
            raise InvalidArgument("archive has a sparse file with overlapping segments")
        end = offset + length
    if end > size or sum(length for _, length in segments) != stored:
        raise InvalidArgument("archive has a sparse file whose map does not fit its data")


def _paired(numbers: Sequence[int]) -> Segments:
    if len(numbers) % 2:
        raise InvalidArgument("archive has a malformed map of a sparse file")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise InvalidArgument(f"archive has a sparse file of more than {most} segments")
