"""What every command shares: the global options and the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from plugrun import paths

if TYPE_CHECKING:
    import typer

    from plugrun.engine import Engine


class Globals(NamedTuple):
    """The options before the command's name."""

    root: str | None = None
    run_root: str | None = None
    storage: str | None = None
    network: str | None = None
    runtime: str | None = None
    debug: bool = False


def global_options(ctx: typer.Context) -> Globals:
    """Return the global options of this command line."""
    found = ctx.find_root().obj
    return found if isinstance(found, Globals) else Globals()


@contextlib.contextmanager
def engine(ctx: typer.Context, *, changes: bool = True) -> Iterator[Engine]:
    """Open the engine for one command.

    :param changes: whether the command changes something; then what a crash left is settled first.
    """
    from plugrun.engine import Engine

    options = global_options(ctx)
    where = paths.resolve(options.root, options.run_root)
    where.ensure()
    opened = Engine(where)
    try:
        if changes:
            from plugrun.lifecycle.reconcile import reconcile

            reconcile(opened)
        yield opened
    finally:
        opened.close()
