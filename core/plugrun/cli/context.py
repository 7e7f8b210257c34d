"""What every command shares: the global options and the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from plugrun import paths
from plugrun.cli.params import option
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.engine import Engine


class Globals(NamedTuple):
    """The options before the command's name."""

    storage: Annotated[str | None, option(help="Storage driver of new containers.", metavar="DRIVER")] = None
    net: Annotated[str | None, option(help="Network of new containers.", metavar="NETWORK")] = None
    root: Annotated[str | None, option(help="Where images and containers are kept.", metavar="DIR")] = None
    runroot: Annotated[str | None, option(help="Where run-time state is kept.", metavar="DIR")] = None
    runtime: Annotated[str | None, option(help="OCI runtime, by name or path.", metavar="RUNTIME")] = None
    debug: Annotated[bool, option("--debug", "-D", help="Show where errors come from.")] = False
    version: Annotated[bool, option("--version", "-v", help="Print the version.")] = False


@contextlib.contextmanager
def engine(common: Globals, *, changes: bool = True) -> Iterator[Engine]:
    """Open the engine for one command.

    :param changes: whether the command changes something; then what a crash left is settled first.
    """
    from plugrun.engine import Engine

    where = paths.resolve(common.root, common.runroot)
    where.ensure()
    opened = Engine(where, warn=_warn)
    try:
        if changes:
            from plugrun.lifecycle.reconcile import reconcile

            reconcile(opened)
        yield opened
    finally:
        opened.close()


def _warn(message: str) -> None:
    from plugrun.cli.live import warn  # most commands have nothing to warn of

    warn(message)
