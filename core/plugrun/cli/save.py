"""``plugrun save``: images into an archive."""

from __future__ import annotations

from typing import Annotated

from plugrun.cli import output_file, progress, text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option
from plugrun.errors import InvalidArgument


def save(
    common: Globals,
    names: Annotated[list[str], argument("IMAGE...")],
    output: Annotated[
        str | None, option("--output", "-o", help="Write to this file, not to stdout.", metavar="FILE")
    ] = None,
    format_: Annotated[
        str,
        option(
            "--format",
            help="docker-archive, which is an OCI layout too, or oci-archive, which is only that.",
            metavar="FORMAT",
        ),
    ] = "docker-archive",
    platform: Annotated[
        str | None,
        option("--platform", help="Insist on os/architecture or os/architecture/variant.", metavar="PLATFORM"),
    ] = None,
) -> None:
    """Write images to a tar that docker load, podman load, skopeo and plugrun load read.

    Layers are written as they are stored, so that digests stay. A repository without a tag means all its tags.
    """
    from plugrun.images import platform as platforms
    from plugrun.images.save import Archive, Kind

    if format_ not in list(Kind):
        raise InvalidArgument(f"--format {format_!r} is unknown", hint=f"use {' or '.join(Kind)}")
    wanted = platforms.parse(platform) if platform is not None else None
    said = ("Checking", 0, 0)

    def tell(what: str, done: int, total: int) -> None:
        nonlocal said
        said = what, done, total
        tick()

    def show() -> str:
        what, done, total = said
        return f"{what}: " + (
            f"{text.size(done)} of {text.size(total)}" if what == "Saving" else f"blob {done + 1} of {total}"
        )

    target = output_file.standard_output() if output in {None, "-"} else output_file.replacing(str(output))
    try:
        with target as out, engine(common, changes=False) as opened, progress.line(show) as tick:
            opened.images.save(names, Archive(out, tell, Kind(format_), wanted))
    except output_file.ReaderGone:
        raise BrokenPipeError from None
