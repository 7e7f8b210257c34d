"""``/etc/hosts``, ``/etc/hostname`` and ``/etc/resolv.conf``: written in the engine's own directory, bind-mounted from there.

Nothing is written into the root file system by path, where an image may have put a link to anywhere (CVE-2024-5154).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_LOCAL = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def write(directory: Path, *, hostname: str, host_network: bool, addresses: Sequence[str]) -> dict[str, str]:
    """Write the three files.

    :param directory: the container's own, closed to others.
    :param hostname: checked already: it becomes part of lines.
    :param host_network: whether the container shares the host's network, and so its names and resolvers.
    :param addresses: the container's, with prefix lengths.
    :return: destination in the container → path on the host.
    """
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


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def _replace(path: Path, content: str) -> None:
    """Write a file in one step: a container of an earlier start may still have the old one mounted."""
    new = path.with_suffix(path.suffix + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
        os.fchmod(descriptor, 0o644)  # whatever the umask: the container's users read it
        stream.write(content)
    new.replace(path)
