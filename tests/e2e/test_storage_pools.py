"""Pools: file systems in files, for every driver that has them, on real loop devices."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from plugrun import loop, mounts
from plugrun.manager import load

pytestmark = pytest.mark.root

MIB = 1 << 20
SIZE = 400 * MIB
DRIVERS = sorted(name for name, declared in load().storage.items() if declared.spec.pool)


@pytest.fixture
def root(private_root):
    return private_root.root


@pytest.fixture(params=DRIVERS)
def driver(request, plugrun, root):
    """The name of a driver with pools; its pool is removed at the end, whatever the test did."""
    yield request.param
    plugrun.remove_all()
    mounts.unmount(str(root / "storage" / request.param))


@pytest.fixture
def pool(driver, plugrun, root, busybox_archive):
    """The file of a pool, with the busybox image beside it."""
    plugrun("storage", "create", driver, "--size", str(SIZE)).ok()
    plugrun("load", "-i", str(busybox_archive)).ok()
    return root / "pools" / f"{driver}.img"


def state(root: Path, driver: str) -> str:
    return str(root / "storage" / driver)


def forget_mount(root: Path, driver: str) -> None:
    """Be as after a reboot."""
    mounts.unmount(state(root, driver))


def shown(plugrun, driver):
    return json.loads(plugrun("storage", "inspect", driver).ok().stdout)[0]


def refused(result, *words):
    """Insist on one clear line that has these words."""
    assert result.code in {1, 125}, result
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def test_a_container_lives_in_a_pool(plugrun, root, driver, pool):
    info = pool.stat()
    assert (info.st_size, info.st_mode & 0o777) == (SIZE, 0o600)
    assert info.st_blocks * 512 < SIZE  # sparse
    assert mounts.is_mount_point(state(root, driver))
    assert os.stat(state(root, driver)).st_mode & 0o777 == 0o700
    plugrun("run", "--name", "box", "--storage", driver, "--net", "none", "busybox", "sh", "-c", "echo hello > /f").ok()
    assert shown(plugrun, driver)["Containers"] == 1
    assert "box" in plugrun("ps", "-a").stdout


def test_a_reboot_and_the_pool_is_mounted_again_when_needed(plugrun, root, driver, pool):
    run = ("run", "--name", "box", "--storage", driver, "--net", "none", "busybox", "sh", "-c", "cat /f || echo x > /f")
    plugrun(*run).ok()
    forget_mount(root, driver)
    assert loop.devices(str(pool)) == []
    assert not shown(plugrun, driver)["Mounted"]
    for command in (("plugin", "ls"), ("storage", "ls"), ("ps", "-a"), ("doctor",)):
        listed = plugrun(*command)
        assert "gone" not in listed.stdout
        assert not mounts.is_mount_point(state(root, driver)), command
    plugrun("start", "-a", "box").ok()
    assert mounts.is_mount_point(state(root, driver))


def test_everything_uses_the_pool_of_the_default_driver_too(plugrun, root, driver, pool):
    forget_mount(root, driver)
    plugrun("--storage", driver, "create", "--name", "box", "--net", "none", "busybox", "true").ok()
    forget_mount(root, driver)
    plugrun("system", "df").ok()
    assert mounts.is_mount_point(state(root, driver))


def test_many_at_once_mount_it_once(plugrun, root, driver, pool):
    forget_mount(root, driver)
    argv = plugrun.argv("create", "--storage", driver, "--net", "none", "busybox", "true")
    several = [subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(4)]
    errors = [one.communicate(timeout=120)[1] for one in several]
    assert [one.returncode for one in several] == [0] * 4, errors
    assert list(mounts.mount_points()).count(state(root, driver)) == 1
    assert len(loop.devices(str(pool))) == 1


def test_a_pool_grows_while_a_container_runs_in_it(plugrun, root, driver, pool):
    plugrun("run", "-d", "--name", "box", "--storage", driver, "--net", "none", "busybox", "sleep", "1000").ok()
    before = shown(plugrun, driver)["Size"]
    plugrun("storage", "resize", driver, str(2 * SIZE)).ok()
    assert pool.stat().st_size == 2 * SIZE
    assert shown(plugrun, driver)["Size"] >= before + SIZE * 0.9
    assert plugrun("exec", "box", "true").code == 0
    refused(plugrun("storage", "resize", driver, str(SIZE)), "of 839MB, and a pool cannot shrink to 419MB", driver)
    refused(plugrun("storage", "resize", driver, "1000000g"), "does not fit", "free; give a smaller SIZE, or make room")
    refused(plugrun("storage", "resize", driver, "huge"), "'huge' is not a size")
    assert pool.stat().st_size == 2 * SIZE


def test_a_resize_that_was_cut_short_is_finished_by_the_next(plugrun, root, driver, pool):
    before = shown(plugrun, driver)["Size"]
    os.truncate(pool, 2 * SIZE)
    plugrun("storage", "resize", driver, str(2 * SIZE)).ok()
    assert shown(plugrun, driver)["Size"] >= before + SIZE * 0.9


def test_what_is_freed_returns_to_the_host(plugrun, driver, pool):
    write = "dd if=/dev/urandom of=/f bs=1M count=100 && sync"
    plugrun("run", "--name", "box", "--storage", driver, "--net", "none", "busybox", "sh", "-c", write).ok()
    os.sync()
    full = pool.stat().st_blocks
    plugrun("rm", "box").ok()
    deadline = time.monotonic() + 60
    while pool.stat().st_blocks * 512 > full * 512 - 80 * MIB:  # a file system may discard some time after it has freed
        assert time.monotonic() < deadline
        os.sync()


def test_a_pool_is_removed_with_its_layers_but_never_with_containers(plugrun, root, driver, pool):
    plugrun("create", "--name", "box", "--storage", driver, "--net", "none", "busybox", "true").ok()
    for force in ((), ("--force",)):
        result = plugrun("storage", "rm", *force, driver)
        assert result.code == 1
        assert "holds 1 container (box)" in result.stderr
    assert pool.exists()
    for number in range(6):
        plugrun("create", "--name", f"box{number}", "--storage", driver, "--net", "none", "busybox", "true").ok()
    several = "holds 7 containers (box, box0, box1, box2, box3, 2 more); remove them first"
    refused(plugrun("storage", "rm", driver), several)
    plugrun("rm", "box", *(f"box{number}" for number in range(6))).ok()
    plugrun("storage", "rm", driver).ok()
    assert not pool.exists()
    assert not mounts.is_mount_point(state(root, driver))
    assert os.listdir(root / "pools") == [f"{driver}.lock", f"{driver}.users"] or not list(root.glob("pools/*.json"))
    assert "has no pool" in plugrun("storage", "rm", driver).stderr


def test_a_pool_with_a_volume_stays(plugrun, root, driver, pool):
    with closing(sqlite3.connect(root / "state.db")) as connection, connection:
        connection.execute("INSERT INTO volumes VALUES ('data', 'volume-0', ?, 1, '{}')", (driver,))
    assert "holds 1 volume (data)" in plugrun("storage", "rm", driver).stderr
    assert pool.exists()


def test_a_pool_that_something_has_open_stays(plugrun, root, driver, pool):
    inside = os.open(state(root, driver), os.O_RDONLY)
    try:
        assert "something has it open" in plugrun("storage", "rm", driver).stderr
    finally:
        os.close(inside)
    assert pool.exists()
    plugrun("storage", "rm", driver).ok()


def test_a_pool_file_that_is_gone(plugrun, root, driver, pool):
    plugrun("create", "--name", "box", "--storage", driver, "--net", "none", "busybox", "true").ok()
    forget_mount(root, driver)
    pool.rename(root / "away")
    gone = f"the pool file {pool} of storage driver {driver} is gone"
    assert gone in shown(plugrun, driver)["Problem"]
    assert gone in plugrun("plugin", "ls").stdout
    refused(
        plugrun("run", "--storage", driver, "--net", "none", "busybox", "true"),
        gone,
        f"put it back, or give it up with all that was in it: plugrun storage rm --force {driver}",
    )
    assert os.listdir(state(root, driver)) == []  # nothing lands below the mount point
    assert "is gone, and with it 1 container (box)" in plugrun("storage", "rm", driver).stderr
    (root / "away").rename(pool)
    plugrun("start", "-a", "box").ok()


def test_a_container_that_ends_while_its_pool_is_gone_is_removed_once_that_is_back(plugrun, root, driver, pool):
    run = ("run", "-d", "--rm", "--name", "box", "--storage", driver, "--net", "none", "-v", "/anonymous")
    plugrun(*run, "busybox", "sleep", "1000").ok()
    pool.rename(root / "away")
    forget_mount(root, driver)
    assert "is gone" in plugrun("stop", "-t", "0", "box").stderr
    other = ("--storage", "overlay", "--net", "none", "busybox", "true")
    if driver != "overlay":
        assert "container box is left removing" in plugrun("create", "--name", "one", *other).ok().stderr
    (root / "away").rename(pool)
    assert plugrun("create", "--name", "two", *other).ok().stderr == ""
    assert "box" not in plugrun("ps", "-a", "--format", "{{.Names}}").ok().stdout.split()
    assert plugrun("volume", "ls", "-q").ok().stdout == ""


def test_a_mounted_pool_whose_file_was_moved_or_deleted(plugrun, root, driver, pool):
    assert shown(plugrun, driver)["Problem"] is None
    pool.rename(root / "away")
    assert f"was moved to {root / 'away'}; move it back" in plugrun("storage", "ls").ok().stdout
    (root / "away").rename(pool)
    assert shown(plugrun, driver)["Problem"] is None
    pool.unlink()
    for command in (("storage", "ls"), ("plugin", "ls"), ("doctor",)):
        said = plugrun(*command).stdout
        assert f"the pool file {pool} of storage driver {driver} was deleted, and all in it is lost as soon as" in said
        assert f"plugrun storage rm --force {driver}" in said
    pool.touch()  # another one in its place is not it
    assert "was deleted" in shown(plugrun, driver)["Problem"]
    plugrun("run", "--rm", "--storage", driver, "--net", "none", "busybox", "true").ok()  # to save what there is


def test_the_table_counts_all_that_keeps_a_pool_from_going(plugrun, root, driver, pool):
    at = ("--storage", driver, "--net", "none")
    plugrun("create", "--name", "box", *at, "-v", "data:/data", "-v", "/anonymous", "busybox", "true").ok()
    clones = "clone" in load().storage[driver].spec.supports
    if clones:
        plugrun("snapshot", "create", "box").ok()
    found = shown(plugrun, driver)
    assert (found["Containers"], found["Snapshots"], found["Volumes"]) == (1, int(clones), 2)
    table = plugrun("storage", "ls").ok().stdout
    assert str(3 + clones) in next(line for line in table.splitlines() if line.startswith(driver)).split()
    assert all(len(line) <= 80 for line in table.splitlines() if line.startswith((driver, "DRIVER")))
    template = "{{.Driver}} {{.Containers}} {{.Snapshots}} {{.Volumes}}"
    assert f"{driver} 1 {int(clones)} 2\n" in plugrun("storage", "ls", "--format", template).ok().stdout


def test_a_lost_pool_is_given_up_by_force_only(plugrun, root, driver, pool):
    plugrun("create", "--name", "box", "--storage", driver, "--net", "none", "busybox", "true").ok()
    forget_mount(root, driver)
    pool.unlink()
    assert plugrun("storage", "rm", driver).code == 1
    plugrun("storage", "rm", "--force", driver).ok()
    plugrun("storage", "create", driver, "--size", str(SIZE)).ok()
    plugrun("rm", "box").ok()


@pytest.fixture
def given_up(plugrun, root, driver, pool):
    """A pool was lost, and given up, with the container ``box``, its snapshot and its two volumes in it."""
    at = ("--storage", driver, "--net", "none")
    plugrun("create", "--name", "box", *at, "-v", "data:/data", "-v", "/anonymous", "busybox", "true").ok()
    if "clone" in load().storage[driver].spec.supports:
        plugrun("snapshot", "create", "box", "before").ok()
    forget_mount(root, driver)
    pool.unlink()
    lost = plugrun("rm", "-f", "box")
    assert (lost.code, lost.stderr.count("\n")) == (1, 1)
    assert "Created" in plugrun("ps", "-a").ok().stdout  # as it was
    plugrun("storage", "rm", "--force", driver).ok()


def test_what_was_in_a_pool_that_was_given_up_can_be_removed(plugrun, root, given_up):
    assert plugrun("rm", "-f", "-v", "box").ok().stderr == ""
    assert plugrun("ps", "-aq").ok().stdout == ""
    assert plugrun("volume", "ls", "-q").ok().stdout == "data\n"
    assert plugrun("volume", "rm", "-f", "data").ok().stderr == ""
    assert plugrun("volume", "ls", "-q").ok().stdout == ""
    assert rows(root) == []


def test_what_is_lost_is_not_removed_by_mistake(plugrun, root, driver, given_up):
    if load().storage[driver].reason(root / "storage" / driver) is None:
        pytest.skip("the driver works without a pool")
    with closing(sqlite3.connect(root / "state.db")) as connection, connection:
        connection.execute("DELETE FROM snapshots")  # which would be the reason
    refused(plugrun("rm", "box"), "cannot be used here", "; if what it kept is lost for good: plugrun rm ")
    refused(plugrun("volume", "rm", "data"), "cannot be used here")
    assert "Created" in plugrun("ps", "-a").ok().stdout
    assert "data" in plugrun("volume", "ls").ok().stdout


@pytest.mark.parametrize(
    "command",
    [
        "start box",
        "diff box",
        "commit box image",
        "cp box:/bin .",
        "export -o /dev/null box",
        "clone box new",
        "clone --snapshot before box new",
        "rollback box before",
        "snapshot create box more",
    ],
)
def test_commands_say_that_what_they_need_was_given_up(plugrun, driver, given_up, command):
    plugrun("storage", "create", driver, "--size", str(SIZE)).ok()
    said = f"what container box has written is not in storage driver {driver!r} any more"
    refused(plugrun(*command.split()), said, "plugrun rm -f box")
    assert plugrun("ps", "-a").ok().stdout.count("\n") == 2


@pytest.mark.parametrize("status", ["creating", "removing"])
def test_what_was_half_made_in_a_pool_that_was_given_up_goes_by_itself(plugrun, root, given_up, status):
    with closing(sqlite3.connect(root / "state.db")) as connection, connection:
        query = "UPDATE containers SET status = ?, record = json_set(record, '$.status', ?)"
        connection.execute(query, (status, status))
        connection.execute("UPDATE volumes SET ready = 0")
        connection.execute("UPDATE snapshots SET ready = 0")
    assert plugrun("create", "--name", "other", "--net", "none", "busybox", "true").ok().stderr == ""
    assert plugrun("ps", "-a").ok().stdout.count("\n") == 2
    plugrun("rm", "other").ok()
    assert rows(root) == []


def test_a_key_that_nothing_needs_in_a_pool_that_was_given_up_is_forgotten(plugrun, root, given_up):
    with closing(sqlite3.connect(root / "state.db")) as connection, connection:
        connection.execute("UPDATE snapshots SET ready = 0")
    assert plugrun("create", "--name", "other", "--net", "none", "busybox", "true").ok().stderr == ""
    assert len(rows(root)) == 4  # two containers and two volumes


def rows(root: Path) -> list[str]:
    """Return what is recorded of containers, snapshots and volumes."""
    with closing(sqlite3.connect(root / "state.db")) as connection:
        query = "SELECT id FROM containers UNION SELECT key FROM snapshots UNION SELECT name FROM volumes"
        return [row[0] for row in connection.execute(query)]


def test_a_file_with_something_else_in_it(plugrun, root, driver, pool):
    forget_mount(root, driver)
    with pool.open("r+b") as stream:
        stream.write(bytes(2 * MIB))
    refused(
        plugrun("run", "--storage", driver, "--net", "none", "busybox", "true"),
        f"{pool} of storage driver {driver} does not mount",
    )


def test_a_pool_that_is_mounted_elsewhere(plugrun, root, driver, pool, tmp_path):
    forget_mount(root, driver)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["mount", "-o", "loop", str(pool), str(elsewhere)], check=True)
    try:
        refused(
            plugrun("run", "--storage", driver, "--net", "none", "busybox", "true"),
            f"is mounted at {elsewhere} already",
            f"umount {elsewhere}",
        )
    finally:
        subprocess.run(["umount", str(elsewhere)], check=True)
    plugrun("run", "--rm", "--storage", driver, "--net", "none", "busybox", "true").ok()


def test_a_full_pool_can_be_emptied(plugrun, root, driver, pool):
    fill = "dd if=/dev/zero of=/f bs=1M; dd if=/dev/zero of=/g bs=4k; true"
    done = plugrun("run", "--name", "box", "--storage", driver, "--net", "none", "busybox", "sh", "-c", fill).ok()
    assert "No space left on device" in done.stderr
    plugrun("image", "prune", "-f").ok()
    plugrun("rm", "box").ok()
    plugrun("run", "--rm", "--storage", driver, "--net", "none", "busybox", "sh", "-c", "echo > /f").ok()


def test_bad_input_to_create(plugrun, root, driver, tmp_path):
    def create(*arguments):
        return plugrun("storage", "create", driver, *arguments)

    refused(create(), "--size is missing")
    refused(create("--size", "some"), "'some' is not a size")
    refused(create("--size", "1m"), "a pool of 1.05MB is too small")
    refused(create("--size", "1000000g"), "a pool of 1.07PB does not fit", "B free")
    refused(create("--size", "400m", "--file", str(tmp_path / "no" / "x.img")), "there is no directory")
    taken = tmp_path / "taken"
    taken.write_text("mine")
    refused(create("--size", "400m", "--file", str(taken)), f"{taken} exists")
    assert taken.read_text() == "mine"
    inside = root / "storage" / driver
    inside.mkdir(exist_ok=True)
    refused(create("--size", "400m", "--file", str(inside / "x.img")), "cannot be in")
    assert list(root.glob("pools/*.json")) == []


def test_a_second_pool_and_drivers_without(plugrun, driver, pool):
    refused(plugrun("storage", "create", driver, "--size", "400m"), "has a pool", "storage resize")
    known = f"no storage driver 'never' is installed; installed: {', '.join(sorted({driver, 'overlay'}))}"
    for command in (
        ("create", "never", "--size", "400m"),
        ("inspect", "never"),
        ("rm", "never"),
        ("resize", "never", "1g"),
    ):
        refused(plugrun("storage", *command), known)
    other = next(name for name in DRIVERS if name != driver)
    refused(plugrun("storage", "rm", other), f"storage driver {other!r} has no pool")


def test_what_a_driver_keeps_is_not_covered(plugrun, root, driver, file_system, busybox_archive):
    if load().storage[driver].reason(root / "storage" / driver):
        (root / "storage" / driver).mkdir(parents=True)
        (root / "storage" / driver / "something").mkdir()
    else:
        plugrun("load", "-i", str(busybox_archive)).ok()
        plugrun("create", "--storage", driver, "--net", "none", "busybox", "true").ok()
    refused(plugrun("storage", "create", driver, "--size", "400m"), "keeps containers or layers", "would cover")
    assert list(root.glob("pools/*.json")) == []


def test_a_file_of_one_s_own_choice(plugrun, root, driver, tmp_path):
    file = tmp_path / "disk" / "x.img"
    file.parent.mkdir()
    plugrun("storage", "create", driver, "--size", "400m", "--file", str(file)).ok()
    assert shown(plugrun, driver)["Pool"] == str(file)
    plugrun("storage", "rm", driver).ok()
    assert not file.exists()
