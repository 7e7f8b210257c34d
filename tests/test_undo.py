"""The undo list: order, completeness, and what is raised."""

from __future__ import annotations

import pytest

from plugrun.undo import Undo


def boom(message):
    def step():
        raise OSError(message)

    return step


def failing(undo, error, *steps):
    """Run a block that pushes ``(name, undo)`` steps and then fails."""
    with undo:
        for step in steps:
            undo.push(*step)
        raise error


def test_nothing_is_undone_on_success():
    done = []
    with Undo("making") as undo:
        undo.push("one", lambda: done.append(1))
    assert done == []


def test_undo_runs_last_in_first_out():
    done = []
    with pytest.raises(ValueError, match="stop"):
        failing(Undo("making"), ValueError("stop"), ("one", lambda: done.append(1)), ("two", lambda: done.append(2)))
    assert done == [2, 1]


def test_every_undo_runs_and_every_failure_is_raised_with_its_step():
    done = []
    steps = [("one", lambda: done.append(1)), ("two", boom("disk")), ("three", boom("net"))]
    with pytest.raises(ExceptionGroup) as caught:
        failing(Undo("making it"), ValueError("stop"), *steps)
    first, *failures = caught.value.exceptions
    assert isinstance(first, ValueError)
    assert [str(failure) for failure in failures] == ["net", "disk"]
    assert failures[0].__notes__ == ["while undoing: three"]
    assert done == [1]


def test_an_interrupt_stays_an_interrupt():
    done = []
    with pytest.raises(KeyboardInterrupt) as caught:
        failing(Undo("making"), KeyboardInterrupt(), ("one", lambda: done.append(1)), ("two", boom("disk")))
    assert done == [1]
    assert "disk" in "".join(caught.value.__notes__)
