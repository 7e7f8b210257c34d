"""What the security tests share: both runtimes, a probe of system calls, and a place on the host to attack."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from plugrun.oci import runtime


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
