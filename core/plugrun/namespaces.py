"""Network namespaces of containers: made, pinned to a file, and let go.

A namespace lives as long as a process is in it or something is mounted from it; a bind mount of
``/proc/thread-self/ns/net`` onto a file keeps it between the driver's setup and the runtime's join
(network_namespaces(7), namespaces(7)).
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

from plugrun import linux, mounts
from plugrun.errors import DriverError, InvalidArgument, NotFound

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_NSFS_MAGIC = 0x6E736673  # statfs(2)
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)


def create(pin: Path) -> None:
    """Make a network namespace with ``lo`` up and pin it at ``pin``.

    :pre: the parent directory of ``pin`` exists; ``pin`` does not, or is left from a crash.
    :raises DriverError: the kernel refused.
    """
    import threading  # here, because most commands make no namespace

    delete(pin)
    os.close(os.open(pin, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    failures: list[OSError] = []

    def make() -> None:
        try:
            linux.unshare(linux.CLONE_NEWNET)
            _loopback_up()
            linux.mount("/proc/thread-self/ns/net", str(pin), "", linux.MS_BIND, "")
        except OSError as error:
            failures.append(error)

    # unshare(2) moves only the calling thread, and this one ends here: nothing has to be switched back.
    thread = threading.Thread(target=make, name="netns")
    thread.start()
    thread.join()
    if failures:
        delete(pin)
        raise DriverError(f"cannot make a network namespace: {failures[0].strerror}") from failures[0]


def delete(pin: Path) -> None:
    """Unpin a namespace; the kernel frees it when its last process ends. Absent is fine."""
    mounts.unmount(str(pin))
    pin.unlink(missing_ok=True)


def check(path: str) -> None:
    """See that a path is a network namespace, without entering it.

    :raises NotFound: there is nothing.
    :raises InvalidArgument: it is something else.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise NotFound(
            f"no network namespace at {path}: {error.strerror}",
            hint="'ip netns add NAME' makes one at /run/netns/NAME",
        ) from error
    try:
        kind = fcntl.ioctl(descriptor, _NS_GET_NSTYPE) if linux.file_system_type(descriptor) == _NSFS_MAGIC else 0
    finally:
        os.close(descriptor)
    if kind != linux.CLONE_NEWNET:
        raise InvalidArgument(f"{path} is no network namespace", hint="name one such as /run/netns/NAME")


def _loopback_up() -> None:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))
