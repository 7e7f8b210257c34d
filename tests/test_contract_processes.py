"""The contract kit's processes: what becomes of one that hangs, fails or is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from plugrun.errors import NotFound
from plugrun.testing import processes
from plugrun.testing.processes import killed_before, run_interleaved, run_together


def fail():
    raise ValueError


def refuse():
    raise NotFound("it")


def nothing():
    pass


def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def test_each_outcome_has_its_word(tmp_path):
    assert run_together([nothing, refuse]) == ["ok", "NotFound"]
    assert killed_before(1, (tmp_path / "killed").mkdir)
    assert not killed_before(2, (tmp_path / "made").mkdir)
    assert os.listdir(tmp_path) == ["made"]


def test_a_failure_is_no_outcome(capfd):
    with pytest.raises(AssertionError, match="ended with 1"):
        run_together([fail])
    assert "ValueError" in capfd.readouterr().err


@pytest.mark.parametrize(
    "run",
    [
        lambda: run_together([signal.pause, signal.pause]),
        lambda: killed_before(1, signal.pause),
        lambda: run_interleaved(1, signal.pause, nothing),
    ],
    ids=["together", "killed", "interleaved"],
)
def test_one_that_hangs_fails(monkeypatch, run):
    monkeypatch.setattr(processes, "_DEADLINE", 0.2)
    before = children()
    with pytest.raises(AssertionError, match="did not end"):
        run()
    assert children() == before
