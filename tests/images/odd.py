"""Manifests that are well-formed JSON, or nearly, and yet nothing that an engine should take from a registry."""

from __future__ import annotations

from images.archives import OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Parts, descriptor, encode, sha256

DEEP = 100_000
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def index(*entries: bytes, media_type: str = OCI_MANIFEST) -> bytes:
    """An index of some documents of one media type."""
    listed = [descriptor(media_type, data) for data in entries]
    return encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed})


def ambiguous(parts: Parts) -> dict[str, tuple[bytes, str]]:
    """Documents that two readers may take for two different things, with the type to announce them by."""
    image = parts.manifest()
    listed = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, encode(image))]}
    twice = encode(image).replace(b'"layers": [', b'"layers": [], "layers": [', 1)
    assert twice != encode(image)
    return {
        "an image and an index": (encode(image | listed | {"mediaType": OCI_MANIFEST}), OCI_MANIFEST),
        "an index with layers": (encode(listed | {"layers": image["layers"]}), OCI_INDEX),
        "an image announced as an index": (encode(image), OCI_INDEX),
        "an index announced as an image": (encode(listed), OCI_MANIFEST),
        "an image that calls itself an index": (encode(image | {"mediaType": OCI_INDEX}), OCI_INDEX),
        "Docker's manifest announced as OCI's": (encode(image | {"mediaType": DOCKER_MANIFEST}), OCI_MANIFEST),
        "a key twice": (twice, OCI_MANIFEST),
        "a key in another case": (encode(image | {"Layers": []}), OCI_MANIFEST),
    }


def many_layers(parts: Parts, count: int = 10_000) -> bytes:
    """A manifest with too many layers, each of which is there."""
    image = parts.manifest()
    return encode(image | {"layers": image["layers"][:1] * count})


def deep(depth: int = DEEP) -> bytes:
    """JSON that is nested so deep that reading it by recursion would end badly."""
    content = encode({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "x": 0})
    return content.replace(b"0}", b"[" * depth + b"]" * depth + b"}")


def foreign_layer(parts: Parts, *urls: str) -> bytes:
    """A manifest whose only layer is somewhere else."""
    entry = descriptor(FOREIGN, b"from somewhere else", urls=list(urls))
    return encode(parts.manifest() | {"layers": [entry]})


def layer_with_urls(parts: Parts, *urls: str) -> bytes:
    """A manifest whose layers are here, and are said to be somewhere else too."""
    image = parts.manifest()
    return encode(image | {"layers": [entry | {"urls": list(urls)} for entry in image["layers"]]})


def digests(parts: Parts) -> dict[str, bytes]:
    """Manifests with a digest that is none."""
    image = parts.manifest()
    right = sha256(parts.packed(parts.layers[0])).partition(":")[2]
    wrong = {
        "that is a path": "sha256:../../../../etc/passwd",
        "in upper case": f"sha256:{right.upper()}",
        "that is empty": "",
        "without an algorithm": right,
        "of another algorithm": f"md5:{right[:32]}",
        "with a line break": f"sha256:{right}\n",
        "that is too short": f"sha256:{right[:-1]}",
    }
    size = len(parts.packed(parts.layers[0]))
    entries = {why: {"mediaType": OCI_LAYER, "digest": digest, "size": size} for why, digest in wrong.items()}
    return {f"a digest {why}": encode(image | {"layers": [entry]}) for why, entry in entries.items()}
