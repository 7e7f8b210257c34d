"""A new file system for each round, so that no engine's store lies among what another one deleted.

This is not only tidy: on an ext4 without a journal the kernel steps over inodes that were deleted in the last minutes
one by one (``recently_deleted()`` in fs/ext4/ialloc.c), and creating a file becomes fifty times slower.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from engines import output

SIZE = 16 << 30  # bytes; only what is written takes room


MAKE = {
    # Inode tables are zero in a new file: nothing needs to be initialised while engines are measured.
    "ext4": ("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1"),
    "btrfs": ("mkfs.btrfs", "-q"),
}
OPTIONS = {"ext4": "loop,noinit_itable", "btrfs": "loop"}


@contextlib.contextmanager
def new(place: Path, kind: str = "ext4") -> Iterator[Path]:
    """Yield an empty file system as mkfs makes it; it is gone at the end."""
    file = place.with_name(f"{place.name}.{kind}")
    with file.open("wb") as stream:
        stream.truncate(SIZE)
    try:
        output([*MAKE[kind], str(file)])
        place.mkdir()
        output(["mount", "-o", OPTIONS[kind], str(file), str(place)])
        try:
            yield place
        finally:
            output(["umount", str(place)])
            place.rmdir()
    finally:
        file.unlink()
