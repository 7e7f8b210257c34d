"""What is in an upper directory, and so may be different from the layers below it.

Overlayfs copies a file into the upper directory before it is changed. What is gone it marks there by a character device
0:0, and a directory that hides all below it by ``trusted.overlay.opaque`` (Documentation/filesystems/overlayfs.rst). So
a place that is not in the upper directory is as it was.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from plugrun.api import Changed

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = "trusted.overlay.opaque"
_DEPTH = 200  # one descriptor each, and no real tree comes near


def changes(upper: str) -> Iterator[Changed]:
    """Yield the places in the upper directory ``upper``; of what lies 200 levels deep, only where to look.

    :pre: nothing changes it meanwhile, which a running container does: what goes away then is passed over.
    """
    top = os.open(upper, _DIRECTORY)
    try:
        yield Changed(b"")
        yield from _below(top, b"", 1)
    finally:
        os.close(top)


def _below(directory: int, prefix: bytes, depth: int) -> Iterator[Changed]:
    with os.scandir(directory) as entries:
        found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        path = prefix + name
        if not is_directory:
            yield Changed(path)
            continue
        try:
            child = os.open(name, _DIRECTORY, dir_fd=directory)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                raise
            yield Changed(path, whole=True)
            continue
        try:
            whole = depth == _DEPTH or _is_opaque(child)
            yield Changed(path, whole)
            if not whole:
                yield from _below(child, path + b"/", depth + 1)
        finally:
            os.close(child)


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.ENOTSUP}:
            return False
        raise
