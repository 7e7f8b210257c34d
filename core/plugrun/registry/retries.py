"""Trying again: how often, and after how long."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TypeVar

from plugrun.registry.failures import Transient

T = TypeVar("T")
TRIES = 5
_FIRST = 0.5  # seconds
_LONGEST = 30.0
_LONGEST_ASKED = 60.0  # what a registry may ask for


class Retries:
    """Repeats what may succeed the next time.

    :param notice: told in one line what went wrong, and when the next try is.
    :param wait: sleeps for so many seconds, and raises if there is to be no next try.
    :param wall: the time of day, in seconds since the epoch.
    :param jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        notice: Callable[[str], None],
        wait: Callable[[float], None],
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._notice = notice
        self._wait = wait
        self._wall = wall
        self._jitter = jitter

    def run(self, attempt: Callable[[], T]) -> T:
        """Return what ``attempt`` returns, having called it up to five times.

        :raises PlugrunError: what the last :class:`Transient` it raised stands for.
        """
        for number in range(2, TRIES + 1):
            try:
                return attempt()
            except Transient as trouble:
                delay = self._delay(number - 2, trouble.retry_after)
                self._notice(f"{trouble.error}; try {number} of {TRIES} in {max(1, round(delay))} s")
                self._wait(delay)
        try:
            return attempt()
        except Transient as trouble:
            raise trouble.error from None

    def _delay(self, number: int, retry_after: str | None) -> float:
        asked = self._asked(retry_after)
        if asked is not None:
            return min(max(0.0, asked), _LONGEST_ASKED)
        longest = min(2 * _FIRST * (1 << number), _LONGEST)
        return longest * (0.5 + 0.5 * self._jitter())

    def _asked(self, retry_after: str | None) -> float | None:
        """Return the seconds of a ``Retry-After`` (RFC 9110, section 10.2.3)."""
        if not retry_after:
            return None
        if retry_after.isascii() and retry_after.isdigit():
            return float(retry_after)
        try:
            until: float = parsedate_to_datetime(retry_after).timestamp()
        except (ValueError, OverflowError):
            return None
        return until - self._wall()
