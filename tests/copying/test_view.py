"""A container's root is the one of its own process, or none."""

from __future__ import annotations

import os

import pytest

from plugrun.copying import view
from plugrun.lifecycle import state


class Record:
    pid = os.getpid()


@pytest.mark.parametrize(("alive", "opened"), [([True, True], True), ([True, False], False), ([False], False)])
def test_a_number_that_is_another_processes_by_now_is_not_used(monkeypatch, alive, opened):
    """The process ended between the look at it and the opening of its root: the number may be anybody's."""
    answers = iter(alive)
    monkeypatch.setattr(view, "is_running", lambda record: next(answers))
    before = len(os.listdir("/proc/self/fd"))
    root = view._running_root(Record())
    assert (root is not None) == opened
    if root is not None:
        assert os.fstat(root.fd).st_ino == os.stat("/").st_ino
        root.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_look_is_the_engines_own():
    assert view.is_running is state.is_running
