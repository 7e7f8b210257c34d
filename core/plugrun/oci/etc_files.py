"""``/etc/hosts``, ``/etc/hostname`` and ``/etc/resolv.conf``, which are bind-mounted from the engine's own directory.

Nothing is written into the root file system by path, where an image may have put a link to anywhere (CVE-2024-5154).
No name or address that goes into a line can begin another (CVE-2022-4318, CVE-2026-15809).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from plugrun.errors import InvalidArgument
from plugrun.oci import hosts_file, resolv_conf
from plugrun.tuples import NamedTuple

_LARGEST = 1 << 20  # bytes of a file that the container can write into


class Place(NamedTuple):
    """A container on one network.

    :param addresses: its own there, with prefix lengths.
    :param nameservers: see :class:`plugrun.api.NetResult`, as for ``gateways``.
    :param internal: whether nothing leaves the network.
    :param named: whether containers find each other by name there.
    """

    addresses: tuple[str, ...] = ()
    nameservers: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    internal: bool = False
    named: bool = False


class About(NamedTuple):
    """What the files are about.

    :param hostname: the host's own need not be one of RFC 1123.
    :param name: the container's.
    :param host_network: whether the container shares the host's network, and so its names and resolvers.
    :param connected: whether it has a network at all.
    :param dns: see :class:`plugrun.container.ContainerConfig`, as for the rest.
    """

    hostname: str
    name: str = ""
    host_network: bool = False
    connected: bool = False
    places: tuple[Place, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()


def write(directory: Path, about: About, others: Iterable[str] = ()) -> dict[str, str]:
    """Write the three files.

    :param directory: the container's own, closed to others.
    :param others: lines of ``/etc/hosts`` for other containers.
    :return: destination in the container → path on the host.
    :raises InvalidArgument: a name or address that the user gave is none.
    :raises FailedPrecondition: see :func:`hosts_file.content`.
    :raises DriverError: an address that a driver answered is none.
    """
    if not hosts_file.is_word(about.hostname):
        raise InvalidArgument(f"{about.hostname!r} cannot be a host name", hint="use letters, digits, '-' and '.'")
    hosts_file.check(about.extra_hosts)
    contents = {
        "hosts": hosts_file.content(about, _read("/etc/hosts") if about.host_network else "", others),
        "hostname": f"{about.hostname}\n",
        "resolv.conf": resolv_conf.content(about, _read),
    }
    for name, content in contents.items():
        _replace(directory / name, content)
    return places(directory)


def places(directory: Path) -> dict[str, str]:
    """Return destination in the container → path on the host, of the files that :func:`write` wrote."""
    return {f"/etc/{name}": str(directory / name) for name in ("hosts", "hostname", "resolv.conf")}


def rewrite_hosts(directory: Path, part: bytes) -> None:
    """Replace the changing part of ``/etc/hosts`` in the file itself, which a running container has mounted."""
    _edit(directory / "hosts", lambda old: hosts_file.with_part(old, part))


def rewrite_resolv_conf(directory: Path, before: About, after: About) -> None:
    """Bring ``/etc/resolv.conf`` up to date in the file itself, unless it was edited in the container."""
    old, new = (resolv_conf.content(about, _read).encode("utf-8", "surrogateescape") for about in (before, after))
    _edit(directory / "resolv.conf", lambda found: new if found == old else found)


def _edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file in place: one write, so that no reader finds it empty or half written; then its end, if shorter."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        old = os.pread(descriptor, _LARGEST, 0)
        new = change(old)
        if new != old:
            os.pwrite(descriptor, new, 0)
            os.ftruncate(descriptor, len(new))
    finally:
        os.close(descriptor)


def _read(path: str) -> str:
    """Return a file of the host's; one that is missing, or cannot be read, counts as empty."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", opener=_open_without_waiting) as stream:
            return stream.read()
    except OSError:
        return ""


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _replace(path: Path, content: str) -> None:
    """Write a file in one step: a container of an earlier start may still have the old one mounted."""
    new = path.with_suffix(path.suffix + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            os.fchmod(descriptor, 0o644)  # whatever the umask: the container's users read it
            stream.write(content)
    except BaseException:
        new.unlink()
        raise
    new.replace(path)
