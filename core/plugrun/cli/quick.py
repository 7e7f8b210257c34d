"""The quick parser: command lines that are right, without Typer, whose import takes longer than the rest of a parse.

Importing Typer takes 40 ms here, and building a command with it some more; this takes 3, and podman's whole ``run``
130. It reads what commands declare (``params``) as Typer does, and answers ``None`` for whatever it does not
understand: help, mistakes, completion, plugins' commands. Typer then has the last word, and the words of all messages.
The one thing it takes beyond Typer is ``--flag=true`` and ``--flag=false``, as Docker does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from plugrun.cli import commands
from plugrun.cli.context import Globals
from plugrun.cli.params import REQUIRED, Argument, Option, Parameter, call, fields, parameters

_TRUTH = {"true": True, "false": False, "1": True, "0": False}
_INTEGER_DIGITS = 18  # beyond, Typer says what is wrong


class _NotUnderstood(Exception):
    pass


def parse(words: Sequence[str]) -> tuple[commands.Entry, Globals, dict[Parameter, Any]] | None:
    """Understand a command line, without the program's name.

    :return: the command and a value for each of its parameters; ``None`` if Typer has to look at it.
    """
    try:
        values, rest = _options(fields(Globals), list(words), interspersed=False)
        common = Globals(**{one.name: value for one, value in values.items()})
        found = commands.find(rest)
        if common.version and not rest:
            return commands.VERSION, common, {}
        if found is None or common.version:
            return None
        entry, rest = found
        declared = list(parameters(entry.load()))
        own, positional = _options(declared, rest, interspersed=not entry.command_last)
        own |= _arguments([one for one in declared if isinstance(one.marker, Argument)], positional)
        return entry, common, _complete(declared, own)
    except _NotUnderstood:
        return None


def execute(words: Sequence[str]) -> tuple[bool, Any]:
    """Parse a command line and call its command.

    :return: whether it was understood, and the command's result.
    """
    understood = parse(words)
    if understood is None:
        return False, None
    entry, common, values = understood
    return True, call(entry.load(), common, values)


def _options(
    declared: Iterable[Parameter], words: list[str], *, interspersed: bool
) -> tuple[dict[Parameter, Any], list[str]]:
    """Take the options out of ``words``; return their values and the words left."""
    known = dict(_names(declared))
    values: dict[Parameter, Any] = {}
    left: list[str] = []
    words.reverse()  # a stack: the next word is at the end
    while words:
        word = words.pop()
        if word == "--":
            break
        if word == "-" or not word.startswith("-"):
            left.append(word)
            if interspersed:
                continue
            break
        if word.startswith("--"):
            _long(word, words, known, values)
        else:
            _short(word, words, known, values)
    return values, left + words[::-1]


def _names(declared: Iterable[Parameter]) -> Iterator[tuple[str, tuple[Parameter, bool]]]:
    """Yield every name of every option, with what a flag of that name means."""
    for parameter in declared:
        if isinstance(parameter.marker, Option):
            yield from ((name, (parameter, True)) for name in parameter.names)
            if parameter.negation:
                yield parameter.negation, (parameter, False)


def _long(word: str, words: list[str], known: dict[str, tuple[Parameter, bool]], values: dict[Parameter, Any]) -> None:
    name, equals, text = word.partition("=")
    parameter, meaning = _look_up(name, known)
    if parameter.kind is not bool:
        _set(parameter, text if equals else _next(words), values)
    elif not equals:
        values[parameter] = meaning
    elif meaning and text in _TRUTH:
        values[parameter] = _TRUTH[text]
    else:
        raise _NotUnderstood


def _short(word: str, words: list[str], known: dict[str, tuple[Parameter, bool]], values: dict[Parameter, Any]) -> None:
    """Read ``-i``, ``-it``, ``-w/tmp`` or ``-itw /tmp``."""
    for position, letter in enumerate(word[1:], 2):
        parameter, meaning = _look_up(f"-{letter}", known)
        if parameter.kind is not bool:
            _set(parameter, word[position:] or _next(words), values)
            return
        values[parameter] = meaning


def _look_up(name: str, known: dict[str, tuple[Parameter, bool]]) -> tuple[Parameter, bool]:
    if name not in known:
        raise _NotUnderstood
    return known[name]


def _next(words: list[str]) -> str:
    if not words:
        raise _NotUnderstood
    return words.pop()


def _set(parameter: Parameter, text: str, values: dict[Parameter, Any]) -> None:
    if parameter.kind is list:
        values.setdefault(parameter, []).append(text)
    else:
        values[parameter] = _integer(text) if parameter.kind is int else text


def _integer(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _INTEGER_DIGITS):
        raise _NotUnderstood
    return int(text)


def _arguments(declared: Sequence[Parameter], words: list[str]) -> dict[Parameter, Any]:
    """Give positional arguments their words; a list, always the last, takes the rest."""
    values: dict[Parameter, Any] = {}
    for parameter in declared:
        if parameter.kind is list and words:
            values[parameter], words = words, []
        elif words:
            values[parameter], words = words[0], words[1:]
    if words:
        raise _NotUnderstood
    return values


def _complete(declared: Sequence[Parameter], values: dict[Parameter, Any]) -> dict[Parameter, Any]:
    complete = {one: values.get(one, one.default) for one in declared}
    if any(value is REQUIRED for value in complete.values()):
        raise _NotUnderstood
    return complete
