"""A registry of Debian's docker-registry, plain HTTP on loopback, with the images of a layout pushed to it."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engines import output

if TYPE_CHECKING:
    from pull_images import Image

NAMESPACE = "bench"


@contextlib.contextmanager
def serving(place: Path, layout: Path, images: Sequence[Image]) -> Iterator[str]:
    """Serve the images as HOST/bench/NAME; yields the HOST, which every engine takes for insecure by its name."""
    port = free_port()
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(place)}, "cache": {"blobdescriptor": "inmemory"}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    place.mkdir()
    (place / "config.yml").write_text(json.dumps(config))  # which is YAML too
    command = ["docker-registry", "serve", str(place / "config.yml")]
    with (place / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/v2/", process)
            for image in images:
                target = f"docker://localhost:{port}/{NAMESPACE}/{image.name}:latest"
                options = ("--insecure-policy", "copy", "-q", "--dest-tls-verify=false")
                output(["skopeo", *options, f"oci:{layout}:{image.name}", target])
            yield f"localhost:{port}"
        finally:
            process.terminate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(url: str, process: subprocess.Popen[bytes], patience: float = 30.0) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(url):
            return
        time.sleep(0.05)
    sys.exit("bench: docker-registry did not come up")
