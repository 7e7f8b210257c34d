"""Archives of images: what kind each is, whatever it is wrapped in."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from typing import TYPE_CHECKING, Any

from plugrun import terminal
from plugrun.errors import InvalidArgument, NotFound, Unavailable
from plugrun.images import compression, layout
from plugrun.images.compression import Compression
from plugrun.images.members import LayoutDirectory, TarMembers
from plugrun.rootfd import RootDir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plugrun.images.image import Staged
    from plugrun.images.ingest import Ingest
    from plugrun.images.members import Source

_BUFFER = 1 << 20


def stage(source: str | None, work: Ingest) -> list[Staged]:
    """Verify the images of an archive or a layout directory.

    :param source: its path, ``None`` for an archive on standard input.
    :raises NotFound: no such file.
    :raises InvalidArgument: it holds no image, or is damaged.
    """
    if source is not None and os.path.isdir(source):
        with RootDir.at(source) as root:
            return _stage_members(LayoutDirectory(root, work, f"directory {source}"), work)
    with open_file(source) as (stream, what):
        return _stage_members(TarMembers(unwrapped(stream, what), work, what), work)


@contextlib.contextmanager
def open_file(source: str | None) -> Iterator[tuple[io.BufferedReader[Any], str]]:
    """Open an archive, and tell what to call it in messages.

    :raises NotFound: no such file.
    :raises InvalidArgument: it is a directory or a device.
    """
    what = "standard input" if source is None else f"file {source}"
    if source is None and terminal.is_terminal(0):
        raise InvalidArgument("standard input is a terminal", hint="name a file, or pipe an archive in")
    try:
        descriptor = os.dup(0) if source is None else os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"no such file: {source}") from None
    except OSError as error:
        raise Unavailable(f"{what} cannot be opened: {error.strerror}") from error
    try:
        _check_kind(os.fstat(descriptor).st_mode, what)
    except InvalidArgument:
        os.close(descriptor)
        raise
    with io.BufferedReader(io.FileIO(descriptor), _BUFFER) as stream:
        if not stream.peek(1):
            raise InvalidArgument(f"{what} is empty")
        yield stream, what


def _check_kind(mode: int, what: str) -> None:
    if stat.S_ISDIR(mode):
        raise InvalidArgument(f"{what} is a directory, not a tar archive")
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise InvalidArgument(f"{what} is a device, not a tar archive")


def unwrapped(stream: io.BufferedReader[Any], what: str) -> io.BufferedReader[Any]:
    """Return the decompressed bytes of an archive: gzip, zstd, xz, or as it is."""
    found = compression.detect_in(stream, what)
    return stream if found is Compression.NONE else compression.decompress(stream, found, what)


def _stage_members(source: Source, work: Ingest) -> list[Staged]:
    from plugrun.images import docker_archive, oci_archive

    # docker save has written both since version 25; the layout says more, and its digests cover it.
    if source.has(layout.MARKER) and source.has(layout.INDEX):
        return oci_archive.stage(source, work)
    if source.has(docker_archive.MANIFEST):
        return docker_archive.stage(source, work)
    raise InvalidArgument(
        f"{source.what} holds no image: no {docker_archive.MANIFEST}, and no {layout.MARKER} with {layout.INDEX}",
        hint="a tar of a root file system is added with plugrun import",
    )
