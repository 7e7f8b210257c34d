"""``plugrun rollback`` and ``clone``: containers that go back, and that branch off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option

if TYPE_CHECKING:
    from plugrun.engine import Engine

_Container = Annotated[str, argument("CONTAINER")]


def rollback(
    common: Globals,
    container: _Container,
    name: Annotated[str, argument("SNAPSHOT")],
    stop: Annotated[bool, option("--stop", help="Stop it first if it runs.")] = False,
    start: Annotated[bool, option("--start", help="Start it afterwards.")] = False,
) -> None:
    """Give a container back what it had written when a snapshot was taken. What it wrote since is lost.

    The snapshot stays. Volumes, the container's log and its configuration are not touched.
    """
    from plugrun.lifecycle.rollback import rollback as roll_back

    with engine(common) as opened:
        record = roll_back(opened, opened.containers.find(container), name, stop=stop)
        if start:
            _start(opened, record.id)
    text.say(container)


def clone(
    common: Globals,
    container: _Container,
    new: Annotated[str, argument("NEW")],
    snapshot: Annotated[
        str | None, option("--snapshot", help="Begin with this snapshot, not with what is there now.", metavar="NAME")
    ] = None,
    start: Annotated[bool, option("--start", help="Start the new one.")] = False,
) -> None:
    """Make a container NEW of the same configuration that begins with what CONTAINER has written; print its id.

    A running container stands still for that moment, and goes on. Volumes are shared, not copied.
    """
    from plugrun.cli.snapshot import tell
    from plugrun.lifecycle.clone import clone as branch

    with engine(common) as opened:
        record, pause = branch(opened, opened.containers.find(container), new, snapshot=snapshot)
        tell(pause, new)
        if start:
            _start(opened, record.id)
    text.say(record.id)


def _start(opened: Engine, container_id: str) -> None:
    from plugrun.lifecycle.start import start

    start(opened, container_id)
