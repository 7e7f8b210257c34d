"""Docker's ``config.json``: read, and changed without losing what others keep in it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugrun import locks, paths
from plugrun.errors import InvalidArgument, Unavailable
from plugrun.images import document

if TYPE_CHECKING:
    from plugrun.images.document import Document


def read(path: Path) -> Document:
    """Return what a file says; nothing, if there is none or it is empty.

    :raises InvalidArgument: it is not JSON of this shape.
    :raises Unavailable: it cannot be read.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        data = b""
    except OSError as error:
        raise Unavailable(f"cannot read the credentials in {path}: {error.strerror}") from error
    try:
        content = document.parse(data if data.strip() else b"{}", str(path))
        content.child("auths")  # what is there is to be understood before it is written anew
    except InvalidArgument as error:
        error.hint = f"mend {path}, or move it away and log in again"
        raise
    return content


@contextlib.contextmanager
def changing(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what a file says, to be changed in place, and write it at the end.

    Of several plugruns one writes at a time, each file whole: a crash leaves the old or the new one. Where the file is
    a link, what it leads to is replaced. It can be read by its owner only, who stays the same.

    :raises InvalidArgument: as :func:`read`; the file is left as it is.
    :raises Unavailable: it cannot be written.
    """
    path = Path(os.path.realpath(path))
    try:
        paths.ensure_private(path.parent)
        with locks.held(path.parent / f".{path.name}.lock", what=str(path)):
            content = read(path).values
            yield content
            _replace(path, json.dumps(content, indent="\t", ensure_ascii=False).encode())
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}") from error


def _replace(path: Path, data: bytes) -> None:
    staged = path.parent / f".{path.name}.new"
    staged.unlink(missing_ok=True)  # of a process that was killed
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as stream:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            with contextlib.suppress(FileNotFoundError, PermissionError):
                owner = path.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        staged.rename(path)
    except BaseException:
        staged.unlink()
        raise
    paths.sync_directory(path.parent)
