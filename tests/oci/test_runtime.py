"""Choosing a runtime, its commands on real containers, and its failures in our words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oci.containers import container
from plugrun import programs
from plugrun.errors import (
    CommandNotExecutable,
    CommandNotFound,
    DriverError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from plugrun.oci import runtime
from plugrun.oci.failures import clean, failure

# What the programs really said (crun 1.8.1, runc 1.1.5), except the JSON line, which is runc's --log-format json.
CRUN_MISSING = "executable file `nosuch` not found in $PATH: No such file or directory\n"
RUNC_MISSING = (
    'time="2026-01-01T00:00:00Z" level=error msg="runc create failed: unable to start container process: '
    'exec: \\"nosuch\\": executable file not found in $PATH"\n'
)
RUNC_MISSING_PATH = (
    'time="2026-01-01T00:00:00Z" level=error msg="exec failed: unable to start container process: '
    'exec: \\"/bin/nosuch\\": stat /bin/nosuch: no such file or directory"\n'
)
RUNC_DENIED = (
    'time="2026-01-01T00:00:00Z" level=error msg="runc create failed: unable to start container process: '
    'exec: \\"/etc/plain\\": permission denied"\n'
)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up machine: bin/ is the search path, cgroup/ the control groups."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "cgroup").mkdir()
    monkeypatch.setattr(programs, "SEARCH_PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(runtime, "_CGROUP", str(tmp_path / "cgroup"))
    return tmp_path


def install(host: Path, *names: str) -> None:
    for name in names:
        (host / "bin" / name).write_text("#!/bin/sh\n")
        (host / "bin" / name).chmod(0o755)


def make_hybrid(host: Path, controllers: str = "hugetlb\n") -> None:
    (host / "cgroup" / "unified").mkdir()
    (host / "cgroup" / "unified" / "cgroup.controllers").write_text(controllers)


def test_crun_is_preferred(host):
    install(host, "crun", "runc")
    assert runtime.choose(None) == runtime.Runtime("crun", str(host / "bin/crun"))


def test_hybrid_control_groups_rule_crun_out(host):
    install(host, "crun", "runc")
    make_hybrid(host)
    assert runtime.choose(None).name == "runc"
    assert "unified has controllers beside" in (runtime.usable("crun") or "")
    with pytest.raises(FailedPrecondition, match="does not work here") as caught:
        runtime.choose("crun")
    assert caught.value.hint is not None
    assert "runc" in caught.value.hint


def test_systemd_hybrid_without_v2_controllers_is_fine(host):
    install(host, "crun")
    make_hybrid(host, controllers="\n")
    assert runtime.choose(None).name == "crun"


def test_pure_v2_is_fine(host):
    install(host, "crun")
    make_hybrid(host)
    (host / "cgroup" / "cgroup.controllers").write_text("cpu memory pids\n")
    assert runtime.choose(None).name == "crun"


def test_nothing_installed(host):
    with pytest.raises(Unavailable, match="crun is not installed; runc is not installed"):
        runtime.choose(None)


def test_unknown_name_lists_what_there_is(host):
    install(host, "crun", "runc")
    make_hybrid(host)
    with pytest.raises(NotFound, match="'zzz'") as caught:
        runtime.choose("zzz")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("installed: crun (not usable: ")
    assert caught.value.hint.endswith("runc")


def test_absolute_path(host):
    install(host, "runsc")
    assert runtime.choose(str(host / "bin/runsc")).name == "runsc"


@pytest.mark.parametrize("wanted", ["/nonexistent/crun", "/etc", "/etc/passwd", ""])
def test_paths_that_are_no_program(host, wanted):
    with pytest.raises(NotFound):
        runtime.choose(wanted)


def test_relative_path_is_refused(host):
    with pytest.raises(InvalidArgument):
        runtime.choose("bin/crun")


def test_not_executable_is_not_installed(host):
    install(host, "crun")
    (host / "bin" / "crun").chmod(0o644)
    (host / "bin" / "runc").mkdir()
    with pytest.raises(Unavailable):
        runtime.choose(None)


def test_choosing_starts_no_process(host, monkeypatch):
    install(host, "crun")
    monkeypatch.setattr(os, "posix_spawn", None)
    monkeypatch.setattr(os, "fork", None)
    assert runtime.choose(None).name == "crun"


def test_version_floor():
    def advice(name: str, version: str) -> str | None:
        return runtime.advice(runtime.Surveyed(name, f"/bin/{name}", None, version))

    assert advice("crun", "1.8.1") is not None
    assert advice("crun", "1.28") is None
    assert advice("runc", "1.1.5+ds1") is not None
    assert advice("runc", "1.3.6") is None
    assert advice("runc", "1.4.0-rc.1") is None
    assert advice("runc", "unknown") is None
    assert advice("youki", "0.1") is None


def test_survey_of_this_machine():
    found = {one.name: one for one in runtime.survey()}
    assert list(found) == ["crun", "runc"]
    for one in found.values():
        if one.path:
            assert one.version[0].isdigit()


@pytest.mark.parametrize(
    ("output", "kind", "message"),
    [
        (CRUN_MISSING, CommandNotFound, "'nosuch' does not exist"),
        (RUNC_MISSING, CommandNotFound, "'nosuch' does not exist"),
        ("executable file `a\nb` not found in $PATH: No such file or directory", CommandNotFound, r"'a\\nb' does not"),
        (RUNC_MISSING_PATH, CommandNotFound, "'/bin/nosuch' does not exist"),
        (RUNC_DENIED, CommandNotExecutable, "'/etc/plain' cannot be executed in the container: permission denied"),
        ("open executable: Permission denied\n", CommandNotExecutable, "'CMD' cannot be executed"),
        ("exec: Exec format error\n", CommandNotExecutable, "'CMD' .* exec format error"),
        ("mount `proc` to `proc`: Operation not permitted\n", DriverError, "WHAT: mount `proc`"),
        ('{"level":"error","msg":"bad \\"thing\\"","time":"x"}', DriverError, 'WHAT: bad "thing"'),
        ("", DriverError, "^WHAT$"),
    ],
)
def test_failures_in_our_words(output, kind, message):
    error = failure(output, "WHAT", command="CMD")
    assert type(error) is kind
    with pytest.raises(kind, match=message):
        raise error


def test_an_output_becomes_one_printable_line():
    assert clean("warning\x1b[31m: a\nlast\x00 line\n\n") == "last line"
    assert clean('level=error msg="the reason"\nlevel=info msg=later') == "the reason"
    assert len(clean("x" * 5000)) == 1000


@pytest.mark.parametrize("evil", ["../x", "", "a/b", "-rf", "."])
def test_ids_that_are_paths_or_options(tmp_path, evil):
    client = runtime.RuntimeClient(runtime.Runtime("crun", "/usr/bin/crun"), str(tmp_path))
    for act in (client.state, client.delete):
        with pytest.raises(InvalidArgument):
            act(evil)


@pytest.mark.root
class TestCommands:
    def test_life(self, tmp_path, real_runtime):
        with container(tmp_path, real_runtime) as box:
            client = box.client
            assert client.state(box.id) is None
            client.delete(box.id)  # absent is fine
            box.create("sleep", "1000")
            assert box.handle is not None
            assert client.state(box.id) == runtime.RuntimeState("created", box.handle.pid)
            client.start(box.id)
            assert client.state(box.id) == runtime.RuntimeState("running", box.handle.pid)
            with pytest.raises(DriverError, match="cannot start"):
                client.start(box.id)
            with pytest.raises(DriverError, match="cannot delete"):
                client.delete(box.id)
            client.kill(box.id, 9)
            assert box.wait() == 137
            state = client.state(box.id)
            assert state is not None
            assert state.status == "stopped"
            with pytest.raises(FailedPrecondition, match="not running"):
                client.kill(box.id, 15)
            client.delete(box.id)
            client.delete(box.id)
            assert client.state(box.id) is None

    def test_delete_by_force(self, tmp_path, real_runtime):
        with container(tmp_path, real_runtime) as box:
            box.create("sleep", "1000").start()
            box.client.delete(box.id, force=True)
            assert box.client.state(box.id) is None
            assert box.wait() == 137

    def test_starting_an_unknown_one(self, tmp_path, real_runtime):
        with container(tmp_path, real_runtime) as box, pytest.raises(DriverError, match="cannot start"):
            box.client.start(box.id)
