"""A throw-away host for a network driver: whatever the driver does to "the host", it does to that one."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from plugrun import linux, namespaces

_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000
_MS_MOVE = 0x2000
_PATIENCE = 10.0  # seconds

HOST_IP, PEER_IP = "192.0.2.1", "192.0.2.2"  # TEST-NET-1, RFC 5737
HOST_IP6, PEER_IP6 = "2001:db8::1", "2001:db8::2"  # RFC 3849


class ThrowAwayHost:
    """The namespace that the driver takes for the host's, with a neighbour on the interface ``lan0``.

    The host has 192.0.2.1/24 and 2001:db8::1/64 there, the neighbour .2 and ::2, and the default routes lead to it. It
    knows no way to a container: it answers what comes from the host's own address.

    :param peer: path of the neighbour's namespace.
    :param ipv6: whether this kernel has IPv6 switched on.
    """

    def __init__(self, peer: Path) -> None:
        self.peer = peer
        self.ipv6 = os.path.exists("/proc/net/if_inet6")

    def wire(self) -> None:
        """Make the neighbour and the way to it."""
        namespaces.create(self.peer)
        near = [f"addr add {HOST_IP}/24 dev lan0"]
        far = [f"addr add {PEER_IP}/24 dev eth0"]
        routes = [f"route add default via {PEER_IP}"]
        if self.ipv6:
            near.append(f"addr add {HOST_IP6}/64 dev lan0 nodad")
            far.append(f"addr add {PEER_IP6}/64 dev eth0 nodad")
            routes.append(f"route add default via {PEER_IP6}")
        ip_batch(["link add lan0 type veth peer name eth0"])
        ip_batch([f"link set eth0 netns {self.peer}", *near, "link set lo up", "link set lan0 up"])
        ip_batch([*far, "link set eth0 up"], netns=self.peer)
        ip_batch(routes)
        deadline = time.monotonic() + _PATIENCE
        while self.ipv6 and not _is_local(HOST_IP6):
            assert time.monotonic() < deadline, f"{HOST_IP6} does not come up"
            time.sleep(0.001)


def _is_local(address: str) -> bool:
    """Whether the kernel has the route to an IPv6 address of this host, which it adds in its own time."""
    wanted = ipaddress.IPv6Address(address).packed.hex()
    return any(line.startswith(f"{wanted} 80") for line in Path("/proc/net/ipv6_route").read_text().splitlines())


@contextlib.contextmanager
def throw_away_host(place: Path) -> Iterator[ThrowAwayHost]:
    """Have the calling thread, and all that it starts meanwhile, on a host of its own.

    That is a network namespace, and a mount namespace with the ``/sys`` that belongs to it and an empty ``/run``: what
    is not reached through the network, such as the socket of a firewall's daemon, is out of sight too. At the end
    processes that still are in it are killed, and the kernel takes the rest.

    :param place: an existing directory for the neighbour's namespace.
    :raises OSError: no right to do that.
    """
    with _back_again():
        linux.unshare(linux.CLONE_NEWNET | _CLONE_NEWNS)
        linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE, "")
        _mount_sys(place)
        if not place.resolve().is_relative_to("/run"):
            linux.mount("tmpfs", "/run", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
        host = ThrowAwayHost(place / "peer")
        host.wire()
        try:
            yield host
        finally:
            for pid in processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            namespaces.delete(host.peer)


@contextlib.contextmanager
def _back_again() -> Iterator[None]:
    """Bring the calling thread back into its namespaces and its directory at the end."""
    flags = os.O_RDONLY | os.O_CLOEXEC
    with contextlib.ExitStack() as stack:
        kept = []
        for path in ("/proc/thread-self/ns/net", "/proc/thread-self/ns/mnt", "."):
            kept.append(os.open(path, flags))
            stack.callback(os.close, kept[-1])
        net, mounts, here = kept
        try:
            yield
        finally:
            enter(net, linux.CLONE_NEWNET)
            linux.unshare(_CLONE_FS)  # setns(2) refuses while another thread shares the root and current directory
            enter(mounts, _CLONE_NEWNS)
            os.fchdir(here)


def enter(namespace: int, kind: int) -> None:
    """Call setns(2) for the calling thread.

    :raises OSError: as setns(2).
    """
    if ctypes.CDLL(None, use_errno=True).setns(namespace, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _mount_sys(place: Path) -> None:
    """Mount the ``/sys`` of the current network namespace, which shows its interfaces, with the old control groups."""
    fresh = place / "sys"
    fresh.mkdir()
    linux.mount("sysfs", str(fresh), "sysfs", 0, "")
    linux.mount("/sys/fs/cgroup", str(fresh / "fs/cgroup"), "", linux.MS_BIND | linux.MS_REC, "")
    linux.mount(str(fresh), "/sys", "", _MS_MOVE, "")


def ip_batch(commands: list[str], *, netns: Path | str | None = None) -> str:
    """Run several ``ip`` commands in one process; return what they print, as JSON, a line for each that does."""
    enter_it = [] if netns is None else ["nsenter", f"--net={netns}"]
    command = [*enter_it, "ip", "-json", "-details", "-batch", "-"]
    done = subprocess.run(command, input="\n".join(commands), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()} ({commands})"
    return done.stdout


def processes() -> list[int]:
    """Return the processes in the current network namespace, without the calling one."""
    here = os.readlink("/proc/thread-self/ns/net")
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            if pid != os.getpid() and os.readlink(f"/proc/{pid}/ns/net") == here:
                found.append(pid)
    return found
