"""Waiting for a thread in a way that a signal can end."""

from __future__ import annotations

from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")
LOOK = 0.2  # seconds


def result(job: Future[T]) -> T:
    """Return what a job in another thread returns, or raise what it raises.

    A signal that comes just before a wait begins is seen only when the wait ends, so that none may be long.
    """
    while not job.done():
        wait([job], LOOK)
    return job.result()
