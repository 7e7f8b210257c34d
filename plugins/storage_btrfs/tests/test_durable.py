"""Waiting for the device: everybody gets what was asked for, and nobody waits for long."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugrun.testing.processes import run_together
from plugrun_storage_btrfs.durable import commit_transaction

if TYPE_CHECKING:
    from fixtures.storage import FileSystem

pytestmark = pytest.mark.root


def test_who_commits_while_another_does_need_not_wait_for_the_kernels_next_turn(
    tmp_path: Path, file_system: FileSystem
) -> None:
    """The kernel's turns are 30 seconds apart, and it forgets who asks while it is about to end one."""
    place = file_system("btrfs", tmp_path / "btrfs")

    def commit(after: float) -> None:
        Path(place, f"{after}").touch()
        time.sleep(after)
        commit_transaction(str(place))

    started = time.monotonic()
    for step in range(60):
        assert run_together([partial(commit, 0.0), partial(commit, step * 0.0001)]) == ["ok", "ok"]
    assert time.monotonic() - started < 25
