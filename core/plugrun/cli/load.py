"""``plugrun load`` and ``import``: images out of archives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.image_names import familiar
from plugrun.cli.params import argument, option

if TYPE_CHECKING:
    from plugrun.images.store import LoadedImage


def load(
    common: Globals,
    source: Annotated[
        str | None, option("--input", "-i", help="Archive or OCI layout directory.", metavar="FILE")
    ] = None,
    quiet: Annotated[bool, option("--quiet", "-q", help="Print nothing.")] = False,
) -> None:
    """Add images from an archive (docker save, OCI) or an OCI layout directory; from stdin if no file is named."""
    with engine(common, changes=False) as opened:
        loaded = opened.images.load(None if source == "-" else source)
    for image in () if quiet else loaded:
        text.say("\n".join(map(text.printable, _loaded(image))))


def import_(
    common: Globals,
    source: Annotated[str, argument("FILE|-")],
    name: Annotated[str, argument("[NAME[:TAG]]")] = "",
    changes: Annotated[
        list[str] | None,
        option("--change", "-c", help="Dockerfile instruction, e.g. 'CMD [\"sh\"]'.", metavar="INSTRUCTION"),
    ] = None,
    message: Annotated[str, option("--message", "-m", help="Comment for the history.", metavar="TEXT")] = "",
    platform: Annotated[str, option(help="os/architecture or os/architecture/variant.", metavar="PLATFORM")] = "",
) -> None:
    """Make an image from a tar of a root file system; print its id."""
    from plugrun.images.importer import ImportOptions

    options = ImportOptions(reference=name, changes=tuple(changes or ()), message=message, platform=platform)
    with engine(common, changes=False) as opened:
        image = opened.images.import_tar(None if source == "-" else source, options)
    text.say(image.id)


def _loaded(image: LoadedImage) -> Iterator[str]:
    for name, old in image.replaced.items():
        yield f"{familiar(name)} was another image, which keeps its id: {old}"
    for name in image.references:
        yield f"Loaded image: {familiar(name)}"
    if image.label:
        yield f"the archive calls it {image.label!a:.200}, which is no image name"
    if not image.references:
        yield f"Loaded image ID: {image.id}"
