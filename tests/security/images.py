"""Hostile images: a busybox with whatever else a root file system should not have."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images import archives

BUSYBOX = Path("/bin/busybox")
APPLETS = ("sh", "cat", "echo", "head", "id", "ln", "ls", "mkfifo", "mknod", "pwd", "rm", "sleep", "true")


@dataclass(frozen=True)
class Node:
    """A member that is neither a file nor a directory."""

    kind: bytes
    target: str = ""
    major: int = 0
    minor: int = 0


def link(target: str) -> Node:
    return Node(tarfile.SYMTYPE, target)


Entries = Mapping[str, "bytes | Node | None"]


def layer(entries: Entries) -> bytes:
    """Return a layer of busybox and the entries: bytes are a file, ``None`` is a directory."""
    program = BUSYBOX.read_bytes()
    members: dict[str, bytes | Node | None] = {"bin": None, "bin/busybox": program, "tmp": None}
    members |= {f"bin/{applet}": link("busybox") for applet in APPLETS}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in (members | dict(entries)).items():
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            elif isinstance(content, Node):
                info.type, info.linkname = content.kind, content.target
                info.devmajor, info.devminor = content.major, content.minor
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def write(path: Path, entries: Entries, **config: Any) -> str:
    """Write a docker-archive of ``evil:latest``; ``config`` is the image's, with the keys of the format."""
    parts = archives.Parts(layers=[layer(entries)], name="evil:latest", config={"config": config})
    return archives.write_tar(path, parts.docker())
