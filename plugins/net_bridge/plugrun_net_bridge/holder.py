"""A process that holds the host ports of one container, so that no program of the host takes them later.

Published ports are translated before a socket of the host could see anything, hence a program that started to listen on
one would wait in vain and never know. The process is ``sleep``, which has the sockets and does nothing: they are bound
but do not listen, and whoever connects where nothing is translated is refused as if they were not there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from plugrun.api import NamedTuple, PortMapping, Unavailable
from plugrun_net_bridge.mapped import PROTOCOLS
from plugrun_net_bridge.ports import port_in_use

LIMIT: Final = 100
"""So many ports of one container are held, in 5 ms; those beyond are only looked at when they are published."""

OWNER: Final = "PLUGRUN_HOLDER"
"""In the process's environment: whom it belongs to, and how to find one that a crash has left."""

_SHELL = "/bin/sh"
_SCRIPT = 'cd / && { "$1" infinity >/dev/null & echo $!; }'
_DIRECTORIES = ("/usr/bin", "/bin")
_STANDARD = 2  # the last of standard input, output and error
_PIDFD_GETFD = 438  # the same number on every architecture
_GONE = 10  # seconds that a killed process may take

_Place = tuple[int, int, str, int]  # family, protocol, address or "" for all of both kinds, port


class Holder(NamedTuple):
    """The process.

    :param pid: 0 for none: nothing is held.
    :param start: when it started, in clock ticks since the boot: no other process has both.
    """

    pid: int
    start: int


NOBODY: Final = Holder(0, 0)


def hold(ports: Sequence[PortMapping], old: Holder = NOBODY, owner: str = "") -> Holder:
    """Start a process that has the sockets of ``ports``; those that ``old`` has are shared with it.

    :param ports: settled. Only the first so many mappings that have no more than :data:`LIMIT` ports together are held.
    :param old: the process to be replaced; call :func:`release` for it afterwards.
    :param owner: what :func:`holders` finds the process by.
    :raises FailedPrecondition: a port is in use on the host; nothing has changed.
    """
    with contextlib.ExitStack() as stack:
        inherited = {_place_of(one): stack.enter_context(one) for one in _sockets_of(old)}
        held = []
        for place in (place for mapping in _held(ports) for place in _places(mapping)):
            if place in inherited:
                held.append(inherited[place])
            elif (new := _bound(place)) is not None:
                held.append(stack.enter_context(new))
        if not held:
            return NOBODY
        return _start([_above_standard(one.fileno(), stack) for one in held], owner)


def release(holder: Holder) -> None:
    """End the process, if it still runs, and wait until its ports are free."""
    if not holder.pid:
        return
    with contextlib.suppress(ProcessLookupError), _opened(holder) as pidfd:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], _GONE)


def is_alive(holder: Holder) -> bool:
    """Whether it holds what it should; one that has nothing to hold does."""
    return not holder.pid or _started(holder.pid) == holder.start


def holders() -> Iterator[tuple[str, Holder]]:
    """Yield every such process on the machine, with its owner."""
    prefix = f"{OWNER}=".encode()
    for name in os.listdir("/proc"):
        if name.isdigit():
            for owner in _variables(name, prefix):
                if (start := _started(int(name))) is not None:
                    yield owner, Holder(int(name), start)


def _variables(pid: str, prefix: bytes) -> list[str]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            found = stream.read().split(b"\0")
    except OSError:  # ended, or the kernel's
        return []
    return [os.fsdecode(one.removeprefix(prefix)) for one in found if one.startswith(prefix)]


# --- Sockets ---------------------------------------------------------------------------------------------------------


def _held(ports: Sequence[PortMapping]) -> Iterator[PortMapping]:
    room = LIMIT
    for one in ports:
        if one.size <= room:
            room -= one.size
            yield one


def _places(mapping: PortMapping) -> Iterator[_Place]:
    """Yield where the sockets of a mapping are, one for each port."""
    address = mapping.host_address or ("" if _has_ipv6() else "0.0.0.0")  # noqa: S104
    family = socket.AF_INET if "." in address and ":" not in address else socket.AF_INET6
    for offset in range(mapping.size):
        yield family, PROTOCOLS[mapping.protocol], address, mapping.host_port + offset


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return True


def _place_of(one: socket.socket) -> _Place:
    address, port = one.getsockname()[:2]
    if address == "::" and not one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        address = ""
    return one.family, one.proto, address, port


def _bound(place: _Place) -> socket.socket | None:
    """Return a socket there; ``None`` where the kernel has none of that kind.

    :raises FailedPrecondition: the port is in use.
    """
    family, protocol, address, port = place
    kind = socket.SOCK_DGRAM if protocol == socket.IPPROTO_UDP else socket.SOCK_STREAM
    try:
        made = socket.socket(family, kind, protocol)
    except OSError:
        return None
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bool(address))
        _bind(made, (address, port))
    except OSError as error:
        made.close()
        if error.errno != errno.EADDRINUSE:
            raise Unavailable(
                f"port {port} cannot be held at {address or 'all addresses'}: {error.strerror}"
            ) from error
        raise port_in_use(address, port, protocol) from None
    return made


def _bind(made: socket.socket, place: tuple[str, int]) -> None:
    """Bind, also where ended connections of a server still have the port; nobody else may do so afterwards."""
    try:
        made.bind(place)
    except OSError:
        if made.proto != socket.IPPROTO_TCP:
            raise
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(place)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def _above_standard(descriptor: int, stack: contextlib.ExitStack) -> int:
    """Return a descriptor that is not in the way of standard input and output, which may be closed here."""
    if descriptor > _STANDARD:
        return descriptor
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _STANDARD + 1)
    stack.callback(os.close, copy)
    return copy


# --- The process -----------------------------------------------------------------------------------------------------


def _start(sockets: Sequence[int], owner: str) -> Holder:
    """Start a process with these files and no others; it belongs to nobody who would have to wait for it."""
    program = _sleep()
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with open(reader, encoding="ascii") as answer:
        try:
            actions = [
                (os.POSIX_SPAWN_DUP2, writer, 1),
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                *((os.POSIX_SPAWN_DUP2, one, one) for one in sockets),  # so that exec keeps them
                *((os.POSIX_SPAWN_CLOSE, one) for one in _inheritable()),
            ]
            shell = os.posix_spawn(
                _SHELL,
                [_SHELL, "-c", _SCRIPT, _SHELL, program],
                {OWNER: owner},
                file_actions=actions,
                setsid=True,
                setsigmask=[],
            )
        finally:
            os.close(writer)
        pid = answer.read().strip()
    os.waitpid(shell, 0)
    start = _started(int(pid)) if pid else None
    if start is None:
        raise Unavailable(f"no process to hold ports can be started: {program} infinity ended at once")
    return Holder(int(pid), start)


def _sleep() -> str:
    """Return where sleep(1) is."""
    for directory in _DIRECTORIES:
        program = f"{directory}/sleep"
        if os.access(program, os.X_OK):
            return program
    raise Unavailable("no process to hold ports can be started: there is no sleep(1)", hint="install coreutils")


def _inheritable() -> list[int]:
    """Return the files that a child would get by accident."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the directory's own
            if int(name) > _STANDARD and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def _started(pid: int) -> int | None:
    """Return when a process started: proc_pid_stat(5), field 22; ``None`` if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


@contextlib.contextmanager
def _opened(holder: Holder) -> Iterator[int]:
    """Open the process itself, whatever gets its number later.

    :raises ProcessLookupError: it has ended.
    """
    pidfd = os.pidfd_open(holder.pid)
    try:
        if _started(holder.pid) != holder.start:
            raise ProcessLookupError(holder.pid)
        yield pidfd
    finally:
        os.close(pidfd)


def _sockets_of(holder: Holder) -> Iterator[socket.socket]:
    """Yield the sockets that a holder has, shared with it."""
    if not holder.pid:
        return
    with contextlib.suppress(ProcessLookupError), _opened(holder) as pidfd:
        for name in os.listdir(f"/proc/{holder.pid}/fd"):
            if int(name) > _STANDARD and (descriptor := _taken_over(pidfd, int(name))) is not None:
                if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    yield socket.socket(fileno=descriptor)
                else:  # a library that it is just loading
                    os.close(descriptor)


def _taken_over(pidfd: int, number: int) -> int | None:
    """Return a file of another process, ``None`` if it has just closed it: pidfd_getfd(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    descriptor = int(libc.syscall(*(ctypes.c_long(one) for one in (_PIDFD_GETFD, pidfd, number, 0))))
    if descriptor >= 0:
        return descriptor
    if ctypes.get_errno() == errno.EBADF:
        return None
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
