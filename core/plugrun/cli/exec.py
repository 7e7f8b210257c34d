"""``plugrun exec``."""

from __future__ import annotations

from typing import Annotated

from plugrun.cli import parse
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option


def exec_(
    common: Globals,
    name: Annotated[str, argument("CONTAINER")],
    command: Annotated[list[str], argument("COMMAND [ARG]...")],
    detach: Annotated[bool, option("--detach", "-d", help="Do not wait for it.")] = False,
    interactive: Annotated[bool, option("--interactive", "-i", help="Give it our stdin.")] = False,
    tty: Annotated[bool, option("--tty", "-t", help="Give it a terminal.")] = False,
    env: Annotated[
        list[str] | None, option("--env", "-e", help="Environment variable.", metavar="NAME[=VALUE]")
    ] = None,
    env_file: Annotated[list[str] | None, option(help="File of variables, one a line.", metavar="FILE")] = None,
    user: Annotated[str | None, option("--user", "-u", help="User.", metavar="USER[:GROUP]")] = None,
    workdir: Annotated[str | None, option("--workdir", "-w", help="Working directory.", metavar="DIR")] = None,
    detach_keys: Annotated[str, option(help="Keys that leave it running.", metavar="KEYS")] = "ctrl-p,ctrl-q",
) -> int:
    """Execute a command in a running container."""
    from plugrun.lifecycle.execute import Execution, prepare
    from plugrun.oci import exec as session
    from plugrun.oci import keys

    for value in (command, env, user, workdir):
        parse.check_text(value)
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
    with engine(common) as opened:
        request = prepare(opened, opened.containers.find(name), what)
        if detach:
            session.exec_detached(request)
            return 0
        return session.exec_foreground(request, detach_keys=sequence)
