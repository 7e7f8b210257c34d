"""``plugrun run`` and ``plugrun create``."""

from __future__ import annotations

import os
from typing import Annotated

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.options import PROCESS, ContainerOptions
from plugrun.cli.params import argument, option
from plugrun.cli.parse import require_terminal
from plugrun.cli.progress import unpacking
from plugrun.errors import AlreadyExists, PlugrunError

_Image = Annotated[str, argument("IMAGE")]
_Command = Annotated[list[str] | None, argument("[COMMAND] [ARG]...")]


def create(
    common: Globals,
    options: ContainerOptions,
    image: _Image,
    command: _Command = None,
    cidfile: Annotated[
        str | None, option(help="Write the container's id to this file.", metavar="FILE", panel=PROCESS)
    ] = None,
    rm: Annotated[bool, option("--rm", help="Remove the container when it ends.", panel=PROCESS)] = False,
) -> None:
    """Make a container without starting it; print its id."""
    from plugrun.lifecycle.create import create as make

    request = options.request(image, command or [], common, auto_remove=rm)
    _refuse_existing(cidfile)
    with engine(common) as opened, unpacking(image) as progress:
        record = make(opened, request, progress=progress)
    _write_id(cidfile, record.id)
    text.say(record.id)


def run(
    common: Globals,
    options: ContainerOptions,
    image: _Image,
    command: _Command = None,
    detach: Annotated[bool, option("--detach", "-d", help="Print the id and leave it running.", panel=PROCESS)] = False,
    rm: Annotated[bool, option("--rm", help="Remove the container when it ends.", panel=PROCESS)] = False,
    cidfile: Annotated[
        str | None, option(help="Write the container's id to this file.", metavar="FILE", panel=PROCESS)
    ] = None,
    detach_keys: Annotated[
        str, option(help="Keys that leave it running.", metavar="KEYS", panel=PROCESS)
    ] = "ctrl-p,ctrl-q",
    sig_proxy: Annotated[bool, option(help="Pass signals on to the container.", panel=PROCESS)] = True,
) -> int:
    """Run a command in a new container."""
    from plugrun.lifecycle.create import create as make
    from plugrun.lifecycle.remove import remove
    from plugrun.lifecycle.start import start

    request = options.request(image, command or [], common, auto_remove=rm)
    _refuse_existing(cidfile)
    if not detach:
        require_terminal(tty=options.tty, stdin=options.interactive)
    with engine(common) as opened:
        with unpacking(image) as progress:
            record = make(opened, request, progress=progress)
        try:
            _write_id(cidfile, record.id)
            if detach:
                start(opened, record.id)
                text.say(record.id)
                return 0
            from plugrun.foreground import Streams, run_attached

            streams = Streams(stdin=options.interactive, detach_keys=detach_keys, forward_signals=sig_proxy)
            return run_attached(opened, record, streams)
        except PlugrunError:
            if rm and (left := opened.containers.get(record.id)) is not None:
                remove(opened, left, force=True)
            raise


def _refuse_existing(cidfile: str | None) -> None:
    if cidfile is not None and os.path.lexists(cidfile):
        raise AlreadyExists(f"the --cidfile {cidfile} exists already", hint="remove it or choose another one")


def _write_id(cidfile: str | None, container_id: str) -> None:
    if cidfile is not None:
        with open(cidfile, "x", encoding="ascii") as stream:
            stream.write(container_id)
