"""``plugrun exec``."""

from __future__ import annotations

from typing import Annotated

import typer

from plugrun.cli import parse
from plugrun.cli.context import engine


def exec_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="CONTAINER", show_default=False)],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND [ARG]...", show_default=False)],
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Do not wait for it.")] = False,
    interactive: Annotated[bool, typer.Option("--interactive", "-i", help="Give it our stdin.")] = False,
    tty: Annotated[bool, typer.Option("--tty", "-t", help="Give it a terminal.")] = False,
    env: Annotated[
        list[str] | None, typer.Option("--env", "-e", help="Environment variable.", metavar="NAME[=VALUE]")
    ] = None,
    env_file: Annotated[list[str] | None, typer.Option(help="File of variables, one a line.", metavar="FILE")] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="User.", metavar="USER[:GROUP]")] = None,
    workdir: Annotated[str | None, typer.Option("--workdir", "-w", help="Working directory.", metavar="DIR")] = None,
    detach_keys: Annotated[str, typer.Option(help="Keys that leave it running.", metavar="KEYS")] = "ctrl-p,ctrl-q",
) -> int:
    """Execute a command in a running container."""
    from plugrun.lifecycle.execute import Execution, prepare
    from plugrun.oci import exec as session
    from plugrun.oci import keys

    sequence = keys.parse(detach_keys)
    what = Execution(
        args=command,
        env=parse.environment(env_file or [], env or []),
        workdir=parse.workdir(workdir),
        user=user,
        tty=tty,
        stdin_open=interactive and not detach,
    )
    if not detach:
        parse.require_terminal(tty=tty, stdin=interactive)
    with engine(ctx) as opened:
        request = prepare(opened, opened.containers.find(name), what)
        if detach:
            session.exec_detached(request)
            return 0
        return session.exec_foreground(request, detach_keys=sequence)
