"""Container names: which are allowed, and a readable one for those who give none."""

from __future__ import annotations

import os
import re

from plugrun.errors import InvalidArgument

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


def check(name: str) -> str:
    """Return ``name`` if it can name a container.

    :raises InvalidArgument: it cannot; says which characters may.
    """
    if not re.match(_VALID, name):
        raise InvalidArgument(
            f"{name!r} cannot be a container name",
            hint="use 2 to 128 of a-z A-Z 0-9 _ . - and begin with a letter or digit",
        )
    return name


def suggest() -> str:
    """Return a random name such as ``calm_heron``; it may be taken."""
    return f"{_any_of(_QUALITIES.split())}_{_any_of(_NOUNS.split())}"


def _any_of(words: list[str]) -> str:
    return words[int.from_bytes(os.urandom(4)) % len(words)]
