"""A host with two bridged networks and an internal one, two machines beside it, and packets to send: all namespaces.

Sockets stay in the namespace in which they were made, so one process is server, client and everything between.

======== ============================ =================================================
``lan``  192.0.2.2, 2001:db8::2       a neighbour; has routes to all container subnets
``wan``  198.51.100.2, 2001:db8:1::2  a server elsewhere; the host forwards to it
``web``  10.64.0.2, fd64::2           on ``br0``, whose gateway is ``.1``
``app``  10.64.0.3, fd64::3           likewise; also 10.64.8.3, fd64:8::3 in a second subnet of ``br0``
``far``  10.64.1.2, fd64:1::2         on ``br1``
``own``  10.64.2.2, fd64:2::2         on ``br2``, which is internal
======== ============================ =================================================
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Self

CLONE_NEWNET = 0x40000000
MACHINES = ("host", "lan", "wan", "web", "app", "far", "own")
CONTAINERS = {
    "web": ("br0", "0", "", 2),
    "app": ("br0", "0", "", 3),
    "far": ("br1", "1", ":1", 2),
    "own": ("br2", "2", ":2", 2),
}
HARDWARE = "02:00:00:00:01:00"  # of the host, for its neighbours
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
SOON, NEVER = 10.0, 0.3  # seconds: for what comes, and for what must not

_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """Be in a new network namespace, which is gone afterwards."""

    def __enter__(self) -> Self:
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if _libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        ip("link", "set", "lo", "up")
        return self

    def __exit__(self, *_exception: object) -> None:
        enter(self._home)
        os.close(self._home)


def enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Bridged:
    """The namespaces; :meth:`close` removes them."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        for name in MACHINES:
            ip("netns", "add", prefix + name)
            with self.inside(name):
                Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
                ip("link", "set", "lo", "up")
        self._connect_machines()
        for number, (bridge, v4, v6) in enumerate((("br0", "0", ""), ("br1", "1", ":1"), ("br2", "2", ":2"))):
            self.host("link", "add", bridge, "address", f"02:00:00:00:00:0{number}", "type", "bridge")
            self.host("addr", "add", f"10.64.{v4}.1/24", "dev", bridge)
            self.host("addr", "add", f"fd64{v6}::1/64", "dev", bridge, "nodad")
            self.host("link", "set", bridge, "up")
            self.sysctl(f"net/ipv4/conf/{bridge}/route_localnet", "1")
        for name, (bridge, v4, v6, last) in CONTAINERS.items():
            self._connect(name, bridge, f"10.64.{v4}", f"fd64{v6}:", last)
        self._add_second_subnet()
        self.sysctl("net/ipv4/ip_forward", "1")
        self.sysctl("net/ipv6/conf/all/forwarding", "1")

    def close(self) -> None:
        for name in MACHINES:
            ip("netns", "del", self._prefix + name)

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Be in a namespace; sockets made there stay there."""
        with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{self._prefix}{name}") as there:
            enter(there.fileno())
            try:
                yield
            finally:
                enter(before.fileno())

    def run(self, name: str, *words: str) -> None:
        with self.inside(name):
            ip(*words)

    def host(self, *words: str) -> None:
        self.run("host", *words)

    def sysctl(self, name: str, value: str) -> None:
        with self.inside("host"):
            Path("/proc/sys", name).write_text(value)

    def _connect_machines(self) -> None:
        for name, v4, v6 in (("lan", "192.0.2", "2001:db8:"), ("wan", "198.51.100", "2001:db8:1:")):
            self.host(
                "link", "add", name, "address", HARDWARE, "type", "veth", "peer", "eth0", "netns", self._prefix + name
            )
            for machine, interface, last in (("host", name, 1), (name, "eth0", 2)):
                self.run(machine, "addr", "add", f"{v4}.{last}/24", "dev", interface)
                self.run(machine, "addr", "add", f"{v6}:{last}/64", "dev", interface, "nodad")
                self.run(machine, "link", "set", interface, "up")
        self.run("lan", "route", "add", "default", "via", "192.0.2.1")
        self.run("lan", "route", "add", "default", "via", "2001:db8::1")
        self.run("wan", "route", "add", "192.0.2.0/24", "via", "198.51.100.1")
        self.run("wan", "route", "add", "2001:db8::/64", "via", "2001:db8:1::1")

    def _connect(self, name: str, bridge: str, v4: str, v6: str, last: int) -> None:
        self.host("link", "add", name, "master", bridge, "type", "veth", "peer", "eth0", "netns", self._prefix + name)
        self.host("link", "set", name, "up")
        self.run(name, "addr", "add", f"{v4}.{last}/24", "dev", "eth0")
        self.run(name, "addr", "add", f"{v6}:{last}/64", "dev", "eth0", "nodad")
        self.run(name, "link", "set", "eth0", "up")
        self.run(name, "route", "add", "default", "via", f"{v4}.1")
        self.run(name, "route", "add", "default", "via", f"{v6}:1")

    def _add_second_subnet(self) -> None:
        self.host("addr", "add", "10.64.8.1/24", "dev", "br0")
        self.host("addr", "add", "fd64:8::1/64", "dev", "br0", "nodad")
        self.run("app", "addr", "add", "10.64.8.3/24", "dev", "eth0")
        self.run("app", "addr", "add", "fd64:8::3/64", "dev", "eth0", "nodad")

    # --- Packets -----------------------------------------------------------------------------------------------------

    def server(self, machine: str, address: str, port: int, kind: str = "tcp") -> socket.socket:
        """Return a socket that has a port of all addresses of one IP version, or of one."""
        with self.inside(machine):
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, KINDS[kind])
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        if kind == "tcp":
            made.listen()
        return made

    def seen_by(
        self,
        server: socket.socket,
        machine: str,
        address: str,
        port: int,
        *,
        wait: float = SOON,
        origin: str | None = None,
    ) -> str | None:
        """Have a client talk to ``address`` and return who the server sees; ``None`` without answer.

        :param origin: an address that the client binds to.
        """
        with self.inside(machine):
            client = socket.socket(server.family, server.type)
        with client:
            if origin:
                client.bind((origin, 0))
            client.settimeout(wait)
            server.settimeout(wait)
            try:
                if server.type == socket.SOCK_STREAM:
                    client.connect((address, port))
                    accepted, seen = server.accept()
                    accepted.close()
                else:
                    client.sendto(b"?", (address, port))
                    _, seen = server.recvfrom(1)
                    server.sendto(b"!", seen)
                    client.recv(1)
            except OSError:
                return None
        return str(seen[0])


def ip(*words: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *words], check=True, stdin=subprocess.DEVNULL)
