"""Image archives made by hand, so that every byte of them can be wrong."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plugrun.images import platform

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Link:
    """A member that is a symbolic or hard link."""

    target: str
    hard: bool = False


Members = dict[str, bytes | Link]


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(files: Mapping[str, bytes]) -> bytes:
    """A layer: an uncompressed tar, the same every time."""
    return tar(dict(files))


def tar(members: Mapping[str, bytes | Link]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, Link):
                info.type = tarfile.LNKTYPE if content.hard else tarfile.SYMTYPE
                info.linkname = content.target
                archive.addfile(info)
            else:
                info.size, info.mode = len(content), 0o644
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def config(diff_ids: list[str], **changes: Any) -> dict[str, Any]:
    here = platform.host()
    content = {
        "architecture": here.architecture,
        "os": here.os,
        "config": {"Cmd": ["/bin/sh"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    if here.variant:
        content["variant"] = here.variant
    return content | changes


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def blob_name(data: bytes) -> str:
    return "blobs/" + sha256(data).replace(":", "/")


def descriptor(media_type: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}


@dataclass
class Parts:
    """One image, taken apart; change a part before packing it."""

    layers: list[bytes] = field(default_factory=lambda: [layer({"a": b"a" * 2000}), layer({"b": b"b" * 3000})])
    name: str | None = "example:1"
    config: dict[str, Any] = field(default_factory=dict)
    packed: Callable[[bytes], bytes] = bytes
    layer_type: str = OCI_LAYER

    @property
    def config_of(self) -> dict[str, Any]:
        return config([sha256(item) for item in self.layers]) | self.config

    @property
    def config_bytes(self) -> bytes:
        return encode(self.config_of)

    @property
    def id(self) -> str:
        return sha256(self.config_bytes)

    def manifest(self) -> dict[str, Any]:
        return {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, self.config_bytes),
            "layers": [descriptor(self.layer_type, self.packed(item)) for item in self.layers],
        }

    def docker(self) -> Members:
        """The members of a docker-archive."""
        config_name = self.id.partition(":")[2] + ".json"
        files = {f"{number}/layer.tar": self.packed(item) for number, item in enumerate(self.layers)}
        entry = {"Config": config_name, "RepoTags": [self.name] if self.name else None, "Layers": list(files)}
        return {**files, config_name: self.config_bytes, "manifest.json": encode([entry])}

    def oci(self, manifest: dict[str, Any] | None = None, *, data: bytes | None = None) -> Members:
        """The files of an OCI layout."""
        raw = data if data is not None else encode(manifest or self.manifest())
        annotations = {"annotations": {REF_NAME: self.name}} if self.name else {}
        members: Members = {
            "oci-layout": encode({"imageLayoutVersion": "1.0.0"}),
            "index.json": encode({"schemaVersion": 2, "manifests": [descriptor(OCI_MANIFEST, raw, **annotations)]}),
        }
        for content in (raw, self.config_bytes, *map(self.packed, self.layers)):
            members[blob_name(content)] = content
        return members


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def write_tar(path: Path, members: Members) -> str:
    path.write_bytes(tar(members))
    return str(path)


def write_directory(path: Path, members: Members) -> str:
    for name, content in members.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            os.symlink(content.target, target)
        else:
            target.write_bytes(content)
    return str(path)


def tree(root: Path) -> dict[str, str]:
    """Everything below a directory, with its mode and content, for comparing before and after."""
    found = {}
    for path in sorted(root.rglob("*")):
        content = sha256(path.read_bytes()) if path.is_file() else ""
        found[str(path.relative_to(root))] = f"{path.lstat().st_mode:o} {content}"
    return found
