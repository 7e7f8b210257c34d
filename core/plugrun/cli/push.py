"""``plugrun push``: images into a registry."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

from plugrun.cli import progress, text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option
from plugrun.cli.registries import connections
from plugrun.images import digest as digests
from plugrun.images import media

if TYPE_CHECKING:
    from pathlib import Path

    from plugrun.images.reference import Reference
    from plugrun.registry.push import Pushed, Pusher, Step


def push(
    common: Globals,
    name: Annotated[str, argument("NAME[:TAG]")],
    all_tags: Annotated[bool, option("--all-tags", "-a", help="Every tag of this name.")] = False,
    quiet: Annotated[bool, option("--quiet", "-q", help="Print names only.")] = False,
) -> None:
    """Push an image to the registry in its name."""
    with engine(common, changes=False) as opened:
        _push(opened.paths.images, name, all_tags=all_tags, quiet=quiet)


def _push(root: Path, name: str, *, all_tags: bool, quiet: bool) -> None:
    from plugrun.registry import config, outgoing

    references = outgoing.references(root, name, all_tags=all_tags)
    endpoint = config.load().push_endpoint(references[0])
    if not quiet:
        text.say(f"The push refers to repository [{references[0].name}]")
    from plugrun.registry.push import Pusher

    with connections() as transport:
        pusher = Pusher(root, transport, endpoint)
        for one in references:
            pushed = _one(pusher, one, quiet=quiet)
            line = f"{one.tag}: digest: {pushed.digest} size: {pushed.size}"
            text.say(one.canonical() if quiet else line)


def _one(pusher: Pusher, ref: Reference, *, quiet: bool) -> Pushed:
    sent: dict[str, int] = {}
    lines = not quiet and not sys.stdout.isatty()  # where a person sees the live line instead

    def show() -> str:
        return f"Pushing {text.printable(ref.familiar())}: {text.size(sum(sent.values()))} sent"

    with contextlib.ExitStack() as stack:
        tick = None if quiet else stack.enter_context(progress.line(show))

        def report(step: Step) -> None:
            sent[step.blob.digest] = step.sent
            if tick:
                tick()
            if lines and step.blob.media_type not in media.CONFIGS and (line := _line(step)):
                text.say(line)

        return pusher.push(ref, report)


def _line(step: Step) -> str:
    from plugrun.registry.push import State

    if step.state is State.SENDING:
        return ""
    source = f" from {step.source}" if step.source else ""
    return f"Layer {digests.short(step.blob.digest)}: {step.state.value}{source}"
