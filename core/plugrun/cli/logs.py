"""``plugrun logs``."""

from __future__ import annotations

import os
import sys
from typing import Annotated

from plugrun import processes
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option
from plugrun.errors import InvalidArgument


def logs(
    common: Globals,
    name: Annotated[str, argument("CONTAINER")],
    follow: Annotated[bool, option("--follow", "-f", help="Go on until the container ends.")] = False,
    tail: Annotated[str, option("--tail", "-n", help="Lines from the end.", metavar="N|all")] = "all",
    since: Annotated[str | None, option(help="Leave out what is older.", metavar="TIME")] = None,
    until: Annotated[str | None, option(help="Leave out what is newer.", metavar="TIME")] = None,
    timestamps: Annotated[bool, option("--timestamps", "-t", help="Show when each line came.")] = False,
) -> None:
    """Show what a container has written to its stdout and stderr."""
    from plugrun import logs as records
    from plugrun.times import parse_when

    count = _count(tail)
    start, end = (parse_when(text) if text else None for text in (since, until))
    with engine(common, changes=False) as opened:
        record = opened.containers.find(name)
        path = opened.paths.container(record.id) / "container.log"
        if not path.exists():  # it has never been started
            return
        ended = processes.open_pidfd(record.monitor_pid, record.monitor_start) if follow else None
    outputs = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
    try:
        for piece in records.read(path, follow=follow, ended=ended, tail=count, since=start, until=end):
            output = outputs[piece.stream]
            prefix = f"{piece.time} ".encode() if timestamps and piece.first else b""
            output.write(prefix + piece.data)
            if follow:
                output.flush()
    finally:
        if ended is not None:
            os.close(ended)


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise InvalidArgument(f"--tail {text!r} is not a number of lines", hint="give a number, or all")
    return int(text)
