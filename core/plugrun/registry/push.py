"""Pushing images: distribution-spec 1.1, "Push". Blobs go first and at once, the manifest that needs them last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from enum import Enum
from typing import TYPE_CHECKING, Self

from plugrun.errors import PlugrunError
from plugrun.registry import outgoing
from plugrun.registry.client import Repository, Transport
from plugrun.tuples import NamedTuple
from plugrun.waiting import LOOK

if TYPE_CHECKING:
    from pathlib import Path

    from plugrun.images.manifest import Descriptor
    from plugrun.images.reference import Reference
    from plugrun.registry.endpoint import Endpoint

_AT_ONCE = 4
_MOUNTS = 3  # repositories to try


class State(Enum):
    """How far a blob is."""

    SENDING = "sending"
    PUSHED = "pushed"
    EXISTS = "already exists"
    MOUNTED = "mounted"


class Step(NamedTuple):
    """Something happened to a blob.

    :param sent: bytes that were sent so far; fewer than before when they have to be sent again.
    :param source: the repository it was mounted from.
    """

    blob: Descriptor
    state: State
    sent: int = 0
    source: str = ""


Report = Callable[[Step], None]  # called from other threads, but never by two at once


class Pushed(NamedTuple):
    """An image that is in the registry now.

    :param digest: of its manifest, as is ``size``.
    """

    reference: Reference
    digest: str
    size: int


class Pusher:
    """Pushes images to one repository.

    :param root: the image store.
    :param transport: is closed by a push that fails.
    """

    def __init__(self, root: Path, transport: Transport, endpoint: Endpoint) -> None:
        self._root = root
        self._transport = transport
        self._repository = Repository(transport, endpoint)
        self._neighbours: Mapping[str, Sequence[str]] | None = None

    def push(self, ref: Reference, report: Report) -> Pushed:
        """Push one image: the blobs that the registry does not have, then the manifest.

        Raises as :class:`Repository` does; the message names the image.

        :raises NotFound: there is no such image in the store.
        :raises FailedPrecondition: not all of it is in the store.
        """
        try:
            image = outgoing.read(self._root, ref)
            if self._neighbours is None:
                self._neighbours = outgoing.neighbours(self._root, ref)
            with _Watch(report, self._transport.close) as watch:
                watch.each(image.blobs, self._send)
            assert ref.tag
            self._repository.put_manifest(ref.tag, image.data, image.manifest.media_type)
        except PlugrunError as error:
            error.args = (f"cannot push {ref.familiar()}: {error}",)
            raise
        return Pushed(ref, image.manifest.digest, image.manifest.size)

    def _send(self, blob: Descriptor, report: Report) -> None:
        if self._repository.has_blob(blob.digest):
            return report(Step(blob, State.EXISTS))
        assert self._neighbours is not None
        for source in self._neighbours.get(blob.digest, ())[:_MOUNTS]:
            if self._repository.mount_blob(blob.digest, source):
                return report(Step(blob, State.MOUNTED, source=source))
        sent = 0

        def more(count: int) -> None:
            nonlocal sent
            sent += count
            report(Step(blob, State.SENDING, sent))

        more(0)
        self._repository.upload_blob(blob.digest, blob.size, lambda: outgoing.open_blob(self._root, blob.digest), more)
        return report(Step(blob, State.PUSHED, blob.size))


class _Watch:
    """Lets several threads work, as a context, until one of them fails or an error ends the block.

    :param report: gets what they report, one step at a time, and nothing after the first failure.
    :param abort: makes those fail that still wait for the registry, so that nobody has to wait for them.
    """

    def __init__(self, report: Report, abort: Callable[[], None]) -> None:
        self._report = report
        self._abort = abort
        self._lock = threading.Lock()
        self._first = threading.Lock()  # not the one above, which is kept as long as a terminal is blocked
        self._ended = False
        self._failure: BaseException | None = None
        self._threads = ThreadPoolExecutor(_AT_ONCE, "push")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            self._threads.shutdown()
            return
        self._end(error)
        self._threads.shutdown(wait=False)
        if isinstance(error, Exception) and self._failure is not error:
            assert self._failure is not None
            raise self._failure from None  # for which the others were given up

    def each(self, blobs: Sequence[Descriptor], work: Callable[[Descriptor, Report], None]) -> None:
        """Call ``work`` with each blob."""

        def guarded(blob: Descriptor) -> None:
            if self._ended:
                return
            try:
                work(blob, self._tell)
            except BaseException as error:
                self._end(error)
                raise

        pending = {self._threads.submit(guarded, blob) for blob in blobs}
        while pending:
            done, pending = wait(pending, LOOK, FIRST_COMPLETED)
            for job in done:
                job.result()

    def _tell(self, step: Step) -> None:
        with self._lock:
            if not self._ended:
                self._report(step)

    def _end(self, error: BaseException) -> None:
        with self._first:
            self._ended = True
            self._failure = self._failure or error
        self._abort()
