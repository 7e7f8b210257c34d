"""``plugrun run`` and ``plugrun create``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.network_options import NetworkOptions  # noqa: TC001 - read at run time, for what it declares
from plugrun.cli.options import PROCESS, ContainerOptions
from plugrun.cli.params import argument, option
from plugrun.cli.parse import require_terminal
from plugrun.cli.progress import unpacking
from plugrun.errors import AlreadyExists, PlugrunError, Unavailable
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.engine import Engine
    from plugrun.images.store import Image
    from plugrun.request import ContainerRequest

_Image = Annotated[str, argument("IMAGE")]
_Command = Annotated[list[str] | None, argument("[COMMAND] [ARG]...")]


class Fetching(NamedTuple):
    """Options of where the image comes from."""

    pull: Annotated[str, option(help="Fetch the image: always, missing, never.", metavar="POLICY", panel=PROCESS)] = (
        "missing"
    )
    quiet: Annotated[bool, option("--quiet", "-q", help="Fetch it without a word.", panel=PROCESS)] = False
    platform: Annotated[
        str | None,
        option(help="Fetch it for os/architecture or os/architecture/variant.", metavar="PLATFORM", panel=PROCESS),
    ] = None

    def finder(self, opened: Engine, request: ContainerRequest) -> Callable[[str], Image]:
        """Return what finds the image, as these options say."""
        from plugrun.cli.pull import finder

        return finder(opened, self.pull, request, platform=self.platform, quiet=self.quiet)


def create(
    common: Globals,
    options: ContainerOptions,
    network: NetworkOptions,
    fetching: Fetching,
    image: _Image,
    command: _Command = None,
    cidfile: Annotated[
        str | None, option(help="Write the container's id to this file.", metavar="FILE", panel=PROCESS)
    ] = None,
    rm: Annotated[bool, option("--rm", help="Remove the container when it ends.", panel=PROCESS)] = False,
) -> None:
    """Make a container without starting it; print its id."""
    from plugrun.lifecycle.create import create as make

    request = network.add(options.request(image, command or [], common, auto_remove=rm), common)
    with engine(common) as opened, _id_file(cidfile) as write_id, unpacking(image) as progress:
        record = make(opened, request, find_image=fetching.finder(opened, request), progress=progress)
        write_id(record.id)
    text.say(record.id)


def run(
    common: Globals,
    options: ContainerOptions,
    network: NetworkOptions,
    fetching: Fetching,
    image: _Image,
    command: _Command = None,
    detach: Annotated[bool, option("--detach", "-d", help="Print the id and leave it running.", panel=PROCESS)] = False,
    rm: Annotated[bool, option("--rm", help="Remove the container when it ends.", panel=PROCESS)] = False,
    cidfile: Annotated[
        str | None, option(help="Write the container's id to this file.", metavar="FILE", panel=PROCESS)
    ] = None,
    detach_keys: Annotated[
        str, option(help="Keys that leave it running.", metavar="KEYS", panel=PROCESS)
    ] = "ctrl-p,ctrl-q",
    sig_proxy: Annotated[bool, option(help="Pass signals on to the container.", panel=PROCESS)] = True,
) -> int:
    """Run a command in a new container."""
    from plugrun.lifecycle.create import create as make
    from plugrun.lifecycle.remove import remove
    from plugrun.lifecycle.start import start
    from plugrun.lifecycle.state import is_running

    request = network.add(options.request(image, command or [], common, auto_remove=rm), common)
    if not detach:
        require_terminal(tty=options.tty, stdin=options.interactive)
    with engine(common) as opened:
        with _id_file(cidfile) as write_id, unpacking(image) as progress:
            record = make(opened, request, find_image=fetching.finder(opened, request), progress=progress)
            write_id(record.id)
        try:
            if detach:
                start(opened, record.id)
                text.say(record.id)
                return 0
            from plugrun.foreground import Streams, run_attached

            streams = Streams(stdin=options.interactive, detach_keys=detach_keys, forward_signals=sig_proxy)
            return run_attached(opened, record, streams)
        except BaseException as error:
            left = opened.containers.get(record.id) if rm else None
            if left is not None and (isinstance(error, PlugrunError) or not is_running(left)):
                remove(opened, left, force=True)
            raise


@contextlib.contextmanager
def _id_file(path: str | None) -> Iterator[Callable[[str], object]]:
    """Make the ``--cidfile`` before anything else, and remove it again if no container comes of it.

    :return: what to call with the container's id.
    :raises AlreadyExists: the file exists.
    :raises Unavailable: it cannot be made.
    """
    if path is None:
        yield lambda _: None
        return
    try:
        stream = open(path, "x", encoding="ascii")  # noqa: SIM115 - closed below, and only its opening is explained
    except FileExistsError as error:
        raise AlreadyExists(f"the --cidfile {path} exists already", hint="remove it or choose another one") from error
    except OSError as error:
        raise Unavailable(f"cannot make the --cidfile {path}: {error.strerror}") from error
    with stream:
        try:
            yield stream.write
        except BaseException:
            os.unlink(path)
            raise
