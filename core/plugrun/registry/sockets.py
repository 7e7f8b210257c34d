"""urllib3 connections whose reads together may take only so long.

A socket's own time-out begins anew with every byte: a server that sends one a second would never be given up.
"""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import threading
import time
from collections.abc import Callable
from socket import SHUT_RDWR, socket
from ssl import SSLSocket
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    from urllib3.response import HTTPResponse

    from plugrun.registry.limits import Limits

_BUFFER = 64 << 10
_RECORD = 16 << 10  # bytes that TLS sends together at most


class Watched:
    """A connected socket whose reads together wait only so long, until :meth:`settimeout` is called again."""

    def __init__(self, sock: socket, limits: Limits) -> None:
        self._sock = sock
        self._limits = limits
        self._left = math.inf  # seconds to wait; what whoever reads does in between is not the other side's fault
        self._missing: int | None = None  # bytes that must come meanwhile to begin anew

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        """Give what is read from now on this many seconds altogether."""
        self._left = math.inf if seconds is None else seconds
        self._missing = None

    def keep_pace(self) -> None:
        """From now on bound how slowly bytes come, no longer how long all of them take."""
        self._missing = self._limits.pace
        self._left = self._limits.window

    def sendall(self, data: Any) -> None:
        """Send everything.

        :raises TimeoutError: it took too long.
        """
        self._sock.settimeout(self._limits.window)
        self._sock.sendall(data)

    def break_off(self) -> None:
        """Make whoever reads or sends in another thread fail.

        Not by ``SSLSocket.shutdown``, which ends TLS first: what the other thread sends next would go out in clear.
        """
        socket.shutdown(getattr(self._sock, "socket", self._sock), SHUT_RDWR)  # what is below TLS within TLS

    def makefile(self, *_args: Any, **_options: Any) -> io.BufferedReader:
        """Return a file to read from."""
        return io.BufferedReader(_Incoming(self, self._sock.makefile("rb", buffering=0)), _BUFFER)

    def read(self, raw: io.RawIOBase, buffer: Any) -> int:
        """Read from ``raw`` what is there, or wait for it as long as is left.

        :raises TimeoutError: nothing is left.
        """
        if self._left <= 0:
            raise TimeoutError("too slow")
        self._sock.settimeout(None if self._left == math.inf else self._left)
        began = time.monotonic()
        count = cast("int", raw.readinto(buffer))
        self._left -= time.monotonic() - began
        if count == _RECORD < len(buffer) and isinstance(self._sock, SSLSocket):
            count += self._more(memoryview(buffer)[count:])
        if self._missing is not None:
            self._missing -= count
            if self._missing <= 0:
                self.keep_pace()
        return count

    def _more(self, room: memoryview) -> int:
        """Read the TLS records that are there already, each of which is a read of its own: a third less time."""
        count = 0
        self._sock.settimeout(0)
        with contextlib.suppress(OSError):  # nothing more, or the next read says what is wrong
            while count < len(room) and (read := self._sock.recv_into(room[count:])):
                count += read
        return count


class _Incoming(io.RawIOBase):
    """The reading side of a :class:`Watched` socket."""

    def __init__(self, watched: Watched, raw: io.RawIOBase) -> None:
        self._watched = watched
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._watched.read(self._raw, buffer)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class Watch:
    """What the connections of a transport have in common.

    :param limits: how long they may take.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: WeakSet[Watched] = WeakSet()
        self._over = False
        self._lock = threading.Lock()

    def begin(self, connection: HTTPConnection) -> None:
        """Watch a connection that was just made.

        :raises ConnectionAbortedError: nobody wants one any more.
        """
        watched = Watched(connection.sock, self._limits)
        with self._lock:
            if self._over:
                raise ConnectionAbortedError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))
            self._open.add(watched)
        connection.sock = cast("socket", watched)

    def shutdown(self) -> None:
        """Make whoever waits for something on any connection fail now, and new connections, too."""
        with self._lock:
            self._over = True
            watched = list(self._open)
        for each in watched:
            with contextlib.suppress(OSError):  # not connected any more
                each.break_off()


def pool_classes(watch: Watch, check_peer: Callable[[str], None] | None) -> dict[str, type[HTTPConnectionPool]]:
    """Return connection pools for :attr:`urllib3.PoolManager.pool_classes_by_scheme`.

    :param check_peer: called with the address of whom a connection was made to, before anything is asked there; raises
        if that may not be; not called for a proxy, which knows the address alone.
    """

    def connected(connection: HTTPConnection) -> None:
        try:
            if check_peer and not connection.proxy:
                check_peer(connection.sock.getpeername()[0])
            watch.begin(connection)
        except BaseException:
            connection.close()
            raise

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            connected(self)

        def getresponse(self) -> HTTPResponse:  # type: ignore[override]
            return _response(self, super().getresponse)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            connected(self)
            self.is_verified = True  # or its context says that it need not be: no warning

        def getresponse(self) -> HTTPResponse:  # type: ignore[override]
            return _response(self, super().getresponse)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _response(connection: HTTPConnection, read: Callable[[], HTTPResponse]) -> HTTPResponse:
    watched = cast("Watched", connection.sock)  # the connection lets go of it if it is not to be used again
    response = read()
    watched.keep_pace()
    return response
