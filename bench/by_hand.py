"""What a pull is made of, by hand: the same bytes with programs that do nothing else. No engine can do with much less.

Nothing is verified, recorded or cleaned up. As many layers at a time as there are processors.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from registries import NAMESPACE

if TYPE_CHECKING:
    from pull_images import Image

DOWNLOAD = "curl to files"
UNPACK = "curl, gunzip, tar"

SCRIPTS = {
    DOWNLOAD: 'curl -sf -o "$0/$2" "$1/$2"',
    UNPACK: 'mkdir "$0/$2" && curl -sf "$1/$2" | gunzip | tar -x -C "$0/$2"',
}


def commands(place: Path, host: str, image: Image) -> dict[str, list[str]]:
    """Return the command lines by what they are called; each fills a new directory below ``place``."""
    blobs = f"http://{host}/v2/{NAMESPACE}/{image.name}/blobs"
    found = {}
    for number, (name, script) in enumerate(SCRIPTS.items()):
        directory = place / f"{image.name}-by-hand-{number}"
        directory.mkdir()
        each = f"printf '%s\\n' {' '.join(image.layers)}"
        line = f"{each} | xargs -n 1 -P $(nproc) bash -o pipefail -c '{script}' {directory} {blobs}"
        found[name] = ["bash", "-o", "pipefail", "-c", line]
    return found
