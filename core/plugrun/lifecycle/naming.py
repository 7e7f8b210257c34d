"""The names that a container knows: its ``/etc/hosts``, ``/etc/hostname`` and ``/etc/resolv.conf``.

A container that shares another one's network namespace shares its files too, as what they say is about that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugrun.api import Join
from plugrun.errors import InvalidArgument, PlugrunError
from plugrun.lifecycle import hosts
from plugrun.lifecycle.network import netns_of
from plugrun.oci import etc_files, hosts_file, resolv_conf

if TYPE_CHECKING:
    from plugrun.api import NamespacePlan
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine
    from plugrun.request import ContainerRequest


def files(engine: Engine, record: ContainerRecord, netns: str | None) -> dict[str, str]:
    """Write the files of a container that is starting, its endpoints being set up.

    :param netns: path of its network namespace, as for :func:`hosts.about`.
    :return: destination in the container → path on the host.
    :raises PlugrunError: see :func:`etc_files.write`.
    """
    directory = engine.paths.container(record.id)
    owner = _owner(engine, record)
    about = hosts.about(engine, record, netns)
    if owner == record.id:
        return etc_files.write(directory, about, hosts.enter(engine, record, about))
    written = etc_files.write(directory, about)
    return {**etc_files.places(engine.paths.container(owner)), "/etc/hostname": written["/etc/hostname"]}


def check(request: ContainerRequest, wanted: NamespacePlan) -> None:
    """Check what a request says about names.

    :raises InvalidArgument: it makes no sense, or the container is to share another one's network and so its names.
    """
    if not (request.dns or request.dns_search or request.dns_options or request.extra_hosts):
        return
    resolv_conf.check(request.dns, request.dns_search, request.dns_options)
    hosts_file.check(request.extra_hosts)
    if isinstance(wanted, Join):
        raise InvalidArgument(
            "a container that shares another one's network shares its names and resolvers too",
            hint="leave out --dns, --dns-search, --dns-option and --add-host, or give them to the other container",
        )


def changed(engine: Engine, before: ContainerRecord, after: ContainerRecord) -> None:
    """Bring names up to date once a running container was connected to a network, or disconnected; both are recorded.

    What cannot be is a warning: the container is on its networks all the same.
    """
    netns = netns_of(engine, after)
    directory = engine.paths.container(after.id)
    try:
        old, new = (hosts.about(engine, record, netns) for record in (before, after))
        etc_files.rewrite_resolv_conf(directory, old, new)
        hosts.leave(engine, before)
        hosts.rewrite(engine, after, hosts.enter(engine, after, new))
    except (OSError, PlugrunError) as error:
        engine.warn(f"container {after.name} may not find others by name: {error}")
    hosts.refresh(engine, (*before.endpoints, *after.endpoints))


def _owner(engine: Engine, record: ContainerRecord) -> str:
    """Return the id of the container whose network namespace a container lives in: its own, if it shares none."""
    seen = {record.id}
    while record.endpoints and (joined := record.endpoints[0].joined) and joined not in seen:
        seen.add(joined)
        owner = engine.containers.get(joined)
        if owner is None:
            break
        record = owner
    return record.id
