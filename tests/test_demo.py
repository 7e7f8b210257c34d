"""What `make demo` shows: the first command of the README."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.mark.root
@pytest.mark.slow
def test_every_container_of_the_demo_runs_and_nothing_is_left():
    done = subprocess.run([CHECKOUT / "scripts" / "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed" in done.stdout
    assert "Left behind: nothing" in done.stdout
