"""Templates of ``--format``: the part of Go's text/template that people type, with Docker's functions.

Fields, literals, pipelines, parentheses, ``if``, ``with``, ``range`` and the variables these declare, comments, and
trimming. What a value holds is escaped, since strangers wrote it; what the template says is not. Sources:
https://pkg.go.dev/text/template; https://docs.docker.com/engine/cli/formatting/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from plugrun.cli import template_values as values
from plugrun.errors import InvalidArgument
from plugrun.tuples import NamedTuple

_ACTION = re.compile(r"""\{\{(-(?=\s))?((?:"(?:[^"\\]|\\.)*"|`[^`]*`|[^"`}]|\}(?!\}))*?)((?<=\s)-)?\}\}""", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`) | (?P<number>-?\d+)(?![\w.]) | (?P<word>[A-Za-z_]\w*)(?!\.)
    | (?P<path>\$\w*(?:\.\w+)*|(?:\.\w+)+|\.(?!\w)) | (?P<close>\)(?:\.\w+)*) | (?P<mark>:=|[(|,])""",
    re.VERBOSE,
)
_BLOCKS = {"if", "range", "with"}

Scope = dict[str, Any]  # variables by name; "" is the dot
Evaluate = Callable[[Scope], Any]
Write = Callable[[Scope], str]


class Template:
    """A template that was understood.

    :param functions: those it may call, by name.
    :raises InvalidArgument: it was not; quotes it and says what is wrong.
    """

    def __init__(self, text: str, functions: Mapping[str, Callable[..., Any]] = values.FUNCTIONS) -> None:
        try:
            self._write = _Parser(text, functions).template()
        except RecursionError:
            raise InvalidArgument(f"the template {text[:40]!r}… is nested too deeply") from None

    def fill(self, value: Any) -> str:
        """Return the text for a value.

        :raises InvalidArgument: there is no such field, or a function cannot be applied to what is there.
        """
        return self._write({"": value, "$": value})


class _Part(NamedTuple):
    """Plain text, or an action: what stands between braces, the last token first."""

    text: str
    action: list[tuple[str, str]] | None = None

    @property
    def keyword(self) -> str:
        """The first word of an action."""
        kind, text = self.action[-1] if self.action else ("", "")
        return text if kind == "word" else ""


class _Parser:
    """Reads one template by recursive descent.

    :ivar _tokens: what is left of the action being read, the next token last.
    """

    def __init__(self, text: str, functions: Mapping[str, Callable[..., Any]]) -> None:
        self._text = text
        self._functions = functions
        self._parts = self._split()
        self._tokens: list[tuple[str, str]] = []

    def template(self) -> Write:
        """Read all of it."""
        write, end = self._body()
        if end is not None:
            raise self._error(f"{{{{{end.keyword}}}}} ends nothing")
        return write

    def _split(self) -> Iterator[_Part]:
        position, trim = 0, False
        for match in _ACTION.finditer(self._text):
            yield self._plain(position, match.start(), left=trim, right=bool(match[1]))
            position, trim = match.end(), bool(match[3])
            if not re.fullmatch(r"\s*/\*.*\*/\s*", match[2], re.DOTALL):
                yield _Part("", self._lex(match[2].strip()))
        yield self._plain(position, len(self._text), left=trim, right=False)

    def _plain(self, start: int, end: int, *, left: bool, right: bool) -> _Part:
        text = self._text[start:end]
        if "{{" in text:
            raise self._error("'{{' without '}}'")
        text = text.lstrip() if left else text
        return _Part(text.rstrip() if right else text)

    def _lex(self, text: str) -> list[tuple[str, str]]:
        tokens = []
        while text:
            match = _TOKEN.match(text)
            if match is None or match.lastgroup is None:
                raise self._error(f"{text!r} is not understood")
            tokens.append((match.lastgroup, match[0]))
            text = text[match.end() :].lstrip()
        return tokens[::-1]

    def _body(self) -> tuple[Write, _Part | None]:
        """Read until an ``end`` or ``else`` that belongs to whoever called; return it too."""
        writes: list[Write] = []
        for part in self._parts:
            if part.keyword in {"end", "else"}:
                return values.joined(writes), part
            writes.append(self._one(part))
        return values.joined(writes), None

    def _one(self, part: _Part) -> Write:
        if part.action is None:
            return lambda _: part.text
        self._tokens = part.action
        if part.keyword in _BLOCKS:
            return self._block()
        value = self._whole()
        return lambda scope: values.shown(value(scope))

    def _block(self) -> Write:
        """Read a block from its keyword to its ``end``."""
        keyword = self._tokens.pop()[1]
        names = self._declared()
        value = self._whole()
        body, end = self._body()
        otherwise = values.joined([])
        if end is not None and end.keyword == "else":
            assert end.action is not None
            self._tokens = end.action[:-1]
            if self._tokens and self._tokens[-1][1] in _BLOCKS:  # {{else if …}} shares its {{end}}
                return values.block(keyword, names, value, body, self._block())
            otherwise, end = self._body()
        if end is None or end.keyword != "end":
            raise self._error(f"{{{{{keyword}}}}} has no {{{{end}}}}")
        return values.block(keyword, names, value, body, otherwise)

    def _declared(self) -> list[str]:
        """Read the names in ``$key, $value := …``, if there are any."""
        if ("mark", ":=") not in self._tokens:
            return []
        names = []
        while (token := self._tokens.pop()) != ("mark", ":="):
            names += [token[1]] if token[0] == "path" else []
        return names

    def _whole(self) -> Evaluate:
        """Read a pipeline that is all the rest of an action."""
        value = self._pipeline()
        if self._tokens:
            raise self._error(f"{self._tokens[-1][1]!r} is out of place")
        return value

    def _pipeline(self) -> Evaluate:
        value = self._command()
        while self._tokens and self._tokens[-1] == ("mark", "|"):
            self._tokens.pop()
            value = self._command(value)
        return value

    def _command(self, *piped: Evaluate) -> Evaluate:
        """Read an operand, or a function with its operands; what comes down a pipe is the last of them."""
        kind, name = self._tokens[-1] if self._tokens else ("", "")
        if kind != "word" or name in values.CONSTANTS:
            if piped:
                raise self._error("a pipe leads to no function")
            return self._operand()
        if name not in self._functions:
            raise self._error(f"there is no function {name!r}", hint=f"there are: {', '.join(sorted(self._functions))}")
        self._tokens.pop()
        operands = []
        while self._tokens and self._tokens[-1] != ("mark", "|") and self._tokens[-1][0] != "close":
            operands.append(self._operand())
        return values.called(name, self._functions[name], [*operands, *piped])

    def _operand(self) -> Evaluate:
        if not self._tokens:
            raise self._error("something is missing")
        kind, text = self._tokens.pop()
        if kind == "path":
            return values.field(text)
        if (kind, text) == ("mark", "("):
            value = self._pipeline()
            if not self._tokens or self._tokens[-1][0] != "close":
                raise self._error("')' is missing")
            return values.chained(value, self._tokens.pop()[1][1:])
        if kind in {"string", "number"} or text in values.CONSTANTS:
            constant = values.constant(kind, text)
            return lambda _: constant
        raise self._error(f"{text!r} is out of place")

    def _error(self, why: str, hint: str | None = None) -> InvalidArgument:
        return InvalidArgument(f"the template {self._text!r} cannot be used: {why}", hint=hint)
