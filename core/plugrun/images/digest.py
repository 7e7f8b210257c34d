"""Content digests, checked strictly because a digest becomes a path (OCI image-spec, descriptor.md)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from plugrun.errors import InvalidArgument

if TYPE_CHECKING:
    from hashlib import _Hash

_PATTERN = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def check(text: object, what: str = "digest") -> str:
    """Return ``text`` if it is a digest this engine knows, ``sha256:`` or ``sha512:`` and lower-case hexadecimal.

    :param what: where it was found, for the message.
    :raises InvalidArgument: it is anything else.
    """
    if not isinstance(text, str) or not _PATTERN.fullmatch(text):
        raise InvalidArgument(f"{what} {text!a} is not sha256: or sha512: and lower-case hexadecimal digits")
    return text


def is_digest(text: str) -> bool:
    """Whether :func:`check` would accept ``text``."""
    return _PATTERN.fullmatch(text) is not None


def hasher(algorithm: str) -> _Hash:
    """Return a new hash object for the part of a digest before its colon."""
    import hashlib  # loads OpenSSL, which finding an image that is already unpacked does not need

    return hashlib.new(algorithm, usedforsecurity=True)


def of(data: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of ``data``."""
    hashed = hasher(algorithm)
    hashed.update(data)
    return f"{algorithm}:{hashed.hexdigest()}"


def algorithm(digest: str) -> str:
    """Return ``sha256`` of ``sha256:…``."""
    return digest.partition(":")[0]


def encoded(digest: str) -> str:
    """Return the hexadecimal part."""
    return digest.partition(":")[2]


def short(digest: str) -> str:
    """Return the twelve hexadecimal digits that users see."""
    return encoded(digest)[:12]
