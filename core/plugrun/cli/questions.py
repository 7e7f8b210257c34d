"""Questions to the person at the terminal."""

from __future__ import annotations

import sys
from typing import TextIO

from plugrun import terminal
from plugrun.errors import FailedPrecondition


def ask(question: str, stream: TextIO) -> str:
    """Return the line that is typed after a question, ``""`` when there is none; a line end follows in any case."""
    answer = ""
    try:
        print(question, end="", file=stream, flush=True)
        answer = sys.stdin.readline()
    finally:
        if not answer.endswith("\n"):  # Ctrl-C or Ctrl-D
            print(file=stream, flush=True)
    return answer


def confirm(warning: str) -> None:
    """Have the person at the terminal agree to something that cannot be undone.

    :raises FailedPrecondition: the answer is not yes, or there is nobody to ask.
    """
    if not terminal.is_terminal(0):
        raise FailedPrecondition("nobody can be asked: standard input is not a terminal", hint="use --force (-f)")
    print(f"WARNING! {warning}", file=sys.stderr)
    if ask("Are you sure you want to continue? [y/N] ", sys.stderr).strip().lower() not in {"y", "yes"}:
        raise FailedPrecondition("nothing was removed")
