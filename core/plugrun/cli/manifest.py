"""``plugrun manifest inspect``: what a registry has under a name, without fetching the image."""

from __future__ import annotations

import json
from typing import Annotated

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option
from plugrun.images import reference


def inspect(
    common: Globals,
    name: Annotated[str, argument("NAME[:TAG|@DIGEST]")],
    verbose: Annotated[bool, option("--verbose", "-v", help="Show digest, size and type as well.")] = False,
) -> None:
    """Show the manifest, or the index, that a registry has under a name."""
    from plugrun.registry.pull import manifest

    wanted = reference.parse(name)
    with engine(common, changes=False) as opened:
        answer = manifest(opened, wanted)
    content = json.loads(answer.data)
    if verbose:
        media_type = content.get("mediaType") or answer.media_type
        descriptor = {"mediaType": media_type, "digest": answer.digest, "size": len(answer.data)}
        content = {"Ref": wanted.canonical(), "Descriptor": descriptor, "Manifest": content}
    text.say(json.dumps(content, indent=3))  # what is not ASCII is escaped: nothing moves a cursor
