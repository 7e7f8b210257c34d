"""Talking from one network namespace to another, by sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from plugrun import linux
from plugrun.testing.network_host import enter

T = TypeVar("T")
Place = Path | str | None

_WAIT = 5.0  # seconds for what must arrive
_REFUSAL = 0.4  # seconds for what must not: longer than any answer takes in one machine


def inside(place: Place, action: Callable[[], T]) -> T:
    """Run something in a network namespace and return its answer.

    :param place: path of the namespace; ``None`` for the current one.
    """
    if place is None:
        return action()
    answers: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(descriptor, linux.CLONE_NEWNET)
            answers.append(action())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            failures.append(error)
        finally:
            os.close(descriptor)

    # setns(2) moves only the calling thread, and this one ends here
    thread = threading.Thread(target=work, name="inside")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return answers[0]


@contextlib.contextmanager
def answering(place: Place, port: int, word: bytes, *, address: str = "", udp: bool = False) -> Iterator[None]:
    """Have a server in a namespace that answers everybody with ``word``.

    :param address: where it listens; ``""`` for all addresses, IPv6 too.
    """
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    server = inside(place, lambda: _bound(address, port, kind))
    server.settimeout(0.05)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                if udp:
                    server.sendto(word, server.recvfrom(100)[1])
                else:
                    with server.accept()[0] as client:
                        client.sendall(word)

    thread = threading.Thread(target=serve, name="answering")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        server.close()


@contextlib.contextmanager
def occupied(port: int, *, address: str = "", udp: bool = False) -> Iterator[None]:
    """Have a port of the host taken by a listener that is not the driver's."""
    with _bound(address, port, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM):
        yield


def free_port(*, size: int = 1) -> int:
    """Return the first of several ports in a row at which nobody listens on the host."""
    for first in range(20_000, 60_000, size):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + size):
                stack.enter_context(_bound("", port, socket.SOCK_STREAM))
            return first
    raise AssertionError("no port is free")


def heard(place: Place, address: str, port: int, *, udp: bool = False) -> bytes | None:
    """Ask the server at an address from a namespace; return its word, or ``None`` if none comes in five seconds."""
    return inside(place, lambda: _ask(address, port, _WAIT, udp=udp))


def unheard(place: Place, address: str, port: int, *, udp: bool = False) -> bool:
    """Whether the server at an address does not answer. A case needs a positive control beside it."""
    return inside(place, lambda: _ask(address, port, _REFUSAL, udp=udp)) is None


def _ask(address: str, port: int, seconds: float, *, udp: bool) -> bytes | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as client:
        client.settimeout(seconds)
        try:
            client.connect((address, port))
            if udp:
                client.send(b"?")
            return client.recv(100) or None
        except OSError:
            return None


def _bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    both = address == "" and os.path.exists("/proc/net/if_inet6")
    server = socket.socket(socket.AF_INET6 if both or ":" in address else socket.AF_INET, kind)
    try:
        if both:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind == socket.SOCK_STREAM:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what ended a moment ago is no listener
        server.bind((address, port))
        if kind == socket.SOCK_STREAM:
            server.listen()
    except OSError:
        server.close()
        raise
    return server
