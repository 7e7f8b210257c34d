"""The program: a command line to a command, and what an error becomes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from plugrun.cli import commands, quick
from plugrun.cli.errors import DEBUG, exit_code_for, report

_BROKEN_PIPE = 128 + 13  # as a shell reports a process that SIGPIPE ended


def run(words: Sequence[str]) -> int:
    """Run one command line; print what went wrong, if anything.

    :return: the exit code.
    """
    position = next(
        (at for at, word in enumerate(words) if word in commands.TOP or word in commands.GROUPS), len(words)
    )
    if {"--debug", "-D"} & set(words[:position]):
        os.environ[DEBUG] = "1"
    try:
        understood, result = quick.execute(words)
        if not understood:
            from plugrun.cli.program import program

            result = program().main(args=list(words), prog_name="plugrun", standalone_mode=False)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)  # the interpreter flushes once more as it ends
        return _BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the one place where errors become text
        report(error)
        named = [word for word in words[position : position + 2] if word != "container"]
        return exit_code_for(error, "".join(named[:1]))
    return result if isinstance(result, int) else 0
