"""The resolver's files: one a network, read by aardvark-dns and, to change them, by us.

The first line has the addresses to listen at, every other one a container: id, IPv4 address, IPv6 address, names
(aardvark-dns, src/config/mod.rs). Every file of a directory is read, and one that makes no sense ends the program:
new ones are written elsewhere and renamed.

There are two directories, for two processes: one for networks from which names may be asked of the host's resolvers,
one for internal ones, from which nothing may leave (CVE-2024-29018; aardvark-dns tells them apart since 1.11 only).
A container that is on both kinds asks the first, which therefore needs the names of its internal networks too: these
have a *shadow* there, a copy that listens at an address of the loopback interface.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from plugrun.api import InvalidArgument

_INTERNAL = "%int"  # how aardvark-dns 1.11 and later know such a network
_WORD = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
Lines = dict[str, str]


class Entry(NamedTuple):
    """A container on a network: its addresses there, without prefix, and its names, the container's first."""

    container_id: str
    ip: str | None
    ip6: str | None
    names: tuple[str, ...]


class Zone(NamedTuple):
    """The file of one network.

    :param listen: addresses of the resolver.
    :param lines: container id → its line.
    """

    listen: str
    lines: Lines


class Zones:
    """Both directories; whoever changes something holds the lock.

    :param directory: has the two.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.open = directory / "open"
        self.internal = directory / "internal"

    def make(self) -> None:
        """Make the directories."""
        for path in (self.open, self.internal):
            path.mkdir(mode=0o700, exist_ok=True)

    def clear(self) -> None:
        """Forget everything."""
        for path in (*_files(self.open), *_files(self.internal)):
            path.unlink()

    def put(self, network_id: str, listen: str, entry: Entry, *, internal: bool) -> None:
        """Add or replace a container.

        :raises InvalidArgument: a name or address would not be one word, or is none.
        """
        path = self.internal / (network_id + _INTERNAL) if internal else self.open / network_id
        zone = _read(path)
        lines = zone.lines if zone else {}
        _write(path, Zone(listen, {**lines, entry.container_id: _line(entry)}), self._directory)

    def drop(self, network_id: str, container_id: str) -> None:
        """Remove a container; with the last one goes the file."""
        for path in self._of(network_id):
            zone = _read(path)
            if zone and zone.lines.pop(container_id, None) is not None:
                _write(path, zone, self._directory)

    def keep(self, valid: frozenset[str]) -> None:
        """Remove the containers that are not in ``valid``."""
        for path in (*_files(self.open), *_files(self.internal)):
            zone = _read(path)
            if zone and not zone.lines.keys() <= valid:
                kept = {key: line for key, line in zone.lines.items() if key in valid}
                _write(path, Zone(zone.listen, kept), self._directory)

    def has(self, network_id: str, container_id: str = "") -> bool:
        """Whether a network is served here, or a container of it; needs no lock."""
        start = b"\n" + container_id.encode()  # of a line that is not the first
        for path in self._of(network_id):
            with contextlib.suppress(FileNotFoundError):
                if start in path.read_bytes():
                    return True
        return False

    def shadow(self) -> bool:
        """Have the shadows that are needed, and no others; return whether something changed."""
        if not any(path.name.endswith(_INTERNAL) for config in (self.open, self.internal) for path in _files(config)):
            return False
        originals = {path.name: zone for path in _files(self.internal) if (zone := _read(path))}
        present = {path.name: zone for path in _files(self.open) if (zone := _read(path))}
        mixed = {key for name, zone in present.items() if not name.endswith(_INTERNAL) for key in zone.lines}
        changed = False
        for name in originals.keys() | {name for name in present if name.endswith(_INTERNAL)}:
            original, old = originals.get(name), present.get(name)
            needed = original is not None and not mixed.isdisjoint(original.lines)
            lines = original.lines if original and needed else {}
            if lines != (old.lines if old else {}):
                listen = old.listen if old else _free_loopback(name)
                _write(self.open / name, Zone(listen, lines), self._directory)
                changed = True
        return changed

    def _of(self, network_id: str) -> tuple[Path, Path]:
        return self.open / network_id, self.internal / (network_id + _INTERNAL)


def is_served(config: Path) -> bool:
    """Whether a directory has files of networks."""
    return any(True for _ in _files(config))


def can_listen(address: str) -> int:
    """Try whether a server could listen at port 53 of an address.

    :return: 0, or the error number of bind(2): ``EADDRINUSE``, ``EADDRNOTAVAIL``…
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.bind((address, 53))
        except OSError as error:
            return error.errno or errno.EINVAL
    return 0


def _free_loopback(name: str) -> str:
    """Choose an address of the loopback interface that nobody listens at: another root may have shadows too."""
    start = int(name[:4], 16)
    for number in range(start, start + 64):
        address = f"127.53.{number >> 8 & 0xFF}.{number & 0xFF}"
        if can_listen(address) == 0:
            break
    return address


def _line(entry: Entry) -> str:
    for address, family in ((entry.ip, socket.AF_INET), (entry.ip6, socket.AF_INET6)):
        try:
            if address:
                socket.inet_pton(family, address)
        except OSError:
            raise InvalidArgument(f"{address!r} of container {entry.container_id[:12]} is no address") from None
    names = dict.fromkeys(name.lower() for name in entry.names)
    for name in names:
        if not name or not _WORD.issuperset(name):
            raise InvalidArgument(f"{name!r} cannot be a name on a network", hint="use letters, digits, '-', '_', '.'")
    return f"{entry.container_id} {entry.ip or ''} {entry.ip6 or ''} {','.join(names)}"


def _files(config: Path) -> Iterator[Path]:
    try:
        names = os.listdir(config)
    except FileNotFoundError:
        return
    yield from (config / name for name in names if name != "aardvark.pid")


def _read(path: Path) -> Zone | None:
    try:
        listen, *lines = path.read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ValueError):  # not there, or empty
        return None
    return Zone(listen, {line.partition(" ")[0]: line for line in lines})


def _write(path: Path, zone: Zone, directory: Path) -> None:
    if not zone.lines:
        path.unlink(missing_ok=True)
        return
    new = directory / "new"
    new.write_text("\n".join((zone.listen, *zone.lines.values(), "")), encoding="ascii")
    new.replace(path)
