"""Size limits of containers, on real file systems with quotas; and what they are seen to occupy."""

from __future__ import annotations

import contextlib
import json
import re

import pytest

from plugrun import mounts
from plugrun.manager import load

pytestmark = pytest.mark.root

MIB = 1 << 20
DRIVERS = sorted(name for name, one in load().storage.items() if one.spec.pool and "quota" in one.spec.supports)
FULL = re.compile("No space left on device|Disk quota exceeded|Quota exceeded")


@pytest.fixture(params=DRIVERS)
def pooled(request, plugrun, private_root, busybox_archive):
    """The name of a driver on a pool."""
    plugrun("storage", "create", request.param, "--size", str(600 * MIB)).ok()
    plugrun("load", "-i", str(busybox_archive)).ok()
    yield request.param
    plugrun.remove_all()
    mounts.unmount(str(private_root.root / "storage" / request.param))


@pytest.fixture
def limited(plugrun, pooled):
    """The same, where the kernel has quotas for its file system; it is proven that no limit is silently ignored."""
    tried = plugrun("create", "--name", "tried", "--storage", pooled, "--storage-opt", "size=10m", "busybox", "true")
    if tried.code != 0:
        assert "kernel" in tried.stderr
        assert plugrun("ps", "-aq").line == ""
        pytest.skip(tried.stderr)
    plugrun("rm", "tried").ok()
    return pooled


def write(plugrun, driver, name, mebibytes, *options):
    command = f"dd if=/dev/zero of=/f bs=1M count={mebibytes} && sync"
    run = ("run", "--name", name, "--net", "none", "--storage", driver, *options, "busybox", "sh", "-c", command)
    return plugrun(*run)


def limit(size):
    return ("--storage-opt", f"size={size}")


def test_a_container_writes_as_much_as_it_may_and_no_more(plugrun, limited):
    write(plugrun, limited, "free", 60).ok()  # positive control
    write(plugrun, limited, "within", 15, *limit("20m")).ok()
    beyond = write(plugrun, limited, "beyond", 60, *limit("20m"))
    assert beyond.code != 0
    assert FULL.search(beyond.stderr)
    write(plugrun, limited, "other", 60).ok()  # nobody else is hurt


def test_the_image_does_not_count_but_a_changed_file_of_it_does(plugrun, limited):
    def run(*command):
        return plugrun("run", "--rm", "--net", "none", "--storage", limited, *limit("1m"), "busybox", *command)

    run("sh", "-c", "echo small > /f").ok()
    assert run("sh", "-c", "ls -l /bin/busybox").code == 0
    assert FULL.search(run("sh", "-c", "for i in 1 2 3; do cp /bin/busybox /copy$i; done").stderr)


def test_a_limit_holds_across_starts_and_goes_with_the_container(plugrun, limited):
    fill = "dd if=/dev/zero of=/f bs=1M count=60"
    run = ("--name", "box", "--net", "none", "--storage", limited, *limit("20m"), "busybox", "sh", "-c", fill)
    assert plugrun("run", *run).code != 0
    again = plugrun("start", "-a", "box")
    assert again.code != 0
    assert FULL.search(again.stderr)
    plugrun("rm", "box").ok()
    write(plugrun, limited, "box", 60).ok()


def test_a_full_container_starts_again_and_can_be_emptied(plugrun, limited):
    script = "rm -f /f; dd if=/dev/zero of=/f bs=1M count=15 && sync; dd if=/dev/zero of=/g bs=1M; touch /1 /2 /3; true"
    run = ("run", "--name", "box", "--net", "none", "--storage", limited, *limit("20m"), "busybox", "sh", "-c", script)
    assert FULL.search(plugrun(*run).ok().stderr)
    for _ in range(3):
        again = plugrun("start", "-a", "box").ok()
        assert "15+0 records out" in again.stderr  # what it deleted could be written anew
        assert FULL.search(again.stderr)  # and no more


def test_no_two_containers_share_a_limit(plugrun, limited):
    for name in ("one", "two", "three"):
        write(plugrun, limited, name, 15, *limit("20m")).ok()
    plugrun("rm", "two").ok()
    write(plugrun, limited, "four", 15, *limit("20m")).ok()


@pytest.mark.parametrize("size", [None, "20m"], ids=["without", "with"])
def test_a_limit_goes_along_with_a_rollback_and_a_clone(plugrun, limited, size):
    """The first start writes little, every later one too much."""
    script = "n=60; [ -e /again ] || n=5; touch /again; dd if=/dev/zero of=/f bs=1M count=$n && sync"
    options = limit(size) if size else ()
    run = ("run", "--name", "box", "--net", "none", "--storage", limited, *options, "busybox", "sh", "-c", script)
    plugrun(*run).ok()
    plugrun("snapshot", "create", "box", "small").ok()
    plugrun("clone", "box", "branch").ok()
    plugrun("rollback", "box", "small").ok()
    for name in ("branch", "box"):
        ended = plugrun("start", "-a", name)
        assert (ended.code == 0) is (size is None), ended
        assert size is None or FULL.search(ended.stderr)


@pytest.mark.parametrize("size", [None, 20 * MIB], ids=["without", "with"])
def test_a_limit_goes_along_with_a_move(plugrun, limited, size):
    """It is put into the record of a container elsewhere, because here there may be no two drivers that keep limits."""
    other = next(name for name in DRIVERS if name != limited)
    script = "n=60; [ -e /again ] || n=5; touch /again; dd if=/dev/zero of=/f bs=1M count=$n && sync"
    plugrun("run", "--name", "box", "--net", "none", "--storage", other, "busybox", "sh", "-c", script).ok()
    with contextlib.closing(plugrun.engine()) as engine:
        record = engine.containers.find("box")
        record.config = record.config._replace(storage_size=size)
        engine.containers.update(record)
    plugrun("move", "box", "--storage", limited).ok()
    ended = plugrun("start", "-a", "box")
    assert (ended.code == 0) is (size is None), ended
    assert size is None or FULL.search(ended.stderr)


@pytest.mark.parametrize(
    ("size", "words"),
    [("0", "too small"), ("1k", "too small"), ("big", "'big' is not a size"), ("-1", "not a size"), ("", "not a size")],
)
def test_a_size_that_makes_no_sense(plugrun, busybox, size, words):
    refused = plugrun("create", *limit(size), busybox, "true")
    assert refused.code == 125
    assert words in refused.stderr
    assert plugrun("ps", "-aq").line == ""


def test_where_no_limit_can_be_set_the_reason_is_said_and_nothing_is_made(plugrun, busybox, private_root):
    refused = plugrun("create", "--storage", "overlay", *limit("10m"), busybox, "true")
    assert refused.code == 125
    assert "is not on xfs" in refused.stderr
    assert "plugrun storage create overlay --size 20G" in refused.stderr
    assert plugrun("ps", "-aq").line == ""
    assert list((private_root.root / "storage" / "overlay" / "active").iterdir()) == []


def test_what_containers_occupy(plugrun, pooled):
    write(plugrun, pooled, "box", 8).ok()
    row = json.loads(plugrun("ps", "-as", "--format", "json").ok().line)
    own, whole = re.fullmatch(r"([\d.]+)MB \(virtual ([\d.]+)MB\)", row["Size"]).groups()
    assert 8 <= float(own) <= 10 < float(whole)
    found = json.loads(plugrun("inspect", "--size", "box").ok().stdout)[0]
    assert 8 * MIB <= found["SizeRw"] <= 9.5 * MIB < found["SizeRootFs"]
    assert found["GraphDriver"] == {"Name": pooled, "Data": {"Snapshot": found["Id"]}}
    assert found["HostConfig"]["StorageOpt"] == {}
    assert "SizeRw" not in json.loads(plugrun("inspect", "box").ok().stdout)[0]
    df = {
        row["Type"]: row
        for row in map(json.loads, plugrun("system", "df", "--format", "json").ok().stdout.split("\n")[:-1])
    }
    assert df["Containers"]["TotalCount"] == "1"
    assert 8 <= float(df["Containers"]["Size"].removesuffix("MB")) <= 10


def test_a_limit_is_shown(plugrun, limited):
    plugrun("create", "--name", "box", "--storage", limited, *limit("20m"), "busybox", "true").ok()
    found = plugrun("inspect", "-f", "{{.HostConfig.StorageOpt.size}}", "box").ok()
    assert found.line == str(20 * MIB)
