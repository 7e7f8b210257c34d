"""``plugrun attach``."""

from __future__ import annotations

from typing import Annotated

from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option
from plugrun.errors import FailedPrecondition
from plugrun.lifecycle.state import is_running


def attach(
    common: Globals,
    name: Annotated[str, argument("CONTAINER")],
    no_stdin: Annotated[bool, option("--no-stdin", help="Leave its stdin alone.")] = False,
    detach_keys: Annotated[str, option(help="Keys that leave it running.", metavar="KEYS")] = "ctrl-p,ctrl-q",
    sig_proxy: Annotated[bool, option(help="Pass signals on to the container.")] = True,
) -> int:
    """Attach to a running container; returns its exit code, or 0 after the detach keys."""
    from plugrun.foreground import Streams, attach_to

    with engine(common) as opened:
        record = opened.containers.find(name)
        if not is_running(record):
            raise FailedPrecondition(f"container {name} is not running", hint=f"start it: plugrun start -a {name}")
        streams = Streams(stdin=not no_stdin, detach_keys=detach_keys, forward_signals=sig_proxy)
        return attach_to(opened, record, streams)
