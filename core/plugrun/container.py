"""What a container is: its configuration, fixed at create, and its record, which follows its life.

Values that never change are named tuples, here and in other modules of the start-up path: the class of a frozen
dataclass takes 1.4 ms to make, and a command makes some fifty classes before it does anything.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.endpoint import Endpoint
    from plugrun.ports import PortMapping

DEFAULT_SHM_SIZE = 64 * 1024 * 1024
DEFAULT_STOP_SIGNAL = "SIGTERM"
DEFAULT_STOP_TIMEOUT = 10


class BindMount(NamedTuple):
    """A host path inside the container.

    :param source: absolute host path, symbolic links resolved.
    :param destination: absolute path inside the container, as the user wrote it.
    :param propagation: mount_namespaces(7) propagation type.
    :param recursive: what becomes of mounts below the source: with ``enabled`` they are there too, and as read-only as
        the rest; ``readonly`` is the same; with ``writable`` they stay writable; with ``disabled`` they are not there.
    """

    source: str
    destination: str
    read_only: bool = False
    propagation: str = "rprivate"
    recursive: str = "enabled"


class VolumeMount(NamedTuple):
    """A volume inside the container.

    :param name: the volume's.
    :param destination: as in :class:`BindMount`.
    :param subpath: the part of the volume to mount, relative to its root; ``""`` for all of it.
    :param nocopy: leave the volume empty, if it is, whatever the image has at the destination.
    """

    name: str
    destination: str
    read_only: bool = False
    subpath: str = ""
    nocopy: bool = False


class ImageMount(NamedTuple):
    """The file system of an image inside the container, read-only.

    :param image: the reference the user typed.
    :param image_id: as in :class:`ContainerConfig`.
    :param destination: as in :class:`BindMount`, and ``subpath`` as in :class:`VolumeMount`.
    """

    image: str
    image_id: str
    destination: str
    subpath: str = ""


class Resources(NamedTuple):
    """Limits the kernel enforces through cgroups; ``None`` means unlimited.

    :param memory: bytes.
    :param memory_swap: bytes of memory and swap together, ``-1`` for unlimited swap.
    :param cpus: number of CPUs, e.g. ``1.5``.
    :param pids: number of tasks; ``-1`` for unlimited.
    """

    memory: int | None = None
    memory_swap: int | None = None
    cpus: float | None = None
    pids: int = 2048


class Security(NamedTuple):
    """What the container's processes may do beyond, or short of, the defaults of ``oci.defaults``.

    :param cap_add: capability names as typed, ``CAP_`` optional, or ``ALL``.
    :param seccomp: ``"default"``, ``"unconfined"``, or the text of an OCI/Docker seccomp JSON profile.
    """

    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str = "default"


class ContainerConfig(NamedTuple):
    """A container as asked for, image defaults already merged in. Never changes after create.

    :param image: the reference the user typed.
    :param image_id: digest of the image configuration, ``sha256:…``.
    :param args: the complete argument vector of the first process.
    :param env: ``NAME=value`` strings, later ones win.
    :param user: ``user[:group]``, names or numbers, ``""`` for root.
    :param tmpfs: destination → mount options.
    :param ulimits: resource name without ``RLIMIT_`` in lower case → (soft, hard).
    :param shm_size: bytes of ``/dev/shm``.
    :param stop_timeout: seconds between the stop signal and SIGKILL.
    :param storage_size: bytes that the writable layer may occupy; ``None`` for no limit (:mod:`plugrun.quota`).
    :param exposed: ports that the image or the user says it listens on, such as ``80/tcp``; ``publish_all`` publishes
        them at ports of the host that are chosen at each start.
    :param dns: addresses of resolvers to use instead of any others, as for ``dns_search`` and ``dns_options``.
    :param extra_hosts: names and addresses for its ``/etc/hosts``; the address may be ``host-gateway``.
    """

    image: str
    image_id: str
    args: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    workdir: str = "/"
    user: str = ""
    hostname: str = ""
    labels: Mapping[str, str] = MappingProxyType({})
    tty: bool = False
    stdin_open: bool = False
    binds: tuple[BindMount, ...] = ()
    volumes: tuple[VolumeMount, ...] = ()
    images: tuple[ImageMount, ...] = ()
    tmpfs: Mapping[str, str] = MappingProxyType({})
    read_only: bool = False
    init: bool = False
    security: Security = Security()
    resources: Resources = Resources()
    ulimits: Mapping[str, tuple[int, int]] = MappingProxyType({})
    shm_size: int = DEFAULT_SHM_SIZE
    stop_signal: str = DEFAULT_STOP_SIGNAL
    stop_timeout: int = DEFAULT_STOP_TIMEOUT
    auto_remove: bool = False
    storage_size: int | None = None
    exposed: tuple[str, ...] = ()
    publish_all: bool = False
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()


class Status(enum.StrEnum):
    """Where a container is in its life; the words are Docker's."""

    CREATING = "creating"
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"
    REMOVING = "removing"


@dataclass(slots=True, kw_only=True)
class ContainerRecord:
    """Everything the engine stores about one container.

    :param id: 64 hexadecimal digits.
    :param storage: name of the storage driver, until the container is moved to another one.
    :param snapshot: key of its active snapshot there. The container's id at first; a rollback and a move make a new
        one (:func:`plugrun.names.snapshot_key`), so that recording its key is what switches over, all at once.
    :param storage_api: API version of that driver when the container was made, e.g. ``"1.0"``.
    :param endpoints: its places on networks; the first one decides which namespace it lives in. None at all is fine.
    :param ports: what is to be published.
    :param runtime: absolute path of the OCI runtime.
    :param created: seconds since the epoch, as are ``started`` and ``finished`` (0.0 = never).
    :param pid: first process on the host, while running.
    :param pid_start: when ``pid`` started, in the kernel's clock ticks: tells it from a later process of that number.
    :param monitor_pid: conmon, while running; ``monitor_start`` as ``pid_start``.
    :param boot_id: boot of the machine in which ``pid`` and ``monitor_pid`` mean anything.
    :param volumes_too: whether its anonymous volumes go with it when it is removed.
    """

    id: str
    name: str
    config: ContainerConfig
    storage: str
    storage_api: str
    runtime: str
    snapshot: str = ""
    storage_options: dict[str, str] = field(default_factory=dict)
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[PortMapping, ...] = ()
    status: Status = Status.CREATING
    created: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    pid: int | None = None
    pid_start: int = 0
    monitor_pid: int | None = None
    monitor_start: int = 0
    boot_id: str = ""
    volumes_too: bool = False

    def __post_init__(self) -> None:
        self.snapshot = self.snapshot or self.id

    @property
    def short_id(self) -> str:
        """The first twelve digits, as users see them."""
        return self.id[:12]

    @property
    def network(self) -> str:
        """What it is connected to, as users call it."""
        return ",".join(endpoint.name for endpoint in self.endpoints) or "none"
