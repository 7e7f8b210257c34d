"""JSON documents of images: read so that no two readers can understand them differently."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from plugrun.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_SIZE = 4 << 20  # bytes, as containers/image allows for manifests and configurations
_MAX_DEPTH = 64


class Document:
    """One JSON object, with typed access that names the document in every error.

    A value that is absent and one that is ``null`` mean the same: Go writers use both.
    """

    def __init__(self, values: dict[str, Any], what: str) -> None:
        self.values = values
        self.what = what

    def text(self, key: str) -> str:
        """Return the string at ``key``, ``""`` when absent."""
        value = self._get(key, str, "text")
        return value or ""

    def flag(self, key: str) -> bool:
        """Return the boolean at ``key``, ``False`` when absent."""
        return bool(self._get(key, bool, "true or false"))

    def number(self, key: str) -> int:
        """Return the non-negative 63-bit number at ``key``, ``0`` when absent."""
        value = self._get(key, int, "a number")
        if value is None:
            return 0
        if isinstance(value, bool) or not 0 <= value < 1 << 63:
            raise self.error(f"{key} is {value!a:.40}, not a non-negative number")
        return int(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the list of strings at ``key``."""
        items = self._get(key, list, "a list") or ()
        if not all(isinstance(item, str) for item in items):
            raise self.error(f"{key} holds something that is not text")
        return tuple(items)

    def text_map(self, key: str) -> dict[str, str]:
        """Return the object of strings at ``key``."""
        items = self._get(key, dict, "an object") or {}
        if not all(isinstance(item, str) for item in items.values()):
            raise self.error(f"{key} holds something that is not text")
        return dict(items)

    def keys(self, key: str) -> tuple[str, ...]:
        """Return the keys of the object at ``key``, which is how Docker writes a set."""
        return tuple(self._get(key, dict, "an object") or ())

    def child(self, key: str) -> Document | None:
        """Return the object at ``key``."""
        value = self._get(key, dict, "an object")
        return None if value is None else Document(value, f"{key} of {self.what}")

    def children(self, key: str) -> list[Document]:
        """Return the list of objects at ``key``."""
        items = self._get(key, list, "a list") or ()
        if not all(isinstance(item, dict) for item in items):
            raise self.error(f"{key} holds something that is not an object")
        return [Document(item, f"{key}[{number}] of {self.what}") for number, item in enumerate(items)]

    def refuse_misspelt(self, known: Collection[str]) -> None:
        """Refuse keys equal to a known one but for case, which Go's JSON readers would take for it."""
        folded = {key.lower(): key for key in known}
        for key in self.values:
            if key not in known and key.lower() in folded:
                raise self.error(f"{key!a} is ambiguous: the field is {folded[key.lower()]!a}")

    def error(self, message: str) -> InvalidArgument:
        """Return an error about this document, to be raised."""
        return InvalidArgument(f"{self.what}: {message}")

    def _get(self, key: str, kind: type, expected: str) -> Any:
        value = self.values.get(key)
        if value is not None and not isinstance(value, kind):
            raise self.error(f"{key} is not {expected}")
        return value


def parse(data: bytes, what: str) -> Document:
    """Read one JSON object of at most 4 MiB.

    :param what: what the document is, for messages.
    :raises InvalidArgument: it is too large or too deep, no JSON object, or has a key twice or half a character.
    """
    value = parse_value(data, what)
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what} is not a JSON object")
    return Document(value, what)


def parse_value(data: bytes, what: str) -> Any:
    """Read one JSON value under the rules of :func:`parse`."""
    if len(data) > MAX_SIZE:
        raise InvalidArgument(f"{what} is larger than {MAX_SIZE >> 20} MiB")
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        _check(value, _MAX_DEPTH)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidArgument(f"{what} is not valid JSON: {reason}") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:100]!a} appears twice")
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _check(value: Any, left: int) -> None:
    """Refuse what is nested more than ``left`` deep, and text that nothing could write down again."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:  # a surrogate without the other one
            raise ValueError(f"{value[:100]!a} holds half a character") from None
    elif isinstance(value, dict | list):
        if left == 0:
            raise RecursionError
        for item in (*value, *value.values()) if isinstance(value, dict) else value:
            _check(item, left - 1)
