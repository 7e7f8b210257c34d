"""A blob on its way."""

from __future__ import annotations

import io
import re
import time
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import HTTPError

from plugrun.errors import Interrupted, InvalidArgument
from plugrun.registry import failures

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_CHUNK = 256 << 10
_PATIENCE = 0.1  # seconds after which what is there is passed on: progress is to be seen


class Body(io.RawIOBase):
    """Bytes of a blob as the registry sends them, as many as there should be; nobody has checked what they are.

    :param offset: where in the blob they begin.
    :param size: how many bytes the whole blob has.
    :param what: what is read, for messages.
    :param host: who sends it.
    """

    def __init__(self, response: BaseHTTPResponse, offset: int, size: int, what: str, host: str) -> None:
        self.offset = offset
        self._response = response
        self._left = size - offset
        self._size = size
        self._what = what
        self._host = host
        self._ended = False
        self._broken: Interrupted | None = None

    def readable(self) -> bool:
        """Return ``True``."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer as far as there are bytes soon; return how many, 0 at the end.

        :raises Interrupted: the connection broke off, or too little came.
        :raises InvalidArgument: there is more than there should be.
        """
        if self._broken:
            raise self._broken
        view = memoryview(buffer).cast("B")
        done, until = 0, time.monotonic() + _PATIENCE
        while done < len(view) and self._left and (not done or time.monotonic() < until):
            try:
                chunk = self._read(min(len(view) - done, self._left, _CHUNK))
            except Interrupted as error:
                if not done:
                    raise
                self._broken = error  # what came before it counts
                break
            view[done : done + len(chunk)] = chunk
            done += len(chunk)
            self._left -= len(chunk)
        if not self._left and not self._ended:
            self._end()
        return done

    def close(self) -> None:
        """Give the connection back, or break it off if there is more to come."""
        if not self.closed:
            self._response.close()
        super().close()

    def _read(self, count: int) -> bytes:
        try:
            chunk = self._response.read1(count)
        except (HTTPError, OSError) as error:
            raise self._interrupted(failures.cause(error)) from None
        if not chunk:
            raise self._interrupted("it ends early")
        return chunk

    def _end(self) -> None:
        """See the end: a body without a length may go on."""
        self._ended = True
        try:
            more = self._response.read1(1)
        except (HTTPError, OSError):
            return  # what was wanted is here
        if more:
            raise InvalidArgument(f"{self._what} from {self._host} is longer than its {self._size} bytes")

    def _interrupted(self, why: str) -> Interrupted:
        return Interrupted(f"{self._what} from {self._host} broke off {self._left} bytes before its end: {why}")


def begin(response: BaseHTTPResponse, offset: int, size: int, what: str, host: str) -> Body:
    """Return the body of the answer to a request for a blob from ``offset`` on.

    :raises InvalidArgument: the answer's head says that it holds something else.
    """
    start = _start(response, offset, size, what, host) if response.status == 206 else 0
    length = response.headers.get("Content-Length")
    if length is not None and length != str(size - start):
        raise InvalidArgument(
            f"{what} from {host} is to be {failures.shown(length)} bytes long, but has {size - start} of {size} left"
        )
    return Body(response, start, size, what, host)


def _start(response: BaseHTTPResponse, offset: int, size: int, what: str, host: str) -> int:
    """Return where a partial answer begins (RFC 9110, section 14.4)."""
    found = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", found)
    if not match or int(match[1]) != offset or int(match[2]) != size - 1 or match[3] not in {str(size), "*"}:
        raise InvalidArgument(
            f"{what} from {host} was asked from byte {offset} to {size - 1}, but Content-Range is "
            f"{failures.shown(found)!r}"
        )
    return offset
