"""Where two subvolumes differ, from a send stream: what ``btrfs send`` writes and ``btrfs receive`` carries out.

The stream makes the parent into the snapshot, step by step, and its paths are those of the moment. Only renaming
changes the path of something else, so where a directory was moved from and to is reported whole, and that covers all
paths which were given before or after. New inodes get a passing name in the root directory (``o257-7-0``) and are then
moved into place; they need not be reported whole, for what is in them has steps of its own.

The format is in the kernel's fs/btrfs/send.h. Its checksums are not looked at: a pipe does not damage data.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from plugrun.api import Changed, DriverError

Read = Callable[[int], bytes]

_MAGIC = b"btrfs-stream\0"
_VERSION = struct.Struct("<I")
_COMMAND = struct.Struct("<IHI")  # length of the attributes, command, CRC-32C
_ATTRIBUTE = struct.Struct("<HH")  # type, length
_MKFILE, _SYMLINK, _RENAME, _END = (
    3,
    8,
    9,
    21,
)  # enum btrfs_send_cmd; from the first to the second they make inodes, below it subvolumes
_PATH, _PATH_TO = 15, 16  # attributes
_LONGEST = 2**18  # the kernel writes 64 KiB at most, and 128 KiB with file data


def changes(read: Read) -> Iterator[Changed]:
    """Yield what a stream without file data changes, by the rules of :class:`plugrun.api.SupportsChanges`.

    Further names of a changed file are not among it.

    :param read: returns as many bytes as it is asked for, fewer only at the end.
    :raises DriverError: the stream ends early, or is none.
    """
    passing: dict[bytes, bool] = {}  # new inodes not yet in place, and whether something was done inside of them
    last: Changed | None = None
    for command, attributes in _commands(read):
        path = attributes.get(_PATH)
        if path is None or command < _MKFILE:
            continue
        if path in passing and command == _RENAME:
            found = [Changed(attributes[_PATH_TO], whole=passing.pop(path))]
        elif command == _RENAME:
            found = [Changed(path, whole=True), Changed(attributes[_PATH_TO], whole=True)]
        else:
            found = [Changed(path)]
        if _MKFILE <= command <= _SYMLINK and b"/" not in path:
            passing[path] = False
        for change in found:
            above, slash, _ = change.path.partition(b"/")
            if slash and above in passing:
                passing[above] = True
            if change != last and change.path not in passing:
                yield change
            last = change


def _commands(read: Read) -> Iterator[tuple[int, dict[int, bytes]]]:
    if _exactly(read, len(_MAGIC) + _VERSION.size)[: len(_MAGIC)] != _MAGIC:
        raise DriverError("the kernel's send stream has an unknown format")
    while True:
        length, command, _ = _COMMAND.unpack(_exactly(read, _COMMAND.size))
        if length > _LONGEST:
            raise DriverError(f"the kernel's send stream has a command of {length} bytes")
        data = _exactly(read, length)
        if command == _END:
            return
        yield command, dict(_attributes(data))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(data):
        kind, length = _ATTRIBUTE.unpack_from(data, place)
        place += _ATTRIBUTE.size
        yield kind, data[place : place + length]
        place += length


def _exactly(read: Read, size: int) -> bytes:
    data = read(size)
    if len(data) != size:
        raise DriverError("the kernel's send stream ends early")
    return data
