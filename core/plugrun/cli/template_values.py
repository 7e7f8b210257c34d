"""What a template of ``--format`` does with values: fields, blocks, functions, and how a value is written.

It is written as Go does: ``[a b]``, ``map[k:v]``, ``true``, and ``<no value>`` for none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from plugrun.cli.text import printable
from plugrun.errors import InvalidArgument

CONSTANTS: Mapping[str, Any] = {"true": True, "false": False, "nil": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}

_Scope = dict[str, Any]
_Evaluate = Callable[[_Scope], Any]
_Write = Callable[[_Scope], str]


class Escaped(str):
    """Text that is safe to print: what values held is escaped, and line ends are those the template asked for."""

    __slots__ = ()


def shown(value: Any) -> Escaped:
    """Return a value as Go's ``%v`` writes it, escaped."""
    if isinstance(value, Escaped):
        return value
    if value is None:
        return Escaped("<no value>")
    if isinstance(value, bool):
        return Escaped(str(value).lower())
    if isinstance(value, Mapping):
        return Escaped(f"map[{' '.join(f'{shown(key)}:{shown(value[key])}' for key in sorted(value))}]")
    if isinstance(value, list | tuple):
        return Escaped(f"[{' '.join(map(shown, value))}]")
    return Escaped(printable(str(value)))


# --- Parts of a template ---------------------------------------------------------------------------------------------


def constant(kind: str, text: str) -> Any:
    """Return what a literal means."""
    if kind == "number":
        return int(text)
    if kind == "word":
        return CONSTANTS[text]
    if text.startswith("`"):
        return Escaped(text[1:-1])
    return Escaped(re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text[1:-1], flags=re.DOTALL))


def field(path: str) -> _Evaluate:
    """Return what looks up ``.Field.Field`` or ``$variable.Field``."""
    variable, _, names = path.partition(".")

    def evaluate(scope: _Scope) -> Any:
        if variable not in scope:
            raise InvalidArgument(f"there is no variable {variable} in {{{{{path}}}}}")
        return look_up(scope[variable], names)

    return evaluate


def chained(value: _Evaluate, names: str) -> _Evaluate:
    """Return what looks up the fields behind a parenthesis."""
    return lambda scope: look_up(value(scope), names.removeprefix("."))


def look_up(value: Any, path: str) -> Any:
    """Return what is at ``Field.Field`` of a value.

    :raises InvalidArgument: there is no such field; the hint lists those there are.
    """
    for name in filter(None, path.split(".")):
        if not isinstance(value, Mapping) or name not in value:
            known = ", ".join(sorted(value)) if isinstance(value, Mapping) else ""
            raise InvalidArgument(
                f"there is no field {name!r} in {{{{.{path}}}}}", hint=f"there are: {known or 'none'}"
            )
        value = value[name]
    return value


def joined(writes: Sequence[_Write]) -> _Write:
    """Return what writes one part after the other."""
    return lambda scope: "".join(write(scope) for write in writes)


def called(name: str, function: Callable[..., Any], operands: Sequence[_Evaluate]) -> _Evaluate:
    """Return what calls a function."""

    def evaluate(scope: _Scope) -> Any:
        found = [operand(scope) for operand in operands]
        try:
            return function(*found)
        except (TypeError, ValueError, AttributeError, IndexError, KeyError, OverflowError):
            given = " ".join(f"{json.dumps(one, default=str):.60}" for one in found) or "nothing"
            raise InvalidArgument(f"the template's function {name} cannot be applied to {given}") from None

    return evaluate


def block(keyword: str, names: Sequence[str], value: _Evaluate, body: _Write, otherwise: _Write) -> _Write:
    """Return what writes ``if``, ``with`` or ``range``.

    :param names: the variables it declares.
    """

    def write(scope: _Scope) -> str:
        found = value(scope)
        if not found:
            return otherwise(scope)
        if keyword == "range":
            return "".join(body({**scope, **_variables(names, pair), "": pair[1]}) for pair in _pairs(found))
        inner = {**scope, **_variables(names, (found,))}
        return body({**inner, "": found} if keyword == "with" else inner)

    return write


def _variables(names: Sequence[str], pair: Sequence[Any]) -> _Scope:
    return dict(zip(names, pair[-len(names) :], strict=False)) if names else {}


def _pairs(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, list | tuple):
        return enumerate(value)
    raise InvalidArgument(f"the template cannot range over {json.dumps(value, default=str):.60}")


# --- Functions -------------------------------------------------------------------------------------------------------


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, "")  # as Go, whose maps have a zero value for every key
        elif isinstance(key, int) and isinstance(value, list | tuple) and 0 <= key < len(value):
            value = value[key]
        else:
            raise IndexError
    return value


def _join(values: Sequence[Any], separator: str) -> str:
    return Escaped(separator.join(map(shown, values)))


def _printf(text: str, *values: Any) -> str:
    """Format with Go's verbs, as far as they mean in Python what they mean in Go; ``%v`` and ``%q`` besides."""
    verbs = re.findall(r"%[-+ 0#]*\d*(?:\.\d+)?([a-z%])", text)
    kinds = [verb for verb in verbs if verb != "%"]
    ready = [
        json.dumps(value) if kind == "q" else shown(value) if kind in "sv" else value
        for kind, value in zip(kinds, values, strict=True)
    ]
    return Escaped(re.sub(r"(%[-+ 0#]*\d*(?:\.\d+)?)[vq]", r"\1s", text) % tuple(ready))


def _is_equal(value: Any, *others: Any) -> bool:
    if not others:
        raise TypeError
    return value in others


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "eq": _is_equal,
    "index": _index,
    "join": _join,
    "json": lambda value: Escaped(json.dumps(value, default=str)),
    "len": len,
    "lower": str.lower,
    "ne": lambda value, other: value != other,
    "not": lambda value: not value,
    "or": lambda *values: next((value for value in values if value), values[-1]),
    "pad": lambda text, before, after: " " * before + text + " " * after if text else text,
    "print": lambda *values: Escaped(" ".join(map(shown, values))),
    "printf": _printf,
    "println": lambda *values: Escaped(" ".join(map(shown, values)) + "\n"),
    "slice": lambda value, *ends: value[slice(*ends)] if len(ends) > 1 else value[ends[0] :],
    "split": lambda text, separator: text.split(separator),
    "title": str.title,
    "truncate": lambda text, length: text[:length],
    "upper": str.upper,
}
# In the heading of a table a field is its own name, which these leave alone.
HEADINGS: Mapping[str, Callable[..., Any]] = {
    **FUNCTIONS,
    **dict.fromkeys(
        ("index", "join", "json", "len", "lower", "slice", "split", "title", "truncate", "upper"), lambda name, *_: name
    ),
}
