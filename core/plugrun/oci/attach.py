"""Connect the caller's standard streams with a running container's, through its monitor.

The attach socket (conmon ``conn_sock.c``) is a SOCK_SEQPACKET: each packet from the monitor begins with a byte that
names the stream, packets to it are plain input, and shutting down the sending half ends the container's input.

One loop does everything. It reads from a side only when what it read before has gone out to the other side, so memory
stays flat and a slow reader slows the container down, as in a pipe.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import select
import socket
from collections.abc import Callable

from plugrun.errors import Unavailable
from plugrun.oci.keys import Detector
from plugrun.oci.signals import Signals
from plugrun.terminal import is_terminal

_STDOUT, _STDERR = 2, 3
_PACKET = 65537  # conmon sends at most 8 KiB and the stream's byte
_INPUT = 8192  # no conmon reads fewer bytes at once, and a longer packet would lose its rest
_PIPE_BUF = select.PIPE_BUF  # what a pipe that poll(2) calls writable takes without blocking
_AFTER_END = 4 << 20  # more than the pipes and sockets on the way can hold: a writer outlived its process

_READ = select.POLLIN
_WRITE = select.POLLOUT


class Outcome(enum.Enum):
    """Why :func:`attach` came back."""

    EXITED = "exited"  # all output has been written; the exit code may be a moment later
    DETACHED = "detached"  # the user typed the detach keys, or left with the terminal itself
    BROKEN = "broken"  # nobody reads the caller's standard output any more


def attach(
    sock: socket.socket,
    *,
    stdin: int | None,
    stdout: int,
    stderr: int,
    tty: bool,
    detach_keys: bytes,
    ended: int,
    forward_signal: Callable[[int], None] | None = None,
    on_resize: Callable[[int, int], None] | None = None,
    process: int | None = None,
) -> Outcome:
    """Copy until the container ends, the user detaches, or the caller's standard output breaks.

    Connect ``sock`` before the container starts, or early output is missed. The descriptors stay open, and as they
    were: no flag of theirs changes, since other processes share them.

    :param sock: from :func:`plugrun.oci.monitor.connect`; stays open.
    :param stdin: the container's input comes from here until its end; ``None`` leaves the input alone.
    :param tty: the container has a terminal: detach keys count, and there is no standard error of its own.
    :param ended: pidfd of the monitor; when it is gone, what is left in the socket is the rest.
    :param forward_signal: called with each signal this process gets, instead of that signal's usual effect.
    :param on_resize: called with rows and columns when the caller's terminal changes its size.
    :param process: pidfd of the process proper, for an exec session: when it has ended but something it left goes on
        writing, at most 4 MiB more are copied. The first process of a container takes all others with it.
    """
    output = _Output(sock, stdout=stdout, stderr=stderr)
    keyboard = tty and stdin is not None and is_terminal(stdin)
    source = _Input(sock, stdin, Detector(detach_keys if tty else b""), keyboard=keyboard)
    terminals = (stdout,) if stdin is None else (stdout, stdin)
    with Signals(forward_signal, on_resize, terminals) as signals:
        signals.resize()  # it may have changed before we listened
        return _copy(output, source, signals, ended=ended, process=process)


def _copy(output: _Output, source: _Input, signals: Signals, *, ended: int, process: int | None) -> Outcome:
    others = {signals.descriptor, ended} | ({process} if process is not None else set())
    while True:
        gone = ended not in others
        ready = _wait([*output.wanted(), *source.wanted(), *((fd, _READ) for fd in others if fd >= 0)], gone=gone)
        if signals.descriptor in ready:
            signals.handle()
        if process in ready:
            output.limit(_AFTER_END)
        others -= ready.keys() - {signals.descriptor}
        if not output.step(ready, final=gone):
            return Outcome.EXITED
        if output.broken:
            return output.broken
        source.step(ready)
        if source.detached:
            return Outcome.DETACHED


def _wait(wanted: list[tuple[int, int]], *, gone: bool) -> dict[int, int]:
    """Wait for any of some descriptors; one may be there for input and for output, such as a terminal."""
    poll = select.poll()
    events: dict[int, int] = {}
    for descriptor, event in wanted:
        events[descriptor] = events.get(descriptor, 0) | event
    for descriptor, event in events.items():
        poll.register(descriptor, event)
    pending = any(event & _WRITE for event in events.values())
    return dict(poll.poll(0 if gone and not pending else None))


class _Output:
    """From the container to the caller: one packet at a time."""

    def __init__(self, sock: socket.socket, *, stdout: int, stderr: int) -> None:
        self.broken: Outcome | None = None
        self._sock = sock
        self._streams: dict[int, int | None] = {_STDOUT: stdout, _STDERR: stderr}
        self._stream = _STDOUT
        self._pending = memoryview(b"")
        self._left: int | None = None

    def limit(self, size: int) -> None:
        """Copy at most ``size`` bytes more."""
        self._left = size

    def wanted(self) -> list[tuple[int, int]]:
        target = self._streams[self._stream]
        return [(target, _WRITE)] if self._pending and target is not None else [(self._sock.fileno(), _READ)]

    def step(self, ready: dict[int, int], *, final: bool) -> bool:
        """Go on with what is ready.

        :param final: nothing new comes into the socket any more.
        :return: ``False`` at the end of the output.
        """
        target = self._streams[self._stream]
        if self._pending:
            if target is not None and ready.get(target, 0) & ~_READ:
                self._write(target)
            return True
        return self._receive(final=final) if final or self._sock.fileno() in ready else True

    def _receive(self, *, final: bool) -> bool:
        try:
            packet = self._sock.recv(_PACKET, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return not final
        except ConnectionResetError:
            return True  # it left without reading all our input; its output is still there
        if self._left is not None:
            self._left -= len(packet)
        if not packet or (self._left is not None and self._left < 0):
            return False
        if self._streams.get(packet[0]) is not None:
            self._stream, self._pending = packet[0], memoryview(packet)[1:]
        return True

    def _write(self, target: int) -> None:
        try:
            self._pending = self._pending[os.write(target, self._pending[:_PIPE_BUF]) :]
        except BlockingIOError:
            return  # somebody else made it non-blocking
        except OSError as error:
            if error.errno not in {errno.EPIPE, errno.EIO}:
                raise Unavailable(f"cannot write the container's output: {error.strerror}") from error
            self._pending = memoryview(b"")
            self._streams[self._stream] = None
            if self._stream == _STDOUT:
                self.broken = Outcome.BROKEN if error.errno == errno.EPIPE else Outcome.DETACHED


class _Input:
    """From the caller to the container."""

    def __init__(self, sock: socket.socket, stdin: int | None, detector: Detector, *, keyboard: bool) -> None:
        self._sock = sock
        self._stdin = stdin
        self._detector = detector
        self._keyboard = keyboard
        self._pending = b""
        self._completed = False

    @property
    def detached(self) -> bool:
        """Whether the user has left, and what was typed before has gone out."""
        return self._completed and not self._pending

    def wanted(self) -> list[tuple[int, int]]:
        if self._pending:
            return [(self._sock.fileno(), _WRITE)]
        return [] if self._stdin is None else [(self._stdin, _READ)]

    def step(self, ready: dict[int, int]) -> None:
        """Go on with what is ready."""
        if self._pending:
            if ready.get(self._sock.fileno(), 0) & ~_READ:
                self._send()
        elif self._stdin is not None and ready.get(self._stdin, 0) & ~_WRITE:
            self._read(self._stdin)

    def _read(self, stdin: int) -> None:
        try:
            data = os.read(stdin, _INPUT)
        except BlockingIOError:
            return  # somebody else made it non-blocking
        except OSError:
            data = b""  # closed, a directory, or the terminal of other jobs: there is no input
        if data:
            self._pending, self._completed = self._detector.feed(data)
            return
        self._stdin = None
        self._pending = self._detector.rest()
        self._completed = self._keyboard  # raw, it ends only when it is hung up
        if not self._pending:
            self._finish()

    def _send(self) -> None:
        try:
            self._pending = self._pending[self._sock.send(self._pending[:_INPUT], socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._pending, self._stdin = b"", None  # the container ends; the output side finds out
            return
        if self._stdin is None and not self._pending:
            self._finish()

    def _finish(self) -> None:
        """End the container's input."""
        with contextlib.suppress(OSError):  # it has ended already
            self._sock.shutdown(socket.SHUT_WR)
