"""The options that ``run`` and ``create`` share, and the request they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from plugrun import quota, validate
from plugrun.cli import parse
from plugrun.cli.params import option
from plugrun.container import Resources
from plugrun.request import ContainerRequest
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.cli.context import Globals

NAMING = "Name and image"
PROCESS = "Process"
DRIVERS = "Storage and runtime"
FILES = "Files"
LIMITS = "Limits"
SECURITY = "Security"


class ContainerOptions(NamedTuple):
    """One field an option, in the order of the help; the names and meanings are Docker's."""

    name: Annotated[str | None, option("--name", help="Name of the container.", metavar="NAME", panel=NAMING)] = None
    hostname: Annotated[
        str | None, option("--hostname", "-h", help="Host name inside.", metavar="HOST", panel=NAMING)
    ] = None
    label: Annotated[
        list[str] | None, option("--label", "-l", help="Label of the container.", metavar="KEY=VALUE", panel=NAMING)
    ] = None

    storage: Annotated[str | None, option("--storage", help="Storage driver.", metavar="DRIVER", panel=DRIVERS)] = None
    storage_opt: Annotated[
        list[str] | None,
        option("--storage-opt", help="Size limit, or the driver's own option.", metavar="size=BYTES", panel=DRIVERS),
    ] = None
    runtime: Annotated[
        str | None, option("--runtime", help="OCI runtime, by name or path.", metavar="RUNTIME", panel=DRIVERS)
    ] = None

    tty: Annotated[bool, option("--tty", "-t", help="Give it a terminal.", panel=PROCESS)] = False
    interactive: Annotated[bool, option("--interactive", "-i", help="Keep its stdin open.", panel=PROCESS)] = False
    entrypoint: Annotated[
        str | None,
        option("--entrypoint", help="Replace the image's entry point; '' for none.", metavar="PROGRAM", panel=PROCESS),
    ] = None
    env: Annotated[
        list[str] | None, option("--env", "-e", help="Environment variable.", metavar="NAME[=VALUE]", panel=PROCESS)
    ] = None
    env_file: Annotated[
        list[str] | None, option("--env-file", help="File of variables, one a line.", metavar="FILE", panel=PROCESS)
    ] = None
    workdir: Annotated[
        str | None, option("--workdir", "-w", help="Working directory.", metavar="DIR", panel=PROCESS)
    ] = None
    user: Annotated[str | None, option("--user", "-u", help="User.", metavar="USER[:GROUP]", panel=PROCESS)] = None
    init: Annotated[bool, option("--init", help="Run an init that reaps and forwards signals.", panel=PROCESS)] = False
    stop_signal: Annotated[
        str | None, option("--stop-signal", help="Signal that stops it.", metavar="SIGNAL", panel=PROCESS)
    ] = None
    stop_timeout: Annotated[
        int | None, option("--stop-timeout", help="Seconds before it is killed.", metavar="SECONDS", panel=PROCESS)
    ] = None

    volume: Annotated[
        list[str] | None,
        option("--volume", "-v", help="Mount a volume or a host path.", metavar="[SOURCE:]TARGET[:ro]", panel=FILES),
    ] = None
    mount: Annotated[
        list[str] | None,
        option("--mount", help="Mount a volume, bind, tmpfs or image.", metavar="KEY=VALUE,...", panel=FILES),
    ] = None
    volumes_from: Annotated[
        list[str] | None,
        option("--volumes-from", help="Mount what another container has.", metavar="CONTAINER[:ro]", panel=FILES),
    ] = None
    volume_driver: Annotated[
        str | None, option("--volume-driver", help="Storage driver of new volumes.", metavar="DRIVER", panel=FILES)
    ] = None
    tmpfs: Annotated[
        list[str] | None, option("--tmpfs", help="Mount a tmpfs.", metavar="TARGET[:OPTIONS]", panel=FILES)
    ] = None
    read_only: Annotated[bool, option("--read-only", help="Make its root file system read-only.", panel=FILES)] = False
    shm_size: Annotated[str | None, option("--shm-size", help="Size of /dev/shm.", metavar="BYTES", panel=FILES)] = None

    memory: Annotated[str | None, option("--memory", "-m", help="Memory limit.", metavar="BYTES", panel=LIMITS)] = None
    memory_swap: Annotated[
        str | None, option("--memory-swap", help="Memory and swap; -1 for no limit.", metavar="BYTES", panel=LIMITS)
    ] = None
    cpus: Annotated[str | None, option("--cpus", help="Number of CPUs, e.g. 1.5.", metavar="NUMBER", panel=LIMITS)] = (
        None
    )
    pids_limit: Annotated[
        int | None, option("--pids-limit", help="Number of tasks; -1 for no limit.", metavar="NUMBER", panel=LIMITS)
    ] = None
    ulimit: Annotated[
        list[str] | None, option("--ulimit", help="Resource limit.", metavar="NAME=SOFT[:HARD]", panel=LIMITS)
    ] = None

    cap_add: Annotated[
        list[str] | None, option("--cap-add", help="Add a capability.", metavar="CAPABILITY", panel=SECURITY)
    ] = None
    cap_drop: Annotated[
        list[str] | None, option("--cap-drop", help="Drop a capability.", metavar="CAPABILITY", panel=SECURITY)
    ] = None
    security_opt: Annotated[
        list[str] | None,
        option(
            "--security-opt",
            help="no-new-privileges, seccomp=FILE or seccomp=unconfined.",
            metavar="OPTION",
            panel=SECURITY,
        ),
    ] = None
    privileged: Annotated[bool, option("--privileged", help="Give it all rights of the host.", panel=SECURITY)] = False

    def request(
        self, image: str, command: list[str], common: Globals, *, auto_remove: bool = False
    ) -> ContainerRequest:
        """Turn the texts into a request.

        :raises InvalidArgument: one of them makes no sense; quotes it.
        """
        for value in (image, *command, *self):
            parse.check_text(value)
        storage_size, storage_options = quota.take(parse.driver_options(self.storage_opt or [], "--storage-opt"))
        request = ContainerRequest(
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
            read_only=self.read_only,
            init=self.init,
            security=parse.security(
                self.security_opt or [], self.cap_add or [], self.cap_drop or [], privileged=self.privileged
            ),
            resources=self._resources(),
            ulimits=dict(validate.ulimit(value) for value in self.ulimit or []),
            shm_size=parse.optional(validate.size, self.shm_size),
            stop_signal=parse.optional(parse.stop_signal, self.stop_signal),
            stop_timeout=self.stop_timeout,
            auto_remove=auto_remove,
            storage=self.storage or common.storage,
            storage_options=storage_options,
            storage_size=storage_size,
            runtime=self.runtime or common.runtime,
        )
        if not (self.volume or self.mount or self.tmpfs or self.volumes_from):
            return request
        from plugrun.cli import file_options

        return file_options.add(
            request,
            volume=self.volume or [],
            mount=self.mount or [],
            tmpfs=self.tmpfs or [],
            volumes_from=self.volumes_from or [],
            driver=self.volume_driver,
        )

    def _resources(self) -> Resources:
        memory, swap = validate.memory_and_swap(self.memory, self.memory_swap)
        return Resources(memory, swap, cpus=parse.optional(validate.cpus, self.cpus), pids=parse.pids(self.pids_limit))
