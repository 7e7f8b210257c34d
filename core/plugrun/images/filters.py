"""Which images a ``--filter`` means: Docker's keys, and how several go together.

Several values of one key are alternatives, except labels, of which all must fit; different keys must all fit. Sources:
https://docs.docker.com/reference/cli/docker/image/ls/ and https://docs.docker.com/reference/cli/docker/image/prune/,
"Filtering".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from plugrun import times
from plugrun.errors import InvalidArgument
from plugrun.images import reference

if TYPE_CHECKING:
    from plugrun.images.image import Image

Filter = Callable[["Image", str], bool]  # of an image, and the one of its names that is looked at, "" for none
Find = Callable[[str], "Image"]

_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_TOGETHER = {"label", "label!"}  # keys of which all values must fit
_CLASS = re.compile(r"\[(\^?)((?:\\.|[^\]\\])+)\]", re.DOTALL)

LISTING = {
    "reference": "PATTERN",
    "label": "KEY[=VALUE]",
    "label!": "KEY[=VALUE]",
    "dangling": "true",
    "before": "IMAGE",
    "since": "IMAGE",
    "until": "TIME",
}
PRUNING = {key: LISTING[key] for key in ("until", "label", "label!")}


def parse(texts: Sequence[str], find: Find, known: dict[str, str] = LISTING) -> Filter:
    """Return what tells whether an image passes all filters; with none, every image does.

    :param texts: ``key=value`` each.
    :param find: finds the image that a value names.
    :param known: the keys to understand, with a word for their values.
    :raises InvalidArgument: a key is unknown, or a value makes no sense; quotes it.
    :raises NotFound: there is no image of that name.
    """
    found: dict[str, list[Filter]] = {}
    for text in texts:
        key, _, value = text.partition("=")
        if key not in known or not value:
            words = ", ".join(f"{name}={meaning}" for name, meaning in known.items())
            raise InvalidArgument(f"unknown filter {text!r}", hint=f"use {words}")
        found.setdefault(key, []).append(_MAKERS[key](value, find))

    def fits(image: Image, name: str) -> bool:
        return all(
            (all if key in _TOGETHER else any)(one(image, name) for one in filters) for key, filters in found.items()
        )

    return fits


def _dangling(value: str, _: Find) -> Filter:
    if value not in _TRUTH:
        raise InvalidArgument(f"filter dangling={value!r} is neither true nor false")
    return lambda image, _: (not image.references) is _TRUTH[value]


def _label(value: str, _: Find) -> Filter:
    key, equals, wanted = value.partition("=")

    def fits(image: Image, _: str) -> bool:
        labels = image.config.labels
        return key in labels and (not equals or labels[key] == wanted)

    return fits


def _no_label(value: str, find: Find) -> Filter:
    labelled = _label(value, find)
    return lambda image, name: not labelled(image, name)


def _before(value: str, find: Find) -> Filter:
    moment = find(value).config.created_at
    return lambda image, _: image.config.created_at < moment


def _since(value: str, find: Find) -> Filter:
    moment = find(value).config.created_at
    return lambda image, _: image.config.created_at > moment


def _until(value: str, _: Find) -> Filter:
    moment = times.parse_when(value)
    return lambda image, _: image.config.created_at < moment


def _reference(value: str, _: Find) -> Filter:
    pattern = _pattern(value)
    return lambda _, name: any(pattern.fullmatch(text) for text in _spellings(name))


def _spellings(name: str) -> Sequence[str]:
    """Return what a pattern may match: the name short or spelled out, with and without its tag."""
    try:
        found = reference.parse(name)
    except InvalidArgument:  # no name, or one that another tool made up
        return (name,) if name else ()
    return found.familiar(), found.familiar_name(), found.canonical(), found.name


def _pattern(text: str) -> re.Pattern[str]:
    """Read a shell pattern as Go's path.Match does: ``*`` and ``?`` do not match a slash.

    :raises InvalidArgument: it is malformed.
    """
    parts, position = [], 0
    while position < len(text):
        letter = text[position]
        match = _CLASS.match(text, position)
        if letter == "[" and match:
            parts.append(f"[{match[1]}{_class(match[2])}]")
            position = match.end()
            continue
        if letter == "[" or text[position:] == "\\":
            raise InvalidArgument(f"filter reference={text!r} is no pattern: {letter!r} has no end")
        if letter == "\\":
            position += 1
        parts.append({"*": "[^/]*", "?": "[^/]"}.get(letter) or re.escape(text[position]))
        position += 1
    try:
        return re.compile("".join(parts))
    except re.error as error:
        raise InvalidArgument(f"filter reference={text!r} is no pattern: {error.msg}") from None


def _class(text: str) -> str:
    """Return the inside of a character class, where only a dash and a backslash mean something."""
    return re.sub(r"\\.|[^-]", lambda match: re.escape(match[0][-1]), text, flags=re.DOTALL)


_MAKERS: dict[str, Callable[[str, Find], Filter]] = {
    "reference": _reference,
    "label": _label,
    "label!": _no_label,
    "dangling": _dangling,
    "before": _before,
    "since": _since,
    "until": _until,
}
