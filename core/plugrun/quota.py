"""Size limits of snapshots: ``--storage-opt size=10G``, the one option that means the same in every storage driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from plugrun import validate
from plugrun.errors import InvalidArgument, Unavailable
from plugrun.sizes import shown

if TYPE_CHECKING:
    from plugrun.api import StorageDriver

OPTION = "size"
SMALLEST = 1 << 20  # bytes; below it not even a directory tree fits on every file system


def take(options: Mapping[str, str]) -> tuple[int | None, dict[str, str]]:
    """Split driver options as typed into the size limit, in bytes, and those that are the driver's own.

    :raises InvalidArgument: the size makes no sense.
    """
    own = dict(options)
    text = own.pop(OPTION, None)
    if text is None:
        return None, own
    size = validate.size(text)
    if size < SMALLEST:
        raise InvalidArgument(f"a size limit of {text!r} is too small", hint=f"the least is {SMALLEST >> 20}m")
    return size, own


def check(driver: StorageDriver, size: int | None) -> None:
    """Refuse a limit that the driver cannot set on any file system, before anything is made.

    :raises Unavailable: it has no quotas.
    """
    from plugrun.api import SupportsQuota

    if size is not None and not isinstance(driver, SupportsQuota):
        raise Unavailable(
            f"this storage driver has no quotas, so the size limit of {shown(size)} cannot be kept",
            hint="leave out the size, or choose a --storage that 'plugrun plugin ls' shows with quota",
        )


def apply(driver: StorageDriver, key: str, size: int | None) -> None:
    """Limit a snapshot that was just made, or mounted; ``None`` is no limit. On failure the caller undoes that.

    :param key: an active snapshot of ``driver``; a copy of another one has no limit yet, and of one that is full
        the driver may have raised it to have it mounted.
    :param size: bytes that it may occupy beyond its parents.
    :raises Unavailable: the driver, or the file system it is on, cannot do it; says what would help.
    """
    from plugrun.api import SupportsQuota

    check(driver, size)
    if size is not None and isinstance(driver, SupportsQuota):
        driver.limit(key, size)
