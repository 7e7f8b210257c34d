"""The options that ``run`` and ``create`` share, and the request they make."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_type_hints

import typer

from plugrun import validate
from plugrun.cli import parse
from plugrun.container import Resources
from plugrun.request import ContainerRequest

if TYPE_CHECKING:
    from plugrun.cli.context import Globals

_NAMING = "Name and image"
_PROCESS = "Process"
_DRIVERS = "Storage and network"
_FILES = "Files"
_LIMITS = "Limits"
_SECURITY = "Security"


def _option(panel: str, *names: str, help: str, metavar: str | None = None) -> Any:  # noqa: A002 - Typer's word
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel)


class ContainerOptions(NamedTuple):
    """One field an option, in the order of the help; the names and meanings are Docker's."""

    name: Annotated[str | None, _option(_NAMING, "--name", help="Name of the container.")] = None
    hostname: Annotated[str | None, _option(_NAMING, "--hostname", "-h", help="Host name inside.")] = None
    label: Annotated[
        list[str] | None, _option(_NAMING, "--label", "-l", help="Label of the container.", metavar="KEY=VALUE")
    ] = None

    storage: Annotated[str | None, _option(_DRIVERS, "--storage", help="Storage driver.", metavar="DRIVER")] = None
    storage_opt: Annotated[
        list[str] | None, _option(_DRIVERS, "--storage-opt", help="Option of it.", metavar="KEY=VALUE")
    ] = None
    net: Annotated[str | None, _option(_DRIVERS, "--net", "--network", help="Network driver.", metavar="NETWORK")] = (
        None
    )
    net_opt: Annotated[list[str] | None, _option(_DRIVERS, "--net-opt", help="Option of it.", metavar="KEY=VALUE")] = (
        None
    )
    runtime: Annotated[
        str | None, _option(_DRIVERS, "--runtime", help="OCI runtime, by name or path.", metavar="RUNTIME")
    ] = None

    tty: Annotated[bool, _option(_PROCESS, "--tty", "-t", help="Give it a terminal.")] = False
    interactive: Annotated[bool, _option(_PROCESS, "--interactive", "-i", help="Keep its stdin open.")] = False
    entrypoint: Annotated[
        str | None, _option(_PROCESS, "--entrypoint", help="Replace the image's entry point; '' for none.")
    ] = None
    env: Annotated[
        list[str] | None, _option(_PROCESS, "--env", "-e", help="Environment variable.", metavar="NAME[=VALUE]")
    ] = None
    env_file: Annotated[
        list[str] | None, _option(_PROCESS, "--env-file", help="File of variables, one a line.", metavar="FILE")
    ] = None
    workdir: Annotated[str | None, _option(_PROCESS, "--workdir", "-w", help="Working directory.")] = None
    user: Annotated[str | None, _option(_PROCESS, "--user", "-u", help="User.", metavar="USER[:GROUP]")] = None
    init: Annotated[bool, _option(_PROCESS, "--init", help="Run an init that reaps and forwards signals.")] = False
    stop_signal: Annotated[str | None, _option(_PROCESS, "--stop-signal", help="Signal that stops it.")] = None
    stop_timeout: Annotated[
        int | None, _option(_PROCESS, "--stop-timeout", help="Seconds before it is killed.", metavar="SECONDS")
    ] = None

    volume: Annotated[
        list[str] | None, _option(_FILES, "--volume", "-v", help="Bind a host path.", metavar="SOURCE:TARGET[:ro]")
    ] = None
    tmpfs: Annotated[
        list[str] | None, _option(_FILES, "--tmpfs", help="Mount a tmpfs.", metavar="TARGET[:OPTIONS]")
    ] = None
    read_only: Annotated[bool, _option(_FILES, "--read-only", help="Make its root file system read-only.")] = False
    shm_size: Annotated[str | None, _option(_FILES, "--shm-size", help="Size of /dev/shm.", metavar="BYTES")] = None

    memory: Annotated[str | None, _option(_LIMITS, "--memory", "-m", help="Memory limit.", metavar="BYTES")] = None
    memory_swap: Annotated[
        str | None, _option(_LIMITS, "--memory-swap", help="Memory and swap; -1 for no limit.", metavar="BYTES")
    ] = None
    cpus: Annotated[str | None, _option(_LIMITS, "--cpus", help="Number of CPUs, e.g. 1.5.", metavar="NUMBER")] = None
    pids_limit: Annotated[
        int | None, _option(_LIMITS, "--pids-limit", help="Number of tasks; -1 for no limit.", metavar="NUMBER")
    ] = None
    ulimit: Annotated[
        list[str] | None, _option(_LIMITS, "--ulimit", help="Resource limit.", metavar="NAME=SOFT[:HARD]")
    ] = None

    cap_add: Annotated[list[str] | None, _option(_SECURITY, "--cap-add", help="Add a capability.")] = None
    cap_drop: Annotated[list[str] | None, _option(_SECURITY, "--cap-drop", help="Drop a capability.")] = None
    security_opt: Annotated[
        list[str] | None,
        _option(_SECURITY, "--security-opt", help="no-new-privileges, seccomp=FILE or seccomp=unconfined."),
    ] = None
    privileged: Annotated[bool, _option(_SECURITY, "--privileged", help="Give it all rights of the host.")] = False

    def request(
        self, image: str, command: list[str], options: Globals, *, auto_remove: bool = False
    ) -> ContainerRequest:
        """Turn the texts into a request.

        :raises InvalidArgument: one of them makes no sense; quotes it.
        """
        return ContainerRequest(
            image=image,
            command=command,
            name=self.name,
            entrypoint=None if self.entrypoint is None else [self.entrypoint] if self.entrypoint else [],
            env=parse.environment(self.env_file or [], self.env or []),
            workdir=parse.workdir(self.workdir),
            user=self.user,
            hostname=parse.optional(validate.hostname, self.hostname),
            labels=parse.labels(self.label or []),
            tty=self.tty,
            stdin_open=self.interactive,
            binds=[parse.volume(value) for value in self.volume or []],
            tmpfs=dict(parse.tmpfs(value) for value in self.tmpfs or []),
            read_only=self.read_only,
            init=self.init,
            security=parse.security(
                self.security_opt or [], self.cap_add or [], self.cap_drop or [], privileged=self.privileged
            ),
            resources=Resources(
                memory=parse.optional(validate.memory, self.memory),
                memory_swap=parse.optional(validate.memory_swap, self.memory_swap),
                cpus=parse.optional(validate.cpus, self.cpus),
                pids=parse.pids(self.pids_limit),
            ),
            ulimits=dict(validate.ulimit(value) for value in self.ulimit or []),
            shm_size=parse.optional(validate.size, self.shm_size),
            stop_signal=parse.optional(parse.stop_signal, self.stop_signal),
            stop_timeout=self.stop_timeout,
            auto_remove=auto_remove,
            storage=self.storage or options.storage,
            storage_options=parse.driver_options(self.storage_opt or [], "--storage-opt"),
            network=self.net or options.network,
            network_options=parse.driver_options(self.net_opt or [], "--net-opt"),
            runtime=self.runtime or options.runtime,
        )


def container_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every field of :class:`ContainerOptions` as an option, handed over as one ``options`` argument.

    Typer reads options from a function's signature; this writes that signature, so that ``run`` and ``create`` cannot
    drift apart.
    """
    own = list(inspect.signature(function, eval_str=True).parameters.values())
    hints = get_type_hints(ContainerOptions, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(name, keyword, default=default, annotation=hints[name])
        for name, default in ContainerOptions._field_defaults.items()
    ]
    names = {parameter.name for parameter in shared}

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        chosen = ContainerOptions(**{name: values.pop(name) for name in names})
        return function(**values, options=chosen)

    kept = [parameter.replace(kind=keyword) for parameter in own if parameter.name != "options"]
    command.__signature__ = inspect.Signature([*kept, *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*kept, *shared)}
    return command
