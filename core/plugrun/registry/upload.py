"""Sending blobs and manifests (distribution-spec, "Push")."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import quote

from plugrun.errors import Denied, DriverError, InvalidArgument, NotFound, Unavailable
from plugrun.images import digest as digests
from plugrun.registry import origin
from plugrun.registry.transport import MAX_ERROR, Reply, Request, Transport

if TYPE_CHECKING:
    from urllib3.util import Url

    from plugrun.registry.endpoint import Endpoint

_CHUNK = 256 << 10


class Uploads:
    """The writing half of a repository. Safe for threads."""

    def __init__(self, transport: Transport, endpoint: Endpoint) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._path = quote(endpoint.repository)
        self._name = f"{endpoint.host}/{endpoint.repository}"
        self._push = (f"repository:{endpoint.repository}:pull,push",)
        self._begun: dict[str, Url] = {}  # uploads that the registry began instead of mounting a blob
        self._lock = threading.Lock()

    def mount(self, digest: str, source: str) -> bool:
        """Let the registry take a blob from another of its repositories; return whether it did."""
        scopes = (*self._push, f"repository:{source}:pull")
        url = f"{self._path}/blobs/uploads/?mount={quote(digest)}&from={quote(source, safe='')}"
        request = Request("POST", url, f"blob {source}@{digest} for {self._name}", scopes, body=bytes)
        try:
            reply = self._transport.fetch(self._endpoint, request, MAX_ERROR, accepted=(201, 202))
        except (Denied, NotFound, InvalidArgument):
            return False  # the upload that follows says what is wrong, if anything is
        if reply.status == 202:
            with self._lock:
                self._begun[digest] = self._location(reply)
        return reply.status == 201

    def upload(self, digest: str, size: int, open_blob: Callable[[], BinaryIO], sent: Callable[[int], None]) -> None:
        """Send a blob."""
        what = f"blob {self._name}@{digest}"
        self._transport.retry(lambda: self._upload(digest, what, _Source(size, open_blob, sent, what)))

    def put_manifest(self, request: Request, data: bytes, media_type: str) -> None:
        """Store a manifest.

        :raises DriverError: the registry says that it has stored something else.
        """
        request = request._replace(scopes=self._push, headers={"Content-Type": media_type}, body=lambda: data)
        reply = self._transport.fetch(self._endpoint, request, MAX_ERROR, accepted=(201,))
        stored = reply.headers.get("Docker-Content-Digest")
        if stored and digests.is_digest(stored) and stored != digests.of(data, digests.algorithm(stored)):
            raise DriverError(f"registry {self._endpoint.host} has stored {request.what} as {stored}, which it is not")

    def _upload(self, digest: str, what: str, source: _Source) -> None:
        with self._lock:
            begun = self._begun.pop(digest, None)
        if begun:
            try:
                return self._put(begun, digest, what, source)
            except (NotFound, InvalidArgument):
                pass  # the registry has given it up
        request = Request("POST", f"{self._path}/blobs/uploads/", what, self._push, body=bytes)
        begun = self._location(self._transport.attempt(self._endpoint, request, MAX_ERROR, accepted=(202,)))
        return self._put(begun, digest, what, source)

    def _put(self, url: Url, digest: str, what: str, source: _Source) -> None:
        joined = "&".join(filter(None, (url.query, f"digest={quote(digest)}")))
        headers = {"Content-Length": str(source.size), "Content-Type": "application/octet-stream"}
        request = Request(
            "PUT",
            url._replace(query=joined),
            what,
            self._push,
            headers=headers,
            body=source.chunks,
            patience=self._transport.limits.upload,
        )
        try:
            self._transport.attempt(self._endpoint, request, MAX_ERROR, accepted=(201,))
        except BaseException:
            source.rewind()
            raise

    def _location(self, reply: Reply) -> Url:
        return origin.follow(reply.url, reply.headers.get("Location"), f"registry {self._endpoint.host}")


class _Source:
    """A blob being sent, each time from its begin."""

    def __init__(self, size: int, open_blob: Callable[[], BinaryIO], sent: Callable[[int], None], what: str) -> None:
        self.size = size
        self._open = open_blob
        self._sent = sent
        self._what = what
        self._told = 0

    def chunks(self) -> Iterable[memoryview]:
        """Yield the blob's bytes.

        :raises InvalidArgument: there are fewer than there should be.
        """
        self.rewind()
        buffer = memoryview(bytearray(min(_CHUNK, self.size)))
        with self._open() as file:
            while self._told < self.size:
                wanted = buffer[: self.size - self._told]
                count = self._read(file, wanted)
                if not count:
                    raise InvalidArgument(f"{self._what} is cut short: {self._told} of {self.size} bytes")
                yield buffer[:count]
                self._told += count
                self._sent(count)

    def _read(self, file: BinaryIO, buffer: memoryview) -> int:
        try:
            return cast("int", file.readinto(buffer))  # type: ignore[attr-defined]
        except OSError as error:  # not to be taken for one of the network
            raise Unavailable(f"{self._what} cannot be read: {error.strerror}") from None

    def rewind(self) -> None:
        """Take back what was said to be sent."""
        if self._told:
            self._sent(-self._told)
        self._told = 0
