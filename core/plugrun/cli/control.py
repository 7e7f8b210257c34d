"""``start``, ``stop``, ``kill``, ``wait``, ``rm``: commands on containers that exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.errors import report
from plugrun.cli.params import argument, option
from plugrun.errors import PlugrunError
from plugrun.validate import signal_number

if TYPE_CHECKING:
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine

_Names = Annotated[list[str], argument("CONTAINER...")]
_Keys = Annotated[str, option(help="Keys that leave it running.", metavar="KEYS")]


def start(
    common: Globals,
    names: _Names,
    attach: Annotated[bool, option("--attach", "-a", help="Attach to it.")] = False,
    interactive: Annotated[bool, option("--interactive", "-i", help="Attach its stdin too.")] = False,
    detach_keys: _Keys = "ctrl-p,ctrl-q",
) -> int:
    """Start containers."""
    from plugrun.lifecycle import start as lifecycle

    with engine(common) as opened:
        if (attach or interactive) and len(names) == 1:
            from plugrun.foreground import Streams, run_attached

            streams = Streams(stdin=interactive, detach_keys=detach_keys)
            return run_attached(opened, opened.containers.find(names[0]), streams)
        return _each(opened, names, lambda record: lifecycle.start(opened, record.id))


def stop(
    common: Globals,
    names: _Names,
    time: Annotated[
        int | None, option("--time", "--timeout", "-t", help="Seconds before it is killed.", metavar="SECONDS")
    ] = None,
    signal: Annotated[str | None, option("--signal", "-s", help="Signal to send first.", metavar="SIGNAL")] = None,
) -> int:
    """Stop containers: their stop signal first, SIGKILL when that does not help."""
    from plugrun.lifecycle import end

    def one(record: ContainerRecord) -> None:
        seconds = record.config.stop_timeout if time is None else time
        end.stop(opened, record, seconds, signal_number(signal or record.config.stop_signal))

    with engine(common) as opened:
        return _each(opened, names, one)


def kill(
    common: Globals,
    names: _Names,
    signal: Annotated[str, option("--signal", "-s", help="Signal to send.", metavar="SIGNAL")] = "KILL",
) -> int:
    """Send a signal to containers, SIGKILL unless told otherwise."""
    from plugrun.lifecycle import end

    number = signal_number(signal)
    with engine(common) as opened:
        return _each(opened, names, lambda record: end.kill(opened, record, number))


def wait(common: Globals, names: _Names) -> int:
    """Wait for containers to end; print their exit codes."""
    from plugrun.lifecycle import end

    with engine(common, changes=False) as opened:
        return _each(opened, names, lambda record: end.wait(opened, record))


def rm(
    common: Globals,
    names: _Names,
    force: Annotated[
        bool, option("--force", "-f", help="Kill them first if they run; remove their snapshots too.")
    ] = False,
    volumes: Annotated[bool, option("--volumes", "-v", help="Remove their anonymous volumes too.")] = False,
) -> int:
    """Remove containers."""
    from plugrun.errors import NotFound
    from plugrun.lifecycle.remove import remove

    def one(record: ContainerRecord) -> None:
        remove(opened, record, force=force, volumes=volumes)

    with engine(common) as opened:
        return _each(opened, names, one, ignore=NotFound if force else None)


def cleanup(common: Globals, name: Annotated[str, argument("CONTAINER")]) -> None:
    """Release what an ended container holds; its monitor calls this."""
    from plugrun.lifecycle.end import clean_up

    with engine(common, changes=False) as opened:
        clean_up(opened, name)


def _each(
    opened: Engine,
    names: list[str],
    act: Callable[[ContainerRecord], object],
    *,
    ignore: type[PlugrunError] | None = None,
) -> int:
    """Act on each container whatever becomes of the others; print what succeeded, report what did not.

    :return: 1 if any failed.
    """
    failed = 0
    for name in names:
        try:
            result = act(opened.containers.find(name))
        except (PlugrunError, ExceptionGroup) as error:
            if ignore is not None and isinstance(error, ignore):
                continue
            report(error)
            failed = 1
        else:
            text.say(str(result) if isinstance(result, int) else name)
    return failed
