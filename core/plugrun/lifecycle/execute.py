"""Execute: one more process in a running container."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from plugrun.errors import FailedPrecondition
from plugrun.lifecycle.state import is_running
from plugrun.oci.exec import ExecRequest, ExecUser
from plugrun.rootfd import RootDir
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine
    from plugrun.oci.user import Identity


class Execution(NamedTuple):
    """What to execute; ``None`` means as the container's first process.

    :param env: ``NAME=value`` strings over the container's.
    """

    args: Sequence[str]
    env: Sequence[str] = ()
    workdir: str | None = None
    user: str | None = None
    tty: bool = False
    stdin_open: bool = False


def prepare(engine: Engine, record: ContainerRecord, what: Execution) -> ExecRequest:
    """Turn an execution into what the monitor starts.

    :raises FailedPrecondition: the container does not run.
    :raises InvalidArgument: the image knows no such user.
    """
    if not is_running(record):
        raise FailedPrecondition(
            f"container {record.name} is not running", hint=f"start it first: plugrun start {record.name}"
        )
    identity = None if what.user is None else _identity(engine, record, what.user)
    home = [] if identity is None else [f"HOME={identity.home}"]
    client, run = engine.runtime(record), engine.paths.run(record.id)
    return ExecRequest(
        container_id=record.id,
        bundle=run,
        run_dir=run,
        runtime=client.runtime,
        runtime_root=str(engine.paths.runtime_state),
        args=tuple(what.args),
        env=(*home, *what.env),
        cwd=what.workdir,
        user=ExecUser(identity.uid, identity.gid, identity.additional_gids) if identity else None,
        tty=what.tty,
        stdin_open=what.stdin_open,
    )


def _identity(engine: Engine, record: ContainerRecord, user: str) -> Identity:
    from plugrun.oci.user import resolve

    with RootDir.at(engine.paths.rootfs(record.id)) as root:
        return resolve(root, user)
