"""Which volumes a ``--filter`` means: Docker's keys, and how several go together.

Several values of one key are alternatives, except labels, of which all must fit; different keys must all fit. Source:
https://docs.docker.com/reference/cli/docker/volume/ls/, "Filtering".
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING

from plugrun.errors import InvalidArgument

if TYPE_CHECKING:
    from plugrun.state.volumes import Volume

Filter = Callable[["Volume"], bool]

_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_TOGETHER = {"label", "label!"}  # keys of which all values must fit

LISTING = {"name": "TEXT", "label": "KEY[=VALUE]", "label!": "KEY[=VALUE]", "dangling": "true", "driver": "NAME"}
PRUNING = {"label": "KEY[=VALUE]", "label!": "KEY[=VALUE]", "all": "true"}


def parse(texts: Sequence[str], used: Container[str], known: dict[str, str] = LISTING) -> Filter:
    """Return what tells whether a volume passes all filters; with none, every volume does.

    :param texts: ``key=value`` each.
    :param used: names of the volumes that containers use.
    :param known: the keys to understand, with a word for their values.
    :raises InvalidArgument: a key is unknown, or a value makes no sense; quotes it.
    """
    found: dict[str, list[Filter]] = {}
    for text in texts:
        key, _, value = text.partition("=")
        if key not in known or not value:
            words = ", ".join(f"{name}={meaning}" for name, meaning in known.items())
            raise InvalidArgument(f"unknown filter {text!r}", hint=f"use {words}")
        if key != "all":
            found.setdefault(key, []).append(_filter(key, value, used))

    def fits(volume: Volume) -> bool:
        return all((all if key in _TOGETHER else any)(one(volume) for one in some) for key, some in found.items())

    return fits


def truth(text: str) -> bool:
    """Read the value of ``key=true`` or ``key=false``.

    :raises InvalidArgument: it is neither.
    """
    key, _, value = text.partition("=")
    if value not in _TRUTH:
        raise InvalidArgument(f"filter {key}={value!r} is neither true nor false")
    return _TRUTH[value]


def _filter(key: str, value: str, used: Container[str]) -> Filter:
    if key == "name":
        return lambda volume: value in volume.name
    if key == "driver":
        return lambda volume: volume.storage == value
    if key == "dangling":
        dangling = truth(f"{key}={value}")
        return lambda volume: (volume.name not in used) is dangling
    label, equals, wanted = value.partition("=")

    def labelled(volume: Volume) -> bool:
        return label in volume.labels and (not equals or volume.labels[label] == wanted)

    return labelled if key == "label" else lambda volume: not labelled(volume)
