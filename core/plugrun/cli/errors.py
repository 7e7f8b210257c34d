"""What an error becomes on the command line: one line on stderr and an exit code. Codes are Docker's."""

from __future__ import annotations

import os
import sys

from plugrun.cli.text import printable
from plugrun.errors import CommandNotExecutable, CommandNotFound, PlugrunError

DEBUG = "PLUGRUN_DEBUG"  # in the environment: show where errors come from; ``--debug`` sets it

ENGINE_ERROR = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127

_CREATES = {"run", "create"}


def exit_code_for(error: Exception, command: str) -> int:
    """Return the exit code for an error of ``command``: Docker's table, docs of ``docker run``, "Exit status"."""
    if _is_help(error):
        return 0
    for single in _flat(error):
        if isinstance(single, CommandNotFound):
            return NOT_FOUND
        if isinstance(single, CommandNotExecutable):
            return NOT_EXECUTABLE
    if _is_usage_error(error) or command in _CREATES:
        return ENGINE_ERROR
    return 1


def report(error: Exception) -> None:
    """Print an error: one line for what went wrong, one more for each undo that failed as well."""
    if _is_help(error):  # and it has been printed
        return
    if os.environ.get(DEBUG):
        import traceback

        traceback.print_exception(error)
        return
    for single in _flat(error):
        print(f"plugrun: {printable(_sentence(single))}", file=sys.stderr)


def _is_help(error: Exception) -> bool:
    """Whether this is how a group without a command ends, after its help."""
    return type(error).__name__ == "NoArgsIsHelpError"  # where it is defined differs between Typer's versions


def _sentence(error: Exception) -> str:
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    if isinstance(error, PlugrunError):
        return f"{error}{notes}" + (f"; {error.hint}" if error.hint else "")
    if _is_usage_error(error):
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "plugrun"
        return f"{error.format_message()} (see {where} --help)"  # type: ignore[attr-defined]
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(filter(None, (str(error.filename or ""), error.strerror))) + notes
    return f"internal error: {type(error).__name__}: {error}{notes}; run it again with --debug and report what it shows"


def _is_usage_error(error: Exception) -> bool:
    """Whether Typer complains of the command line; it does only when it has been imported."""
    typer = sys.modules.get("typer")
    # The public name of the base class differs between Typer's versions.
    return typer is not None and isinstance(error, typer.BadParameter.__bases__[0])


def _flat(error: BaseException) -> list[Exception]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _flat(inner)]
    return [error] if isinstance(error, Exception) else []
