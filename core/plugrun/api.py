"""The plugin API, version 1.0: the only module of the engine that a plugin imports.

A plugin is an installed distribution with an entry point in the group ``plugrun`` that names a module (or
an object) carrying functions marked with :data:`hookimpl`; ``plugrun.hookspecs`` describes each hook.
Storage and network drivers are declared by hooks and then called by the core as plain typed objects.

Words used throughout, after containerd's snapshotter:

*key*
    the name of an **active** snapshot (a container's writable layer) or of a **view** (read-only).
*name*
    the name of a **committed** snapshot: an unpacked image layer, immutable from then on.
*parent*
    the name of a committed snapshot that a snapshot stands on, or ``None`` for an empty one.

Keys and names share one name space per driver. The core chooses them: ``[a-z0-9][a-z0-9._-]*``, at most
100 characters, safe as one path component.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

import pluggy

from plugrun.errors import (
    AlreadyExists,
    Drift,
    DriverError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PlugrunError,
    Unavailable,
)
from plugrun.ports import PortMapping
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = [
    "API",
    "AlreadyExists",
    "ApiVersion",
    "Attachment",
    "Changed",
    "ContainerDraft",
    "ContainerView",
    "Drift",
    "DriverError",
    "DriverSpec",
    "Event",
    "Existing",
    "FailedPrecondition",
    "Hop",
    "Host",
    "InvalidArgument",
    "Join",
    "Mount",
    "NamedTuple",
    "NamespacePlan",
    "NetResult",
    "Network",
    "NetworkDraft",
    "NetworkDriver",
    "NetworkRequest",
    "New",
    "NotFound",
    "PacketPath",
    "PlugrunError",
    "PoolSpec",
    "PortMapping",
    "SnapshotInfo",
    "SnapshotKind",
    "StorageDriver",
    "Subnet",
    "SupportsChanges",
    "SupportsClone",
    "SupportsExplain",
    "SupportsGC",
    "SupportsLayerDir",
    "SupportsNetworks",
    "SupportsPorts",
    "SupportsQuota",
    "SupportsReload",
    "Unavailable",
    "Usage",
    "hookimpl",
]

hookimpl = pluggy.HookimplMarker("plugrun")


class ApiVersion(NamedTuple):
    """Version of the plugin API: a change of ``major`` breaks plugins, one of ``minor`` adds to it."""

    major: int
    minor: int

    def accepts(self, plugin: ApiVersion) -> bool:
        """Whether a plugin built against ``plugin`` works with this API."""
        return plugin[0] == self.major and plugin[1] <= self.minor

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


API = ApiVersion(1, 0)

D = TypeVar("D")


class PoolSpec(NamedTuple):
    """How a storage driver gets a file system of its own in a file: the *pool* of ``plugrun storage create``.

    The core makes the file, attaches it to a loop device, and mounts that on the driver's state directory before it
    opens the driver, which notices nothing of it.

    :param type: file system type, as for mount(2).
    :param options: mount options, as in :class:`Mount`.
    :param make: ``make(file)`` writes the file system into a file that has its full size already.
    :param grow: ``grow(mount_point)`` makes a mounted one as large as its device, which has just grown.
    :param smallest: bytes that the file system needs at least.
    :param wishes: more mount options, left out together where the kernel refuses them.

    ``make`` and ``grow`` raise :class:`plugrun.api.Unavailable` when a program they need is missing, and
    :class:`plugrun.api.DriverError` when it fails.
    """

    type: str
    options: tuple[str, ...]
    make: Callable[[Path], None]
    grow: Callable[[Path], None]
    smallest: int
    wishes: tuple[str, ...] = ()


class DriverSpec(typing.NamedTuple, Generic[D]):
    """What a plugin declares about one driver. Building one must be cheap: no heavy import, no system access.

    :param name: what the user types after ``--storage`` or ``--net``; ``[a-z0-9][a-z0-9_-]*``.
    :param factory: makes the driver: ``factory(state_dir, options)``. Called when the driver is selected, and
        the place to import the driver's module. ``state_dir`` is the driver's own (created by the core,
        0700, owner root); ``options`` is an instance of the model that ``options`` names, or ``None``.
    :param probe: ``probe(state_dir)`` answers ``None`` when the driver works here, or one sentence that says why not
        and what would help. Never raises, has no side effects, takes less than 100 ms.
    :param options: returns the pydantic model (``extra="forbid"``) of the driver's ``--storage-opt`` /
        ``--net-opt`` keys; ``None`` when it takes none. A callable, so that pydantic loads only when needed.
    :param api: the API version the plugin was built against; a third party writes the literal.
    :param priority: among usable drivers the highest is the default; ties go to the name first in the alphabet.
    :param supports: capability words shown to users, such as ``"snapshot"``.
    :param pool: how to make a file system for a storage driver whose state directory is not on one that it can use.
    """

    name: str
    factory: Callable[[Path, Any], D]
    probe: Callable[[Path], str | None]
    options: Callable[[], type[BaseModel]] | None = None
    api: ApiVersion = API
    priority: int = 0
    supports: frozenset[str] = frozenset()
    pool: PoolSpec | None = None


# --- Storage ---------------------------------------------------------------------------------------------------


class Mount(NamedTuple):
    """One mount(2) that the core performs for a driver, at a place the core chooses.

    :param type: file system type, or ``"bind"``.
    :param source: device, directory, or the type's own name.
    :param options: generic flags (``"ro"``, ``"nodev"``…) and the file system's own options, as ``mount -o``. With
        ``"loop"`` among them the source is a regular file, which the core attaches to a loop device; that goes when
        the last mount of it does.
    """

    type: str
    source: str
    options: tuple[str, ...] = ()


class SnapshotKind(enum.StrEnum):
    """The three states of a snapshot."""

    ACTIVE = "active"
    VIEW = "view"
    COMMITTED = "committed"


class SnapshotInfo(NamedTuple):
    """What a storage driver knows of one snapshot."""

    name: str
    kind: SnapshotKind
    parent: str | None


class Usage(NamedTuple):
    """Space of one snapshot without its parents.

    :param size: bytes allocated.
    :param inodes: number of inodes.
    """

    size: int
    inodes: int


@runtime_checkable
class StorageDriver(Protocol):
    """Keeps snapshots and says how to mount them; never mounts for the core.

    *Importing a layer*: ``prepare(key, parent)``, the core mounts and unpacks into it, ``commit(name, key)``.
    *Running a container*: ``prepare(container_id, top_layer)``, the core mounts the answer as the root file
    system; on removal ``remove(container_id)``.

    Every method is safe against a crash in the middle: what it leaves is either absent or removable by
    ``remove`` with the same key. Calls may come from several processes and threads at once: each opens the state
    directory anew or shares a driver, and of several that want one key, one gets it.

    A key or name that is not one path component is refused with :class:`InvalidArgument`, wherever something would be
    made of it, and otherwise may be :class:`NotFound`: nothing outside of the state directory is ever touched.
    """

    def prepare(self, key: str, parent: str | None) -> Sequence[Mount]:
        """Make an active snapshot.

        :raises AlreadyExists: ``key`` is taken.
        :raises NotFound: ``parent`` is not a committed snapshot.
        :return: the same as :meth:`mounts`.
        """
        ...

    def view(self, key: str, parent: str | None) -> Sequence[Mount]:
        """Make a read-only snapshot; like :meth:`prepare`, but it can never be committed."""
        ...

    def mounts(self, key: str) -> Sequence[Mount]:
        """Return the mounts of an active snapshot or view, the same ones after a restart.

        :raises NotFound: no active snapshot or view has this key.
        """
        ...

    def commit(self, name: str, key: str) -> None:
        """Turn the active snapshot ``key`` into the committed ``name``; afterwards ``key`` is gone.

        :raises AlreadyExists: ``name`` is taken; ``key`` stays as it was.
        :raises NotFound: ``key`` does not exist.
        :raises FailedPrecondition: ``key`` is a view.
        """
        ...

    def remove(self, key: str) -> None:
        """Remove a snapshot of any kind.

        :raises FailedPrecondition: another snapshot stands on it.
        :raises NotFound: it does not exist, not even in part.
        """
        ...

    def stat(self, key: str) -> SnapshotInfo:
        """Describe one snapshot.

        :raises NotFound: it does not exist.
        """
        ...

    def walk(self) -> Iterator[SnapshotInfo]:
        """Yield every snapshot, in no particular order."""
        ...

    def usage(self, key: str) -> Usage:
        """Measure one snapshot without its parents.

        :raises NotFound: it does not exist.
        """
        ...

    def close(self) -> None:
        """Let go of files and handles; calling it twice is fine."""
        ...


@runtime_checkable
class SupportsLayerDir(Protocol):
    """A storage driver whose layers can be unpacked without their parents, hence all of them in parallel.

    The core calls :meth:`layer_dir`, unpacks the layer's *own* entries into the directory it returns, with whiteouts
    in overlayfs form (character device 0:0, ``trusted.overlay.opaque=y``), and then :meth:`commit_layer`.
    """

    def layer_dir(self, key: str) -> Path:
        """Make an empty staging directory for one layer.

        :raises AlreadyExists: ``key`` is taken.
        """
        ...

    def commit_layer(self, name: str, key: str, parent: str | None) -> None:
        """Turn the staged layer into the committed snapshot ``name`` on ``parent``; ``key`` is gone afterwards.

        :raises AlreadyExists: ``name`` is taken; ``key`` stays as it was.
        :raises NotFound: ``key`` or ``parent`` does not exist.
        """
        ...


@runtime_checkable
class SupportsClone(Protocol):
    """A storage driver that copies active snapshots; without it containers in it have no snapshots and no clones."""

    def clone(self, key: str, source: str) -> None:
        """Make the active snapshot ``key`` a copy of the active snapshot ``source``, on the same parent.

        :pre: nothing writes to ``source`` meanwhile, which may be mounted, and syncfs(2) was called on its mount.
        :post: the two are independent: each can be written and removed without the other. It survives a power cut.
            A limit that :class:`SupportsQuota` set is not copied.
        :raises AlreadyExists: ``key`` is taken.
        :raises NotFound: ``source`` is not an active snapshot.
        """
        ...


class Changed(NamedTuple):
    """A place where an active snapshot may differ from its parent.

    :param path: relative to the root, without a leading ``/``; empty for the root directory itself.
    :param whole: everything below may differ too; else the entry alone.
    """

    path: bytes
    whole: bool = False


@runtime_checkable
class SupportsChanges(Protocol):
    """A storage driver that knows what changed in a snapshot without looking at every file."""

    def changes(self, key: str) -> Iterable[Changed]:
        """Yield where the active snapshot ``key`` may differ from its parent, in any order.

        Every difference is covered: an entry that was added, removed or replaced, or whose content, owner, mode, time
        or extended attributes changed, under each of its names if it has several. Of a directory that is gone its own
        path is enough; what is in a new one is covered by ``whole`` or by paths of its own. Places that turn out to be
        equal do no harm but cost time: the core looks at each.

        :pre: as :meth:`SupportsClone.clone`.
        :raises NotFound: ``key`` is not an active snapshot.
        """
        ...


@runtime_checkable
class SupportsQuota(Protocol):
    """A storage driver that can bound what an active snapshot occupies."""

    def limit(self, key: str, size: int) -> None:
        """Let the active snapshot ``key`` occupy at most ``size`` bytes beyond its parents, from now on.

        Writing more fails with ``EDQUOT`` or ``ENOSPC``. It can be called again with the same or another size, mounted
        or not, and is forgotten when the snapshot is removed.

        A full snapshot can be mounted and written as any other, once something in it was deleted. A driver that has to
        make room for that in :meth:`StorageDriver.mounts` may let it exceed the limit by a few MiB: before a container
        runs on what it mounted, the core calls this method again.

        :raises Unavailable: the file system it is on cannot do it; says why, and what would help.
        :raises NotFound: ``key`` is not an active snapshot.
        """
        ...


@runtime_checkable
class SupportsGC(Protocol):
    """A storage driver that can find leftovers which :meth:`StorageDriver.walk` does not show."""

    def gc(self, valid: frozenset[str]) -> None:
        """Remove everything of this driver that belongs to no snapshot in ``valid``."""
        ...


# --- Network ---------------------------------------------------------------------------------------------------


class NetworkRequest(NamedTuple):
    """What a ``--net`` value means: which driver, and what else the value said.

    :param driver: name of a network driver.
    :param target: the container, network or path the value names, e.g. ``web`` of ``container:web``.
    """

    driver: str
    target: str | None = None


class _Word:
    """A value that says all by its class: every instance equals every other."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class New(_Word):
    """The container gets a network namespace of its own, made and pinned by the core."""

    __slots__ = ()


class Host(_Word):
    """The container stays in the network namespace of the engine's caller."""

    __slots__ = ()


class Join(NamedTuple):
    """The container shares the network namespace of another one.

    :param container: name or id of the container to join.
    """

    container: str


class Existing(NamedTuple):
    """The container gets a network namespace that somebody else has made and will delete.

    :param path: absolute path of what it is pinned to, e.g. ``/run/netns/lab``.
    """

    path: str


NamespacePlan = New | Host | Join | Existing


class Subnet(NamedTuple):
    """One range of addresses of a network.

    :param subnet: in CIDR notation, e.g. ``10.64.0.0/20`` or ``fd00:1::/64``.
    :param gateway: the host's own address in it.
    :param ip_range: the part of it from which containers get addresses that ask for none, in CIDR notation.
    """

    subnet: str
    gateway: str | None = None
    ip_range: str | None = None


class NetworkDraft(NamedTuple):
    """A network as a user asks for it.

    :param id: 64 hexadecimal digits, chosen by the core.
    :param subnets: none has the driver choose.
    :param ipv6: containers get IPv6 addresses too.
    :param internal: nothing leaves the network, and nothing comes in.
    :param options: ``--opt`` pairs, for the driver alone.
    """

    id: str
    name: str
    subnets: tuple[Subnet, ...] = ()
    ipv6: bool = False
    internal: bool = False
    options: Mapping[str, str] = MappingProxyType({})


class Network(NamedTuple):
    """A network that a user made, or the one that a driver uses when a user names none.

    :param default: whether it is the latter; containers do not find each other by name there, as in Docker.
    :param subnets: complete: each has a gateway, if the network has any.
    :param interface: what the network is on the host, e.g. a bridge; ``""`` if it is nothing.
    :param data: anything JSON can carry that the driver needs later.
    """

    id: str
    name: str
    driver: str
    subnets: tuple[Subnet, ...] = ()
    ipv6: bool = False
    internal: bool = False
    default: bool = False
    interface: str = ""
    options: Mapping[str, str] = MappingProxyType({})
    data: Mapping[str, Any] = MappingProxyType({})


class Attachment(NamedTuple):
    """One container's place on one network, as the driver sees it: its *endpoint*.

    :param container_id: 64 hexadecimal digits.
    :param hostname: the container's host name.
    :param netns: path of the pinned network namespace; ``None`` when there is none (any more).
    :param target: see :class:`NetworkRequest`.
    :param network: which network, for a driver that is :class:`SupportsNetworks`.
    :param name: the container's name.
    :param number: tells the endpoints of one container apart; its interface is ``eth<number>``, and of several default
        routes that of the lowest number is used.
    :param ip: the IPv4 address that the user wants, without prefix; ``ip6`` and ``mac`` likewise. A driver grants such
        a wish or refuses it, but never ignores it.
    :param aliases: more names for the container on this network.
    :param ports: what to publish, for a driver that is :class:`SupportsPorts`.
    :param leaving: for ``teardown``: the core deletes the namespace next, and what only exists in it, or ends with it,
        may be left to that. To delete a veth pair costs more than anything else in a container's life.
    """

    container_id: str
    hostname: str
    netns: str | None
    target: str | None = None
    network: Network | None = None
    name: str = ""
    number: int = 0
    ip: str | None = None
    ip6: str | None = None
    mac: str | None = None
    aliases: tuple[str, ...] = ()
    ports: tuple[PortMapping, ...] = ()
    leaving: bool = False


class NetResult(NamedTuple):
    """What a driver's ``setup`` achieved; the core stores it and gives it back to ``teardown`` and ``check``.

    :param addresses: interface addresses with prefix, e.g. ``("10.88.0.2/16",)``.
    :param data: anything JSON can carry that the driver needs later.
    :param ports: what was published, every host port settled.
    :param nameservers: addresses of resolvers that know the names on this network, and forward all else; with none, a
        user's network has the core keep its containers' names in their ``/etc/hosts``.
    :param unnamed: why there are none, if there might be, in one sentence with what would help.
    :param interface: the interface in the container, e.g. ``eth0``.
    :param mac: its hardware address.
    :param gateways: addresses of the default routes.
    """

    addresses: tuple[str, ...] = ()
    data: Mapping[str, Any] = MappingProxyType({})
    ports: tuple[PortMapping, ...] = ()
    nameservers: tuple[str, ...] = ()
    unnamed: str = ""
    interface: str = ""
    mac: str = ""
    gateways: tuple[str, ...] = ()


@runtime_checkable
class NetworkDriver(Protocol):
    """Connects containers. The order is ``namespace``, ``setup``, the container's life, ``teardown``."""

    def namespace(self, target: str | None) -> NamespacePlan:
        """Say which network namespace the container lives in.

        :raises InvalidArgument: ``target`` makes no sense to this driver.
        """
        ...

    def setup(self, at: Attachment) -> NetResult:
        """Configure the endpoint. The core has made and pinned the namespace; ``lo`` in it is up.

        What the network itself needs on the host (a bridge, rules) is made here too, when it is not there: by the
        first endpoint, or the first one after somebody removed it.

        :raises PlugrunError: the endpoint cannot be made; :meth:`teardown` is called next.
        """
        ...

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        """Undo :meth:`setup`. Idempotent; works without the namespace, after a failed setup, and twice.

        What the network itself needs may stay, for the next endpoint. Nothing else may: with a namespace that lives on
        nothing of the endpoint is left in it, unless the attachment is ``leaving``.
        """
        ...

    def check(self, at: Attachment, prev: NetResult) -> None:
        """Compare the live system with the stored result.

        :raises Drift: they differ.
        """
        ...

    def gc(self, valid: frozenset[str]) -> None:
        """Remove everything of this driver that belongs to no container id in ``valid``.

        With no valid id, what the networks themselves need goes too.
        """
        ...

    def close(self) -> None:
        """Let go of files and handles; calling it twice is fine."""
        ...


@runtime_checkable
class SupportsNetworks(Protocol):
    """A driver whose containers meet on networks, of which users can make more: every attachment has one."""

    def make_network(self, draft: NetworkDraft, others: Sequence[Network]) -> Network:
        """Check a draft and settle what it leaves open. Changes nothing on the system: :meth:`setup` does.

        :param others: the networks of this driver that there are; the core lets nobody make another one meanwhile.
        :raises InvalidArgument: a subnet, an address or an option makes no sense; quotes it.
        :raises FailedPrecondition: a subnet overlaps another network, or a route of the host; or none is left.
        """
        ...

    def remove_network(self, network: Network) -> None:
        """Remove what the network needs on the host. No endpoint is on it. Idempotent."""
        ...


@runtime_checkable
class SupportsPorts(Protocol):
    """A driver that publishes ports."""

    def publish(self, at: Attachment, prev: NetResult) -> NetResult:
        """Have exactly ``at.ports`` published of an endpoint that is set up; those that were and stay are not touched.

        :return: ``prev`` with its ports replaced.
        :raises FailedPrecondition: a port is in use, on the host or by another container; nothing has changed.
        """
        ...


@runtime_checkable
class SupportsReload(Protocol):
    """A driver with rules on the host that others can remove, as by ``nft flush ruleset`` or a firewall's restart."""

    def reload(self, *, force: bool = False) -> bool:
        """Bring back what is missing, for all networks and endpoints. Costs next to nothing when nothing is.

        :param force: make it anew in any case, in one step.
        :return: whether something was missing, or was made anew.
        """
        ...


class Hop(NamedTuple):
    """One station of a packet on its way.

    :param place: what it passes, e.g. an interface.
    :param detail: what happens to it there.
    """

    place: str
    detail: str


class PacketPath(NamedTuple):
    """The way of a kind of packet, e.g. from a container to the internet."""

    title: str
    hops: tuple[Hop, ...]


@runtime_checkable
class SupportsExplain(Protocol):
    """A driver that can say which way packets go."""

    def explain(self, at: Attachment, prev: NetResult) -> Sequence[PacketPath]:
        """Describe the ways in and out of an endpoint, read from the live system and not from what should be there."""
        ...


# --- Lifecycle as plugins see it ----------------------------------------------------------------------------------


class Event(enum.StrEnum):
    """What happened to a container."""

    CREATED = "create"
    STARTED = "start"
    DIED = "die"
    REMOVED = "destroy"


class ContainerView(NamedTuple):
    """A container as hooks see it; a copy, changing it changes nothing.

    :param id: 64 hexadecimal digits.
    :param labels: image labels overlaid with the user's.
    :param exit_code: set once the container has ended.
    """

    id: str
    name: str
    image: str
    storage: str
    network: str
    labels: Mapping[str, str]
    pid: int | None = None
    exit_code: int | None = None


@dataclass(slots=True)
class ContainerDraft:
    """The part of a container's configuration that a plugin may change before it is created."""

    name: str
    image: str
    args: list[str]
    env: list[str]
    labels: dict[str, str]
    hostname: str
    workdir: str
    user: str
