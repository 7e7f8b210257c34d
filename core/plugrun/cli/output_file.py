"""A file that a command writes: whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator

from plugrun import terminal
from plugrun.errors import FailedPrecondition, Unavailable

Write = Callable[[bytes | memoryview], None]


class ReaderGone(Exception):
    """Nobody reads the pipe that is written to; tells it from any other :class:`BrokenPipeError` on the way up."""


@contextlib.contextmanager
def standard_output() -> Iterator[Write]:
    """Write to standard output, unless that is a terminal.

    :raises FailedPrecondition: it is one.
    """
    if terminal.is_terminal(1):
        raise FailedPrecondition(
            "an archive is not for a terminal", hint="name a file with --output (-o), or redirect standard output"
        )
    yield _writer(1, "standard output")


@contextlib.contextmanager
def replacing(path: str) -> Iterator[Write]:
    """Write a file that has its name only at the end of the block; after an error, everything is as it was.

    A device or a FIFO is written to at once.

    :raises Unavailable: it cannot be written.
    """
    what = f"file {path}"
    if _is_special(path):
        descriptor = _open(path, os.O_WRONLY, what)
        with contextlib.closing(open(descriptor, "wb", buffering=0)):
            yield _writer(descriptor, what)
        return
    real = os.path.realpath(path)  # behind a symbolic link, it is the file that is written anew
    staged = os.path.join(os.path.dirname(real), f".plugrun-{os.urandom(8).hex()}")
    try:  # from here on: a signal may come when the file has just been made
        descriptor = _open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, what)
        with contextlib.closing(open(descriptor, "wb", buffering=0)):
            yield _writer(descriptor, what)
            with _explained(what):
                os.fsync(descriptor)
        with _explained(what):
            os.rename(staged, real)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(staged)
        raise


def _is_special(path: str) -> bool:
    """Whether there is something else than a file, be it behind a link of ``/proc/self/fd`` that has no path."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _open(path: str, flags: int, what: str) -> int:
    with _explained(what):
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY, 0o600)


def _writer(descriptor: int, what: str) -> Write:
    def write(data: bytes | memoryview) -> None:
        left = memoryview(data)
        with _explained(what):
            while left:
                left = left[os.write(descriptor, left) :]

    return write


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        raise Unavailable(f"cannot write {what}: {error.strerror}") from error
