"""What the two sides of a copy mean: Docker's rules, without looking at any file.

Source: docs.docker.com/reference/cli/docker/container/cp.
"""

from __future__ import annotations

import os
import posixpath

from plugrun.errors import AlreadyExists, InvalidArgument, NotFound
from plugrun.tuples import NamedTuple

STREAM = "-"


class Side(NamedTuple):
    """One side as typed.

    :param container: name or id; ``None`` for the host.
    :param text: the path as typed; :data:`STREAM` on the host is standard input or output.
    """

    container: str | None
    text: str

    @property
    def is_stream(self) -> bool:
        """Whether it is a tar archive on standard input or output."""
        return self.container is None and self.text == STREAM

    def __str__(self) -> str:
        return self.text if self.container is None else f"{self.container}:{self.text}"


class Place(NamedTuple):
    """A path made absolute, ``.`` and ``..`` taken out by their text, as Docker does.

    :param directory: the text insists on a directory: it ends in ``/`` or ``/.``.
    :param contents: of a directory what is in it is meant, not itself: the text ends in ``/.``, or it is the root.
    :param said: the side as typed, for messages.
    """

    path: str
    directory: bool
    contents: bool
    said: str

    @property
    def name(self) -> str:
        """Its last component."""
        return posixpath.basename(self.path)


def side(text: str) -> Side:
    """Read ``CONTAINER:PATH`` or a path of the host: one that begins with ``/`` or ``.``, or has no colon.

    :raises InvalidArgument: it is empty.
    """
    if not text:
        raise InvalidArgument("a path to copy is empty", hint="write CONTAINER:PATH, a path of this host, or -")
    container, colon, path = text.partition(":")
    if text.startswith(("/", ".")) or not colon:
        return Side(None, text)
    if not container:
        raise InvalidArgument(f"{text!r} names no container", hint=f"if it is a file of this host, write ./{text}")
    return Side(container, path)


def sides(source: str, destination: str) -> tuple[Side, Side]:
    """Read both sides.

    :raises InvalidArgument: neither is in a container, or both are.
    """
    both = side(source), side(destination)
    inside = [one.container for one in both if one.container is not None]
    if not inside:
        raise InvalidArgument(
            f"neither {source!r} nor {destination!r} is in a container", hint="write one of them as CONTAINER:PATH"
        )
    if len(inside) == 2:
        raise InvalidArgument(
            "cp does not copy from one container to another",
            hint=f"join two: plugrun cp {source} - | plugrun cp - {inside[1]}:DIRECTORY",
        )
    return both


def place(of: Side) -> Place:
    """Make a side's path absolute: in a container from its root, on the host from the working directory.

    :raises NotFound: the working directory is gone.
    """
    start = "/"
    if of.container is None and not of.text.startswith("/"):
        try:
            start = os.getcwd()
        except FileNotFoundError as error:
            raise NotFound("the working directory does not exist any more", hint="write absolute paths") from error
    path = posixpath.normpath(posixpath.join(start, of.text.lstrip("/") if of.container is not None else of.text))
    path = f"/{path.lstrip('/')}"  # POSIX lets two slashes at the beginning stand
    last = of.text.rpartition("/")[2]
    return Place(path, directory=last in {"", ".", ".."}, contents=last == "." or path == "/", said=str(of))


class Exists(NamedTuple):
    """What there is at a destination.

    :param directory: whether it is a directory.
    """

    directory: bool


def name_at(source: Place, destination: Place, *, is_directory: bool, found: Exists | None) -> str | None:
    """Decide what the source is called at the destination.

    :param is_directory: whether the source is one.
    :param found: what is at the destination; ``None`` for nothing.
    :return: its name in the destination, if that is a directory that exists, else in the directory above; ``None`` if
        the source's contents go right into the destination.
    :raises InvalidArgument: the two do not fit.
    :raises NotFound: the destination is to be a directory that exists, and does not.
    """
    if found is not None and found.directory:
        return None if is_directory and source.contents else source.name
    if found is not None:
        if is_directory:
            raise AlreadyExists(
                f"{destination.said} is not a directory, so the directory {source.said} cannot go there"
            )
        if destination.directory:
            raise InvalidArgument(f"{destination.said} is not a directory", hint="leave out the slash at its end")
    elif destination.directory and not is_directory:
        raise NotFound(f"there is no directory {destination.said}", hint="make it first, or leave out the slash")
    return destination.name
