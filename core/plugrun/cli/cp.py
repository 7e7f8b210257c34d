"""``plugrun cp``: files and directories into a container and out of it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated

from plugrun import terminal
from plugrun.cli import output_file, progress, text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option
from plugrun.errors import FailedPrecondition


def cp(
    common: Globals,
    source: Annotated[str, argument("SOURCE")],
    destination: Annotated[str, argument("DEST")],
    archive: Annotated[
        bool, option("--archive", "-a", help="Keep owners; out of a container also set-id bits and devices.")
    ] = False,
    follow_link: Annotated[bool, option("--follow-link", "-L", help="Follow a link that SOURCE ends in.")] = False,
    quiet: Annotated[bool, option("--quiet", "-q", help="Print nothing.")] = False,
) -> None:
    """Copy between a container and this host: CONTAINER:PATH DEST, or SOURCE CONTAINER:PATH, or - for a tar stream.

    The container may run or not. Its paths begin at its /. SOURCE/. means the contents of a directory.
    """
    from plugrun.copying import copy, paths

    start, end = paths.sides(source, destination)
    if start.is_stream and terminal.is_terminal(0):
        raise FailedPrecondition(
            "an archive does not come from a terminal", hint="redirect standard input, or name a file"
        )
    way = "from" if start.container is not None else "to"

    def show() -> str:
        return f"Copying {way} container: {text.size(state.bytes)}, {state.items} files"

    out = output_file.standard_output() if end.is_stream else contextlib.nullcontext()
    with out as write, engine(common) as opened, _line(show, quiet=quiet) as tick:
        state = copy.Progress(tell=tick)
        try:
            copy.copy(opened, start, end, copy.Options(archive=archive, follow=follow_link), state, write=write)
        except output_file.ReaderGone:
            raise BrokenPipeError from None
    if not quiet and not end.is_stream and terminal.is_terminal(1):  # as Docker: on stderr, if stdout is for a person
        print(f"Successfully copied {text.size(state.bytes)} to {text.printable(str(end))}", file=sys.stderr)


def _line(show: Callable[[], str], *, quiet: bool) -> AbstractContextManager[Callable[[], None]]:
    return contextlib.nullcontext(lambda: None) if quiet else progress.line(show)
