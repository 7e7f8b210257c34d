"""The layers of one image on their way from a registry: fetched in parallel, and read while they come."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO, Self

from plugrun import waiting
from plugrun.errors import PlugrunError
from plugrun.images import digest as digests
from plugrun.images import streams
from plugrun.images.downloads import Download
from plugrun.images.following import Following, ReadAhead
from plugrun.images.ingest import Blob

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from plugrun.images.image import Layer
    from plugrun.images.ingest import Ingest
    from plugrun.registry.client import Repository

_PARALLEL = 6  # as podman; docker has 3
_READ_AHEAD = 1 << 20  # bytes: smaller layers are read sooner than a thread starts


class LayerFetch:
    """One layer, and how far it is.

    :param download: ``None`` when its bytes were here before.
    """

    def __init__(self, layer: Layer, download: Download | None) -> None:
        self.layer = layer
        self.download = download
        self.reader: Following | None = None
        self.checked = False

    @property
    def present(self) -> bool:
        """Whether its bytes were here before."""
        return self.download is None

    @property
    def done(self) -> bool:
        """Whether it is here, and read as far as it will be."""
        whole = self.layer.size
        return self.present or (self.fetched == whole and (self.reader is None or self.reader.position == whole))

    @property
    def resumed(self) -> int:
        """Bytes that an earlier pull had fetched."""
        return self.download.resumed if self.download else 0

    @property
    def fetched(self) -> int:
        """Bytes that are here, as stored."""
        return self.download.available if self.download else self.layer.size

    @property
    def unpacked(self) -> int:
        """Bytes that have been read for unpacking, as stored."""
        return self.reader.position if self.reader else 0


class Fetch:
    """All layers of one image; in a ``with`` block, whose end stops what is still being fetched.

    :param work: takes what is verified.
    :param root: the content store.
    :param known: returns pairs of digest and diff id that belong together.
    :param what: the image, for messages.
    :param abort: breaks the connections off, so that nobody waits for them.
    """

    def __init__(
        self,
        repository: Repository,
        layers: Sequence[Layer],
        work: Ingest,
        *,
        root: Path,
        known: Callable[[], Collection[tuple[str, str]]],
        what: str,
        abort: Callable[[], None],
    ) -> None:
        self._repository = repository
        self._work = work
        self._known = known
        self._what = what
        self._abort = abort
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(_PARALLEL, "fetch")
        self._jobs: list[Future[None]] = []
        unique = {layer.digest: layer for layer in layers}
        self.layers = {digest: LayerFetch(layer, self._download(root, layer)) for digest, layer in unique.items()}

    def __enter__(self) -> Self:
        wanted = [one.download for one in self.layers.values() if one.download is not None]
        try:
            for download in sorted(wanted, key=lambda one: -one.size):  # the order in which they are unpacked
                self._jobs.append(self._pool.submit(self._fetch, download))
        except BaseException as error:  # an interrupt, when some have begun
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None:
            self.cancel()
        self._pool.shutdown(cancel_futures=True)
        for one in self.layers.values():
            if one.download is not None:
                one.download.close()
        if isinstance(error, PlugrunError) and self._failure not in {None, error}:
            raise self._failure from None  # for which the others were given up

    def open_layer(self, layer: Layer) -> BinaryIO:
        """Return a layer's uncompressed bytes, as they come; reading them to the end checks everything."""
        one = self.layers[layer.digest]
        what = self._name(layer)
        one.checked = True
        if one.download is None:
            return self._work.open_layer(Blob(layer.digest, layer.size), what, diff_id=layer.diff_id).stream
        reader = one.reader = one.download.open()
        content = streams.open_content(reader, what, diff_id=layer.diff_id)
        if layer.size < _READ_AHEAD:
            return content
        return io.BufferedReader(ReadAhead(content, reader.give_up), streams.CHUNK)

    def finish(self) -> None:
        """Wait for all layers, and check the content of those that nobody read.

        :raises PlugrunError: as :meth:`Download.fetch`, or a layer's content is not what the configuration says.
        """
        for job in self._jobs:
            waiting.result(job)
        unchecked = [one for one in self.layers.values() if not one.checked]
        known = self._known() if unchecked else ()
        for one in unchecked:
            if (one.layer.digest, one.layer.diff_id) not in known:
                with self.open_layer(one.layer) as stream:
                    streams.drain(stream)

    def cancel(self) -> None:
        """Make everything end that waits for a layer, in any thread."""
        self._stop.set()
        self._abort()
        for one in self.layers.values():
            if one.download is not None:
                one.download.cancel()

    def forget_remains(self) -> bool:
        """Remove what was here before and is not known to be right; return whether there was any."""
        doubtful = [one.download for one in self.layers.values() if one.download and one.resumed]
        doubtful = [download for download in doubtful if not download.is_complete]
        for download in doubtful:
            download.forget()
        return bool(doubtful)

    def forget(self) -> None:
        """Remove the files of the downloads, after their blobs were published."""
        for one in self.layers.values():
            if one.download is not None:
                one.download.forget()

    def _download(self, root: Path, layer: Layer) -> Download | None:
        if self._work.pin(layer.digest, layer.size):
            return None
        return Download(root, layer.digest, layer.size, self._name(layer), self._stop)

    def _fetch(self, download: Download) -> None:
        repository = self._repository
        try:
            download.fetch(
                lambda offset: repository.open_blob(download.digest, download.size, offset=offset),
                lambda path: self._work.adopt(path, download.digest),
                lambda: self._work.path(download.digest) if self._work.pin(download.digest, download.size) else None,
            )
        except BaseException as error:
            with self._lock:
                if not self._stop.is_set():  # else something else failed first, and this is what became of it
                    self._failure = self._failure or error
            self.cancel()
            raise

    def _name(self, layer: Layer) -> str:
        return f"layer {digests.short(layer.digest)} of {self._what}"
