"""What a rollback leaves is removed behind the command, by a process that holds nobody up."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from plugrun.api import SnapshotKind
from plugrun.lifecycle import rollback, trees
from plugrun.lifecycle.reconcile import reconcile

pytestmark = pytest.mark.root

PATIENCE = 30.0


@pytest.fixture
def good(storage, plugrun, busybox):
    """A container ``web`` with a snapshot ``good``."""
    plugrun("--storage", storage, "create", "--name", "web", "--net", "none", busybox, "true").ok()
    plugrun("snapshot", "create", "web", "good").ok()


@pytest.fixture
def remover(storage, good, engine, monkeypatch):
    """The process that removes what a rollback of ``web`` has left; it waits for a byte, or for the end of the pipe."""
    driver = engine.storage(storage, {})
    (go_on, proceed), (told, tell) = os.pipe(), os.pipe()
    inherited = os.dup(go_on)
    os.set_inheritable(inherited, True)
    remove, this = driver.remove, os.getpid()

    def slowly(key):
        if os.getpid() == this:
            return remove(key)
        os.close(proceed)
        os.write(tell, str(os.getpid()).encode())
        os.read(go_on, 1)
        return remove(key)

    monkeypatch.setattr(driver, "remove", slowly)
    rollback.rollback(engine, engine.containers.find("web"), "good")
    pid = int(os.read(told, 20))
    found = Remover(pid, proceed, inherited)
    yield found
    found.proceed()
    for descriptor in (go_on, told, tell, inherited):
        os.close(descriptor)


class Remover:
    """:param proceed: the descriptor whose closing lets it remove.
    :param inherited: one that whoever started the command has given it, such as flock(1) does.
    """

    def __init__(self, pid: int, proceed: int, inherited: int) -> None:
        self.pid = pid
        self.inherited = inherited
        self._proceed: int | None = proceed

    def proceed(self) -> None:
        if self._proceed is not None:
            os.close(self._proceed)
            self._proceed = None
        self.wait()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while Path(f"/proc/{self.pid}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)


def left(engine):
    return [saved.key for saved in engine.snapshots.unready()]


def locks(engine):
    return list((engine.paths.run_root / "locks").glob("removal.*"))


def test_it_holds_nobody_up(remover, plugrun, engine):
    plugrun("start", "--attach", "web").ok()
    plugrun("snapshot", "create", "web", "more").ok()
    [key] = left(engine)
    assert key in engine.snapshots.known()


def test_what_it_removes_is_none_of_the_users_things(remover, storage, engine):
    assert engine.tenants(storage) == {"container": ["web"], "snapshot": ["good"]}


def test_it_has_nothing_of_the_terminal_and_of_who_started_the_command(remover):
    numbers = (0, 1, 2, remover.inherited)
    assert {os.readlink(f"/proc/{remover.pid}/fd/{number}") for number in numbers} == {os.devnull}
    assert os.getsid(remover.pid) != os.getsid(0)


def test_the_next_command_forgets_what_it_has_removed(remover, storage, engine):
    [key] = left(engine)
    remover.proceed()
    assert locks(engine) == []
    assert key not in {info.name for info in engine.storage(storage, {}).walk()}
    reconcile(engine)
    assert left(engine) == locks(engine) == []


def test_the_next_command_removes_what_a_killed_one_has_left(remover, plugrun, storage, engine):
    [key] = left(engine)
    remover.kill()
    assert key in {info.name for info in engine.storage(storage, {}).walk()}
    plugrun("snapshot", "create", "web", "more").ok()
    assert left(engine) == locks(engine) == []
    assert key not in {info.name for info in engine.storage(storage, {}).walk()}


def test_the_container_can_be_removed_meanwhile(remover, plugrun, storage, engine):
    plugrun("rm", "-f", "web").ok()
    remover.proceed()
    assert left(engine) == locks(engine) == []
    assert all(info.kind is SnapshotKind.COMMITTED for info in engine.storage(storage, {}).walk())


def rolled_back_at_once(engine):
    rollback.rollback(engine, engine.containers.find("web"), "good")
    assert left(engine) == locks(engine) == []
    with trees.own(engine, engine.containers.find("web")) as root:
        assert root.is_dir()


def test_without_room_for_a_process_it_is_removed_at_once(good, engine, monkeypatch):
    def refuse():
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", refuse)
    rolled_back_at_once(engine)


def test_beside_other_threads_it_is_removed_at_once(good, engine, monkeypatch):
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("a lock that a thread holds now would be held for ever"))
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        rolled_back_at_once(engine)
    finally:
        done.set()
        thread.join()


def test_whoever_starts_the_command_may_ignore_the_end_of_processes(good, plugrun):
    subprocess.run(
        plugrun.argv("rollback", "web", "good"),
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
        check=True,
    )
