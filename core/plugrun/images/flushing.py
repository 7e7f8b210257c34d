"""Writing to the device while more is coming, so that the sync at the end has little left to wait for."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_INTERVAL = 0.5  # seconds


@contextlib.contextmanager
def flushing(directory: Path) -> Iterator[None]:
    """Call syncfs(2) on the file system of a directory over and over while the block runs.

    It only saves time: what must survive a power cut is still to be synced afterwards, and errors are found then.
    """
    ended = threading.Event()
    libc = ctypes.CDLL(None)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def work() -> None:
        while not ended.wait(_INTERVAL):
            libc.syncfs(descriptor)

    thread = threading.Thread(target=work, name="flushing", daemon=True)
    try:
        thread.start()
        yield
    finally:
        ended.set()
        thread.join()
        os.close(descriptor)
