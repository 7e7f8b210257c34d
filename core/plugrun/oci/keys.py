"""Detach keys: the sequence a user types to leave a container's terminal while the container goes on."""

from __future__ import annotations

from plugrun.errors import InvalidArgument

DEFAULT = "ctrl-p,ctrl-q"

_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"  # ASCII 0 to 31


def parse(text: str) -> bytes:
    r"""Turn Docker's notation, such as ``ctrl-p,ctrl-q`` or ``a``, into the bytes a terminal sends.

    :param text: keys separated by commas: one ASCII character, or ``ctrl-`` and one of ``a``-``z @ [ \ ] ^ _``; empty
        for no detach keys at all.
    :raises InvalidArgument: something else.
    """
    return bytes(_key(key, text) for key in text.split(",")) if text else b""


def _key(key: str, text: str) -> int:
    if len(key) == 1 and key.isascii():
        return ord(key)
    prefix, _, letter = key.lower().partition("ctrl-")
    if not prefix and len(letter) == 1 and letter in _CONTROL:
        return _CONTROL.index(letter)
    raise InvalidArgument(
        f"detach keys {text!r}: {key!r} is no key", hint="use one character or ctrl-LETTER, e.g. ctrl-p,ctrl-q"
    )


class Detector:
    """Finds the sequence in a stream of input, and holds back what may be its beginning."""

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Take input; return what goes on to the container, and whether the sequence was completed.

        Input after the completed sequence is dropped: nobody is there to take it.
        """
        if not self._sequence:
            return data, False
        passed = bytearray()
        for byte in data:
            self._held += bytes((byte,))
            while not self._sequence.startswith(self._held):
                passed.append(self._held[0])
                self._held = self._held[1:]
            if self._held == self._sequence:
                self._held = b""
                return bytes(passed), True
        return bytes(passed), False

    def rest(self) -> bytes:
        """Return what is held back, at the end of the input."""
        held, self._held = self._held, b""
        return held
