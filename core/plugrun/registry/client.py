"""The client's side of the distribution-spec 1.1: one repository at one endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from plugrun.errors import InvalidArgument
from plugrun.images import digest as digests
from plugrun.images import document, media
from plugrun.registry import body, links, upload
from plugrun.registry.body import Body
from plugrun.registry.transport import MAX_ERROR, Request, Transport
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.registry.endpoint import Endpoint

__all__ = ["Answer", "Body", "Repository", "Transport"]

_MANIFESTS = ", ".join(sorted(media.MANIFESTS | media.INDEXES))
_MAX_TAGS = 4 << 20  # bytes of one page
_MAX_PAGES = 1000
_MAX_COUNT = 200_000  # tags: whoever pulls them all keeps their names in memory


class Answer(NamedTuple):
    """A manifest or an index.

    :param media_type: as the registry announces it, without parameters; ``""`` if it does not.
    :param digest: of ``data``.
    """

    data: bytes
    media_type: str
    digest: str


class Repository:
    """One repository at one endpoint. Safe for threads.

    Every method raises :class:`Denied` when the registry does not let us, :class:`NotFound` when it does not have what
    is asked for, :class:`Unavailable` when it cannot be reached, and :class:`InvalidArgument` when what it says can not
    be right.
    """

    def __init__(self, transport: Transport, endpoint: Endpoint) -> None:
        self._transport = transport
        self._path = quote(endpoint.repository)
        self._endpoint = endpoint
        self._pull = (f"repository:{endpoint.repository}:pull",)
        self._uploads = upload.Uploads(transport, endpoint)

    def ping(self) -> None:
        """Ask whether there is a registry, and whether it knows us."""
        self._transport.fetch(self._endpoint, Request("GET", "", "the registry's API"), MAX_ERROR)

    def manifest(self, reference: str) -> Answer:
        """Return a manifest or an index.

        :param reference: a tag or a digest.
        :raises InvalidArgument: it is larger than 4 MiB, or not what its digest says.
        """
        request = self._about_manifest("GET", reference)
        reply = self._transport.fetch(self._endpoint, request, document.MAX_SIZE)
        media_type = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if digests.is_digest(reference):
            expected: str | None = reference
        elif (expected := reply.headers.get("Docker-Content-Digest")) is not None:
            digests.check(expected, f"Docker-Content-Digest of {request.what}")
        found = digests.of(reply.data, digests.algorithm(expected) if expected else "sha256")
        if expected not in {None, found}:
            raise InvalidArgument(f"{request.what} is corrupt: its digest is {found}, not {expected}")
        return Answer(reply.data, media_type, found)

    def has_manifest(self, reference: str) -> str | None:
        """Return the digest of a manifest by tag or digest; ``None`` if there is none.

        A registry that does not say the digest is asked for the manifest itself.
        """
        request = self._about_manifest("HEAD", reference)
        reply = self._transport.fetch(self._endpoint, request, MAX_ERROR, accepted=(200, 404))
        if reply.status == 404:
            return None
        digest = reply.headers.get("Docker-Content-Digest")
        if digest is None:
            return self.manifest(reference).digest
        return digests.check(digest, f"Docker-Content-Digest of {request.what}")

    def open_blob(self, digest: str, size: int, *, offset: int = 0) -> Body:
        """Return the bytes of a blob from ``offset`` on, or from its begin if the registry knows no ranges.

        :param size: of the whole blob.
        :raises InvalidArgument: the registry announces another size.
        """
        request = self._about_blob("GET", digests.check(digest))
        return self._transport.retry(lambda: self._open_blob(request, size, offset))

    def _open_blob(self, request: Request, size: int, offset: int) -> Body:
        ranged = request._replace(headers={"Range": f"bytes={offset}-"}) if offset else request
        accepted = (200, 206, 416) if offset else (200,)
        response, url = self._transport.open(self._endpoint, ranged, accepted=accepted)
        if response.status == 416:
            response.close()
            return self._open_blob(request, size, 0)
        try:
            return body.begin(response, offset, size, request.what, url.netloc or self._endpoint.host)
        except InvalidArgument:
            response.close()
            raise

    def has_blob(self, digest: str) -> bool:
        """Whether the repository has a blob."""
        request = self._about_blob("HEAD", digests.check(digest))
        return self._transport.fetch(self._endpoint, request, MAX_ERROR, accepted=(200, 404)).status == 200

    def tags(self) -> Iterator[str]:
        """Yield the repository's tags, in the order of the registry.

        :raises InvalidArgument: the list does not end.
        """
        what = f"list of the tags of {self._name}"
        request = Request("GET", f"{self._path}/tags/list", what, self._pull)
        count = 0
        for _ in range(_MAX_PAGES):
            reply = self._transport.fetch(self._endpoint, request, _MAX_TAGS)
            found = document.parse(reply.data, what).texts("tags")
            count += len(found)
            if count > _MAX_COUNT:
                raise InvalidArgument(f"the {what} has more than {_MAX_COUNT} of them")
            yield from found
            following = links.following(reply.headers.get("Link"), reply.url, what)
            if following is None:
                return
            request = request._replace(url=following)
        raise InvalidArgument(f"the {what} has more than {_MAX_PAGES} pages")

    def mount_blob(self, digest: str, source: str) -> bool:
        """Let the registry take a blob from another of its repositories; return whether it did.

        :param source: the path of that repository.
        """
        return self._uploads.mount(digests.check(digest), source)

    def upload_blob(
        self, digest: str, size: int, open_blob: Callable[[], BinaryIO], sent: Callable[[int], None]
    ) -> None:
        """Send a blob.

        :param open_blob: opens it for reading; called for each try.
        :param sent: told how many bytes more were sent; fewer than none when they have to be sent again.
        """
        self._uploads.upload(digests.check(digest), size, open_blob, sent)

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> None:
        """Store a manifest or an index whose blobs the repository has.

        :param reference: a tag or the digest of ``data``.
        """
        self._uploads.put_manifest(self._about_manifest("PUT", reference), data, media_type)

    @property
    def _name(self) -> str:
        return f"{self._endpoint.host}/{self._endpoint.repository}"

    def _about_manifest(self, method: str, reference: str) -> Request:
        what = f"image {self._name}{'@' if ':' in reference else ':'}{reference}"
        path = f"{self._path}/manifests/{quote(reference, safe=':')}"
        return Request(method, path, what, self._pull, headers={"Accept": _MANIFESTS})

    def _about_blob(self, method: str, digest: str) -> Request:
        what = f"blob {self._name}@{digest}"
        return Request(method, f"{self._path}/blobs/{digest}", what, self._pull)
