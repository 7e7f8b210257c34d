"""Advisory locks between plugrun processes: flock(2), which the kernel releases when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from plugrun.errors import FailedPrecondition

_TIMEOUT = 60.0


@contextlib.contextmanager
def held(path: Path, *, what: str, timeout: float = _TIMEOUT, shared: bool = False) -> Iterator[int]:
    """Hold ``path`` locked, waiting for others; the block is given the descriptor that does.

    :param what: what is locked, for the message.
    :param timeout: seconds to wait at most.
    :param shared: as for :func:`try_acquire`.
    :raises FailedPrecondition: another process kept it for longer.
    """
    descriptor = try_acquire(path, shared=shared)
    if descriptor is None:
        descriptor = _wait(path, what, timeout, shared=shared)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def try_acquire(path: Path, *, shared: bool = False) -> int | None:
    """Lock ``path`` without waiting.

    :param shared: together with others who share it; only who holds it alone may remove the file.
    :return: a descriptor whose closing releases the lock, or ``None`` when another process holds it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _is_current(descriptor, path):
            return descriptor
        os.close(descriptor)  # the holder before us removed the file: this lock protects nothing


def _is_current(descriptor: int, path: Path) -> bool:
    mine = os.fstat(descriptor)
    try:
        current = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (current.st_dev, current.st_ino)


def _wait(path: Path, what: str, timeout: float, *, shared: bool) -> int:
    deadline = time.monotonic() + timeout
    pause = 0.001
    while time.monotonic() < deadline:  # flock(2) has no timeout of its own, and a blocked one cannot be given up
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
        if (descriptor := try_acquire(path, shared=shared)) is not None:
            return descriptor
    raise FailedPrecondition(
        f"{what} is being changed by another plugrun for over {timeout:.0f} seconds",
        hint=f"see who holds {path}: fuser {path}",
    )
