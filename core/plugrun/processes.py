"""Processes by number, told apart from later ones that got the same number."""

from __future__ import annotations

import os
import select

UNKNOWN_START = 0
_POLL_LONGEST = 2**31 - 1


def boot_id() -> str:
    """Identify this boot of the machine: random(4), ``/proc/sys/kernel/random/boot_id``."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot (proc_pid_stat(5), field 22).

    :return: :data:`UNKNOWN_START` if there is no such process, or it is a zombie.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return UNKNOWN_START
    return UNKNOWN_START if fields[0] in {b"Z", b"X"} else int(fields[19])


def alive(pid: int | None, start: int) -> bool:
    """Whether the process that had this number and start time still runs."""
    return pid is not None and start != UNKNOWN_START and start_time(pid) == start


def open_pidfd(pid: int | None, start: int) -> int | None:
    """Open a pidfd_open(2) descriptor: readable when the process has ended. ``None`` if it already has."""
    if pid is None:
        return None
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if alive(pid, start):
        return descriptor
    os.close(descriptor)
    return None


def wait_ended(pid: int | None, start: int, timeout: float | None = None) -> bool:
    """Wait until a process has ended.

    :param timeout: seconds; ``None``, or more than poll(2) can count (24 days), waits for ever.
    :return: whether it has.
    """
    descriptor = open_pidfd(pid, start)
    if descriptor is None:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(milliseconds(timeout)))
    finally:
        os.close(descriptor)


def milliseconds(seconds: float | None) -> float | None:
    """Return a timeout for poll(2), whose milliseconds are an ``int``; ``None``, for ever, when it is beyond."""
    if seconds is None or seconds * 1000 > _POLL_LONGEST:
        return None
    return max(0.0, seconds) * 1000
