"""Names of containers and their snapshots: which are allowed, and a readable one for those who give none."""

from __future__ import annotations

import os
import re

from plugrun.errors import InvalidArgument

SNAPSHOT_KEY = r"(?P<container>[0-9a-f]{64})(\.[0-9a-f]{8})?\Z"
IMAGE_KEY = r"image-(?P<container>[0-9a-f]{64})-\d+\Z"
VOLUME_KEY = r"volume-[0-9a-f]{32}\Z"

_VALID = r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}\Z"

_QUALITIES = """
able amber brave brisk calm clear crisp deft eager fair fleet frank glad grand happy honest keen kind lucid merry
neat noble plain prompt proud quick quiet ready sharp sober solid steady sunny swift tidy true vivid warm wise witty
"""
_NOUNS = """
alder aspen badger beech birch bison cedar crane curlew dingo eagle egret elm falcon finch fox gannet hazel heron
ibex jackal kestrel larch lark linden lynx maple marten oak osprey otter owl pine plover puffin raven robin rowan
stork swift tern thrush walnut willow wren yew
"""


def check(name: str, what: str = "container") -> str:
    """Return ``name`` if it can name a container, or something else of the user's.

    :param what: what it is to name, for the message.
    :raises InvalidArgument: it cannot; says which characters may.
    """
    if not is_valid(name):
        raise InvalidArgument(
            f"{name!r} cannot be a {what} name",
            hint="use 2 to 128 of a-z A-Z 0-9 _ . - and begin with a letter or digit",
        )
    return name


def is_valid(name: str) -> bool:
    """Whether something of the user's can have this name."""
    return re.match(_VALID, name) is not None


def suggest() -> str:
    """Return a random name such as ``calm_heron``; it may be taken."""
    return f"{_any_of(_QUALITIES.split())}_{_any_of(_NOUNS.split())}"


def _any_of(words: list[str]) -> str:
    return words[int.from_bytes(os.urandom(4)) % len(words)]


def snapshot_key(container_id: str) -> str:
    """Return a new key for one more snapshot of a container: of its first, named by the id alone, and of all others.

    Whose a snapshot is can be told from its key; one that no record has is a leftover (:data:`SNAPSHOT_KEY`).
    """
    return f"{container_id}.{os.urandom(4).hex()}"


def image_key(container_id: str, number: int) -> str:
    """Return the key of the copy of an image that a running container has mounted, its ``number``-th mount."""
    return f"image-{container_id}-{number}"


def volume_key() -> str:
    """Return a new key for a volume's snapshot in a storage driver."""
    return f"volume-{os.urandom(16).hex()}"
