"""Questions to the person at the terminal."""

from __future__ import annotations

import sys
from typing import TextIO


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
