"""``/etc/hosts``, ``/etc/hostname`` and ``/etc/resolv.conf``, which are bind-mounted from the engine's own directory.

Nothing is written into the root file system by path, where an image may have put a link to anywhere (CVE-2024-5154).
No name or address that goes into a line can begin another (CVE-2022-4318, CVE-2026-15809).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from plugrun.errors import DriverError, InvalidArgument

_LOCAL = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def write(directory: Path, *, hostname: str, host_network: bool, addresses: Sequence[str]) -> dict[str, str]:
    """Write the three files.

    :param directory: the container's own, closed to others.
    :param hostname: the host's own need not be one of RFC 1123.
    :param host_network: whether the container shares the host's network, and so its names and resolvers.
    :param addresses: the container's, with prefix lengths.
    :return: destination in the container → path on the host.
    :raises InvalidArgument: ``hostname`` is no single word.
    :raises DriverError: an address is none.
    """
    if not _is_word(hostname):
        raise InvalidArgument(f"{hostname!r} cannot be a host name", hint="use letters, digits, '-' and '.'")
    for address in addresses:
        if not _is_word(address):
            raise DriverError(f"the network driver answered {address!r}, which is no address")
    contents = {
        "hosts": _hosts(hostname, host_network=host_network, addresses=addresses),
        "hostname": f"{hostname}\n",
        "resolv.conf": _read("/etc/resolv.conf") if host_network else "# this network has no resolver\n",
    }
    for name, content in contents.items():
        _replace(directory / name, content)
    return {f"/etc/{name}": str(directory / name) for name in contents}


def _hosts(hostname: str, *, host_network: bool, addresses: Sequence[str]) -> str:
    base = _read("/etc/hosts") if host_network else _LOCAL
    own = [address.partition("/")[0] for address in addresses] or ["127.0.1.1"]
    known = any(hostname in line.partition("#")[0].split()[1:] for line in base.splitlines())
    return base if known else base.rstrip("\n") + "\n" + "".join(f"{address}\t{hostname}\n" for address in own)


def _is_word(text: str) -> bool:
    return text.isprintable() and text.split() == [text] and "#" not in text


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
