"""``plugrun push``: images into a registry."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

from plugrun.cli import live, text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option
from plugrun.images import digest as digests
from plugrun.images import media

if TYPE_CHECKING:
    from plugrun.engine import Engine
    from plugrun.images.reference import Reference
    from plugrun.registry.push import Pushed, Pusher, Step


def push(
    common: Globals,
    name: Annotated[str, argument("NAME[:TAG]")],
    all_tags: Annotated[bool, option("--all-tags", "-a", help="Every tag of this name.")] = False,
    quiet: Annotated[bool, option("--quiet", "-q", help="Print the image's name only.")] = False,
) -> None:
    """Send an image to the registry in its name."""
    with engine(common, changes=False) as opened:
        _push(opened, name, all_tags=all_tags, quiet=quiet)


def _push(opened: Engine, name: str, *, all_tags: bool, quiet: bool) -> None:
    from plugrun.registry import config, outgoing

    store = opened.images
    references = outgoing.references(store, name, all_tags=all_tags)
    endpoint = config.load().push_endpoint(references[0])
    from plugrun.registry.connections import connections
    from plugrun.registry.push import Pusher

    with connections(opened.warn) as transport:
        pusher = Pusher(store.root, transport, endpoint)
        for one in references:
            if quiet:
                pusher.push(one, lambda _step: None)
                text.say(one.canonical())
            else:
                pushed = _one(pusher, one)
                text.say(f"{one.tag}: digest: {pushed.digest} size: {pushed.size}")


def _one(pusher: Pusher, ref: Reference) -> Pushed:
    """Push one image: a live line for a person, for a program a line when a layer is done."""
    sent: dict[str, int] = {}
    lines = not sys.stderr.isatty()
    name = ref.familiar()

    def report(step: Step) -> None:
        sent[step.blob.digest] = step.sent
        if lines and step.blob.media_type not in media.CONFIGS:
            _say(_line(step))

    if lines:
        _say(f"Pushing {text.printable(name)}")
        return pusher.push(ref, report)
    with live.line(lambda: live.fitted("Pushing", name, f"{text.size(sum(list(sent.values())))} sent")):
        return pusher.push(ref, report)


def _line(step: Step) -> str:
    from plugrun.registry.push import State

    if step.state is State.SENDING:
        return ""
    source = f" from {step.source}" if step.source else ""
    return f"Layer {digests.short(step.blob.digest)}: {step.state.value}{source}"


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads: no reason to fail
        if line:
            print(line, file=sys.stderr, flush=True)
