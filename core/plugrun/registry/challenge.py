"""``WWW-Authenticate``: what a server wants to see (RFC 7235, section 4.1 and appendix C)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from plugrun.tuples import NamedTuple

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = rf'({_WORD})[ \t]*=[ \t]*(?:({_WORD})|"((?:[^"\\]|\\.)*)")(?=[ \t]*(?:,|$))'
_SCHEME = rf"({_WORD})(?=[ \t]|,|$)"
_TOKEN68 = r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))"


class Challenge(NamedTuple):
    """One way to prove who asks.

    :param scheme: in lower case: ``basic``, ``bearer`` or what else there is.
    :param parameters: by name in lower case.
    """

    scheme: str
    parameters: Mapping[str, str]


def parse(headers: Iterable[str]) -> list[Challenge]:
    """Read all challenges of an answer; what follows something unreadable in a header is left out."""
    return [challenge for header in headers for challenge in _parse(header)]


def _parse(text: str) -> Iterable[Challenge]:
    challenges: list[tuple[str, dict[str, str]]] = []
    at = 0
    while (at := _skip(text, at)) < len(text):
        parameter = re.compile(_PARAMETER).match(text, at)
        if parameter and challenges:
            name, token, quoted = parameter.groups()
            value = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            challenges[-1][1].setdefault(name.lower(), value)
            at = parameter.end()
            continue
        scheme = re.compile(_SCHEME).match(text, at)
        if not scheme:
            break
        challenges.append((scheme[1].lower(), {}))
        at = scheme.end()
        if token68 := re.compile(rf"[ \t]+(?!{_PARAMETER}){_TOKEN68}").match(text, at):
            at = token68.end()
    return [Challenge(*challenge) for challenge in challenges]


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t,":
        at += 1
    return at
