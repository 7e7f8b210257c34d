"""Failing a program at each of its requests to the kernel, whatever it is written in: seccomp_unotify(2).

The action runs in a child process under a filter that reports, to this process, the system calls by which a program
changes something: messages to the kernel, files opened for writing, mounts, namespaces, programs started. That goes for
its threads and for the programs that it starts, too. They are counted together, and the one that is meant is answered
with an error, or with SIGKILL to the child.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import platform
import select
import signal
import struct
import threading
from collections.abc import Callable
from typing import NamedTuple

from plugrun.testing.processes import run_together

_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SYS_PIDFD_OPEN, _SYS_PIDFD_GETFD = 434, 438  # the same numbers on every architecture
_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # ioctl(2) requests of linux/seccomp.h
_NOTIFY, _ALLOW, _CONTINUE = 0x7FC00000, 0x7FFF0000, 1

# sendto sendmsg sendmmsg mount umount2 setns unshare execve, and what changes directories
_CALLS = {
    "x86_64": (44, 46, 307, 165, 166, 308, 272, 59, 82, 83, 84, 86, 87, 258, 263, 264, 265, 316),
    "aarch64": (206, 211, 269, 40, 39, 268, 97, 221, 34, 35, 37, 38, 276),
}
_IOCTL = {"x86_64": 16, "aarch64": 29}  # if its request is one of network interfaces, 0x89..
_OPENAT = {"x86_64": 257, "aarch64": 56}
_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOAD, _EQUAL, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x45, 0x54, 0x06
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Outcome(NamedTuple):
    """How an action ended.

    :param reached: whether it made as many requests.
    :param said: ``"ok"``, ``"killed"``, or the class name of the :class:`plugrun.api.PlugrunError` it raised.
    """

    reached: bool
    said: str


def why_not() -> str | None:
    """Say why programs cannot be failed in this way here, or ``None``."""
    if platform.machine() not in _CALLS:
        return f"the numbers of system calls on {platform.machine()} are not known here"
    done = interrupted(1, lambda: os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC), fail=None)
    return None if done.reached else "this kernel does not report system calls (seccomp user notification, Linux 5.6)"


def interrupted(step: int, action: Callable[[], object], *, fail: int | None) -> Outcome:
    """Run an action in another process, and fail its ``step``-th request.

    :param fail: the error that the request gets; ``None`` for SIGKILL.
    :raises AssertionError: it ended otherwise than a driver may: see :func:`plugrun.testing.processes.run_together`.
        A plain ``OSError`` with that error is an answer too.
    """
    watcher = _Watcher(step, fail)

    def watched() -> None:
        watcher.report(os.getpid(), _install())
        try:
            action()
        except OSError as error:
            if fail is None or error.errno != fail:
                raise

    try:
        (said,) = run_together([watched])
    finally:
        watcher.end()
    return Outcome(watcher.seen >= step, said)


class _Watcher:
    """The thread of this process that answers the kernel's questions about the child."""

    def __init__(self, step: int, fail: int | None) -> None:
        self.step = step
        self.fail = fail
        self.seen = 0
        self._told, self._tell = os.pipe()
        self._ready, self._go = os.pipe()
        self._ended, self._end = os.pipe()
        self._thread = threading.Thread(target=self._watch, name="requests")
        self._thread.start()

    def report(self, pid: int, listener: int) -> None:
        """Say, in the child, where the filter reports to; wait until somebody listens."""
        os.write(self._tell, struct.pack("=ii", pid, listener))
        os.read(self._ready, 1)

    def end(self) -> None:
        """Stop listening."""
        os.write(self._end, b"x")
        self._thread.join()
        for descriptor in (self._told, self._tell, self._ready, self._go, self._ended, self._end):
            os.close(descriptor)

    def _watch(self) -> None:
        events = select.poll()
        events.register(self._ended, select.POLLIN)
        events.register(self._told, select.POLLIN)
        if self._told not in dict(events.poll()):
            return
        child, number = struct.unpack("=ii", os.read(self._told, 8))
        events.unregister(self._told)
        listener = _taken_from(child, number) if number >= 0 else -1
        os.write(self._go, b"x")
        if listener < 0:
            return
        events.register(listener, select.POLLIN)
        # POLLHUP alone says that nobody is left who could ask
        while self._ended not in (ready := dict(events.poll())) and ready[listener] & select.POLLIN:
            self._answer(listener, child)
        os.close(listener)

    def _answer(self, listener: int, child: int) -> None:
        request = bytearray(80)  # struct seccomp_notif
        with contextlib.suppress(OSError):  # ENOENT: whoever asked has died meanwhile
            fcntl.ioctl(listener, _RECEIVE, request)
            identity, pid = struct.unpack_from("=QI", request)
            self.seen += 1
            error = 0
            if self.seen == self.step:
                error = -(self.fail or 0)
                if self.fail is None:
                    _kill(child, pid)
            # struct seccomp_notif_resp
            fcntl.ioctl(listener, _SEND, struct.pack("=QqiI", identity, 0, error, 0 if error else _CONTINUE))


def _kill(*victims: int) -> None:
    for victim in set(victims):
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


def _taken_from(child: int, number: int) -> int:
    """Return this process's own descriptor of what a child has open."""
    pidfd = _syscall(_SYS_PIDFD_OPEN, child, 0)
    try:
        return _syscall(_SYS_PIDFD_GETFD, pidfd, number, 0)
    finally:
        os.close(pidfd)


def _install() -> int:
    """Put the calling process under the filter; return the descriptor that it reports to, or -1 if there is none."""
    program = _program()
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))  # struct sock_fprog
    return _syscall(_SYS_SECCOMP[platform.machine()], _SET_MODE_FILTER, _NEW_LISTENER, head)


def _program() -> bytes:
    """Return the filter, in classic BPF: load, compare, return (linux/filter.h, linux/seccomp.h)."""
    machine = platform.machine()
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCH[machine]), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 0)]
    for call in _CALLS[machine]:
        steps += [(_EQUAL, 0, 1, call), (_RETURN, 0, 0, _NOTIFY)]
    # arguments begin at 16, eight bytes each, and their lower half is first on both architectures
    steps += [(_EQUAL, 0, 5, _IOCTL[machine]), (_LOAD, 0, 0, 24), (_AND, 0, 0, 0xFF00), (_EQUAL, 0, 1, 0x8900)]
    steps += [(_RETURN, 0, 0, _NOTIFY), (_RETURN, 0, 0, _ALLOW)]
    steps += [(_EQUAL, 0, 3, _OPENAT[machine]), (_LOAD, 0, 0, 32), (_ANY_BIT, 0, 1, _WRITING), (_RETURN, 0, 0, _NOTIFY)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _syscall(number: int, *arguments: int | bytes) -> int:
    longs = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return int(ctypes.CDLL(None).syscall(ctypes.c_long(number), *longs))
