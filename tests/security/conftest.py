"""What the security tests share: both runtimes, a probe of system calls, and a place on the host to attack."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.engine import Cli  # noqa: TC001 - pytest reads annotations
from plugrun.oci import runtime
from security import images

CANARY = Path("/run/canary")


@pytest.fixture(params=runtime.KNOWN)
def runtime_name(request: pytest.FixtureRequest) -> str:
    """Each runtime that works here: a default that one of them loses is no default."""
    if reason := runtime.usable(request.param):
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program that makes system calls and prints how they ended."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc to build the probe of system calls")
    program = tmp_path_factory.mktemp("probe") / "probe"
    source = Path(__file__).with_name("probe.c")
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", program, source], check=True)
    return program


@pytest.fixture
def canary() -> Iterator[Path]:
    """A directory of the host that no image may read, write or fill; it and /etc are compared before and after."""
    CANARY.mkdir(mode=0o700)
    for name in ("hosts", "hostname", "resolv.conf", "mtab", "passwd", "group"):
        (CANARY / name).write_text(f"host:x:0:0:{name}:/:/bin/sh\n")
    try:
        before = snapshot()
        yield CANARY
        assert snapshot() == before
    finally:
        shutil.rmtree(CANARY)


def snapshot() -> dict[str, tuple[Any, ...]]:
    """Return what can be told of every file in the canary and in /etc but when it was read."""
    found = {}
    for top in (CANARY, Path("/etc")):
        for path in (top, *top.rglob("*")):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            attributes = tuple(os.listxattr(path, follow_symlinks=False))
            facts = (status.st_ino, status.st_mode, status.st_uid, status.st_size, status.st_mtime_ns)
            found[str(path)] = (*facts, hashlib.sha256(content).hexdigest(), attributes)
    return found


@pytest.fixture
def evil(plugrun: Cli, tmp_path: Path) -> Callable[..., str]:
    """Load a hostile image, ``evil(entries, **config)``, and return its name."""

    def load(entries: images.Entries, **config: Any) -> str:
        plugrun("load", "-i", images.write(tmp_path / "evil.tar", entries, **config)).ok()
        return "evil"

    return load
