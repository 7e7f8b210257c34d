"""Which networks a ``--filter`` means: Docker's keys, and how several go together.

Several values of one key are alternatives, except labels, of which all must fit; different keys must all fit. Source:
https://docs.docker.com/reference/cli/docker/network/ls/, "Filtering".
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING

from plugrun import times
from plugrun.errors import InvalidArgument

if TYPE_CHECKING:
    from plugrun.state.networks import NetworkRecord

Filter = Callable[["NetworkRecord"], bool]

_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_TOGETHER = {"label", "label!"}  # keys of which all values must fit

LISTING = {
    "name": "TEXT",
    "driver": "NAME",
    "label": "KEY[=VALUE]",
    "label!": "KEY[=VALUE]",
    "id": "DIGITS",
    "dangling": "true",
}
PRUNING = {"label": "KEY[=VALUE]", "label!": "KEY[=VALUE]", "until": "TIME"}


def parse(texts: Sequence[str], used: Container[str], known: dict[str, str] = LISTING) -> Filter:
    """Return what tells whether a network passes all filters; with none, every network does.

    :param texts: ``key=value`` each.
    :param used: ids of the networks that containers are on.
    :param known: the keys to understand, with a word for their values.
    :raises InvalidArgument: a key is unknown, or a value makes no sense; quotes it.
    """
    found: dict[str, list[Filter]] = {}
    for text in texts:
        key, _, value = text.partition("=")
        if key not in known or not value:
            words = ", ".join(f"{name}={meaning}" for name, meaning in known.items())
            raise InvalidArgument(f"unknown filter {text!r}", hint=f"use {words}")
        found.setdefault(key, []).append(_filter(key, value, used))

    def fits(record: NetworkRecord) -> bool:
        return all((all if key in _TOGETHER else any)(one(record) for one in some) for key, some in found.items())

    return fits


def _filter(key: str, value: str, used: Container[str]) -> Filter:
    if key == "name":
        return lambda record: value in record.network.name
    if key == "driver":
        return lambda record: record.network.driver == value
    if key == "id":
        return lambda record: record.network.id.startswith(value)
    if key == "until":
        moment = times.parse_when(value)
        return lambda record: record.created * 1e9 < moment
    if key == "dangling":
        if value not in _TRUTH:
            raise InvalidArgument(f"filter dangling={value!r} is neither true nor false")
        return lambda record: (record.network.id not in used and not record.network.default) is _TRUTH[value]
    label, equals, wanted = value.partition("=")

    def labelled(record: NetworkRecord) -> bool:
        return label in record.labels and (not equals or record.labels[label] == wanted)

    return labelled if key == "label" else lambda record: not labelled(record)
