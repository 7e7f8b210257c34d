"""Locks between processes."""

from __future__ import annotations

import os
import signal

import pytest

from plugrun import locks
from plugrun.errors import FailedPrecondition


def holder(path):
    """Fork a child that holds the lock; return its pid once it does."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        locks.try_acquire(path)
        os.write(tell, b"x")
        signal.pause()
    os.read(ready, 1)
    os.close(ready)
    os.close(tell)
    return pid


def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_second_process_does_not_get_a_held_lock(tmp_path):
    pid = holder(tmp_path / "lock")
    try:
        assert locks.try_acquire(tmp_path / "lock") is None
        held = locks.held(tmp_path / "lock", what="container web", timeout=0.05)
        with pytest.raises(FailedPrecondition, match="container web is being changed"):
            held.__enter__()
    finally:
        end(pid)


def test_the_kernel_releases_the_lock_of_a_killed_holder(tmp_path):
    end(holder(tmp_path / "lock"))
    with locks.held(tmp_path / "lock", what="it", timeout=1):
        pass


def test_a_lock_on_a_file_that_was_removed_meanwhile_does_not_count(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    real = locks.fcntl.flock
    removed = []

    def flock(descriptor, operation):
        real(descriptor, operation)
        if not removed:  # the previous holder removes the file between our open and our lock
            path.unlink()
            removed.append(True)

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    descriptor = locks.try_acquire(path)
    try:
        assert os.fstat(descriptor).st_ino == path.stat().st_ino
    finally:
        os.close(descriptor)


def test_the_lock_does_not_leak_into_programs(tmp_path):
    descriptor = locks.try_acquire(tmp_path / "lock")
    try:
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


def test_a_lock_can_be_shared_but_not_with_who_wants_it_alone(tmp_path):
    path = tmp_path / "lock"
    first, second = (locks.try_acquire(path, shared=True) for _ in range(2))
    assert locks.try_acquire(path) is None
    os.close(first)
    assert locks.try_acquire(path) is None
    os.close(second)
    alone = locks.try_acquire(path)
    assert locks.try_acquire(path, shared=True) is None
    os.close(alone)
