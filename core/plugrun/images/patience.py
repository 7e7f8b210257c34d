"""How often something may break off that brings little each time."""

from __future__ import annotations

import threading

_MAX_TRIES = 5
_MAX_SECONDS = 25.0  # of tries without success
_WORTH_A_TRY = 64 << 10  # bytes, with which a try was a success


class Patience:
    """What is left of it for one blob.

    :param stop: set to leave none.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._tries = 0
        self._seconds = 0.0

    def is_left(self, count: int, seconds: float) -> bool:
        """Wait until the next try is due; return whether there is to be one.

        :param count: bytes that the last one brought, in ``seconds``.
        """
        if count >= _WORTH_A_TRY:
            self._tries, self._seconds = 0, 0.0
        else:
            self._seconds += seconds
        self._tries += 1
        if self._tries > _MAX_TRIES or self._seconds > _MAX_SECONDS:
            return False
        return not self._stop.wait(2**self._tries / 8)
