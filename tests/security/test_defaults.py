"""The secure defaults, seen from inside a container, under each runtime."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

DEFAULT = 0x800405FB  # Podman's eleven
NET_RAW = 1 << 13


@pytest.fixture
def run(plugrun, busybox, runtime_name):
    def run(*options, command, net="none"):
        script = ["sh", "-c", command] if isinstance(command, str) else command
        return plugrun("run", "--rm", "--net", net, "--runtime", runtime_name, *options, busybox, *script)

    return run


def status(output):
    lines = (line.partition(":") for line in output.splitlines())
    return {name: value.strip() for name, _, value in lines}


def masks(output):
    found = status(output)
    return {name: int(found[f"Cap{name}"], 16) for name in ("Bnd", "Prm", "Eff", "Inh", "Amb")}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), (DEFAULT, DEFAULT, DEFAULT, 0, 0)),
        (("-u", "1000"), (DEFAULT, 0, 0, 0, 0)),
        (("-u", "1000", "--cap-add", "net_raw"), (DEFAULT | NET_RAW, NET_RAW, NET_RAW, NET_RAW, NET_RAW)),
        (("--cap-add", "CAP_NET_RAW"), (*[DEFAULT | NET_RAW] * 3, 0, 0)),
        (("--cap-drop", "ALL"), (0, 0, 0, 0, 0)),
        (("--cap-drop", "ALL", "--cap-add", "NET_RAW"), (*[NET_RAW] * 3, 0, 0)),
    ],
)
def test_capabilities(run, options, expected):
    found = masks(run(*options, command="cat /proc/self/status").ok().stdout)
    assert found == dict(zip(("Bnd", "Prm", "Eff", "Inh", "Amb"), expected, strict=True))


def test_privileged_has_what_the_engine_has(run):
    mine = int(status(Path("/proc/self/status").read_text())["CapBnd"], 16)
    found = masks(run("--privileged", command="cat /proc/self/status").ok().stdout)
    assert (found["Bnd"], found["Eff"], found["Inh"], found["Amb"]) == (mine, mine, 0, 0)


@pytest.mark.parametrize("user", [(), ("-u", "1000"), ("-u", "0")])
def test_exec_has_no_more_than_the_container(plugrun, busybox, runtime_name, user):
    plugrun("run", "-d", "--net", "none", "--runtime", runtime_name, "--name", "box", busybox, "sleep", "1000").ok()
    output = plugrun("exec", *user, "box", "cat", "/proc/self/status").ok().stdout
    found, own = masks(output), 0 if "1000" in user else DEFAULT
    assert found == {"Bnd": DEFAULT, "Prm": own, "Eff": own, "Inh": 0, "Amb": 0}
    assert status(output)["Seccomp"] == "2"


@pytest.mark.parametrize("setuid", [False, True], ids=["new privileges", "no new privileges"])
def test_new_privileges(run, setuid):
    options = ("--security-opt", "no-new-privileges") if setuid else ()
    found = status(run(*options, command="cat /proc/self/status").ok().stdout)
    assert found["NoNewPrivs"] == ("1" if setuid else "0")
    assert found["Seccomp"] == "2"
    assert found["Umask"] == "0022"


def test_groups_of_the_caller_are_not_inherited(plugrun, busybox):
    arguments = plugrun.argv("run", "--rm", "--net", "none", "-u", "1000:1001", busybox, "id")
    done = subprocess.run(arguments, extra_groups=[10, 4242], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "uid=1000 gid=1001 groups=1001\n"


def test_umask_of_the_caller_is_not_inherited(plugrun, busybox):
    arguments = plugrun.argv("run", "--rm", "--net", "none", busybox, "sh", "-c", "umask")
    done = subprocess.run(arguments, umask=0o077, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "0022\n"


DESCRIPTORS = "ls /proc/$$/fd; true"  # of the shell, not of ls, which opens the directory


@pytest.mark.parametrize("options", [(), ("-i",), ("-t",), ("--init",)])
def test_only_the_standard_streams_are_open(plugrun, busybox, runtime_name, options):
    """Started with descriptors of ours that a careless engine would pass on."""
    inherited = [os.open("/etc/hostname", os.O_RDONLY) for _ in range(3)]
    arguments = ("run", "--rm", "--net", "none", "--runtime", runtime_name, *options, busybox, "sh", "-c", DESCRIPTORS)
    try:
        done = subprocess.run(
            plugrun.argv(*arguments),
            pass_fds=inherited,
            capture_output=True,
            timeout=60,
            check=True,
            text=True,
            input="",
        )
    finally:
        for descriptor in inherited:
            os.close(descriptor)
    assert done.stdout.split() == ["0", "1", "2"]


def test_only_the_standard_streams_are_open_under_exec(plugrun, busybox, runtime_name):
    plugrun("run", "-d", "--net", "none", "--runtime", runtime_name, "--name", "box", busybox, "sleep", "1000").ok()
    assert plugrun("exec", "box", "sh", "-c", DESCRIPTORS).ok().stdout.split() == ["0", "1", "2"]
    assert plugrun("exec", "-i", "box", "sh", "-c", DESCRIPTORS).ok().stdout.split() == ["0", "1", "2"]


MASKED = "acpi interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats"
READ_ONLY = "asound bus fs irq sys sysrq-trigger"


def test_masked_paths_are_empty(run):
    paths = [f"/proc/{name}" for name in MASKED.split()]
    paths += ["/sys/firmware", "/sys/fs/selinux", "/sys/devices/virtual/powercap"]
    script = 'for p in "$@"; do [ -e "$p" ] || continue; [ -d "$p" ] && n=$(ls -A "$p" | wc -l) || n=$(wc -c < "$p"); '
    command = ["sh", "-c", script + 'echo "$p" $n; done', "sh", *paths]
    masked = dict(line.split() for line in run(command=command).ok().stdout.splitlines())
    assert set(masked) == {path for path in paths if os.path.exists(path)}
    assert set(masked.values()) == {"0"}
    # The control: privileged, at least some of them say something.
    control = dict(line.split() for line in run("--privileged", command=command).ok().stdout.splitlines())
    assert set(control.values()) != {"0"}


def test_read_only_paths_are(run):
    paths = [f"/proc/{name}" for name in READ_ONLY.split()] + ["/sys"]
    command = ["sh", "-c", 'for p in "$@"; do grep " $p [a-z0-9]* ro," /proc/mounts; done; true', "sh", *paths]
    found = {line.split()[1] for line in run(command=command).ok().stdout.splitlines()}
    assert found == {path for path in paths if os.path.exists(path)}


@pytest.mark.parametrize(
    "path",
    ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/sys/kernel/mm/ksm/run"],
)
def test_the_kernel_cannot_be_set(run, path):
    if not os.path.exists(path):
        pytest.skip(f"this kernel has no {path}")
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    for options in ((), ("--cap-add", "ALL")):
        result = run(*options, command=f"echo 0 > {path}")
        assert result.code != 0
        assert "Read-only file system" in result.stderr
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_control_groups_cannot_be_set(run):
    """With cgroup v1, ``/sys/fs/cgroup`` itself is a tmpfs of the container's own, which runtimes leave writable."""
    places = "/sys/fs/cgroup/*/" if os.path.isdir("/sys/fs/cgroup/memory") else "/sys/fs/cgroup"
    script = f"for d in {places}; do mkdir $d/x && rmdir $d/x && echo made $d; done; true"
    result = run(command=script).ok()
    assert result.stdout == ""
    assert result.stderr
    assert all("Read-only file system" in line for line in result.stderr.splitlines())
    assert "made" in run("--privileged", command=script).stdout  # the control


def test_dev_has_the_usual_devices_only(run):
    script = "cd /dev; for f in $(find . -type c -o -type b); do echo $f; done"
    found = set(run(command=script).ok().stdout.split())
    names = {"null", "zero", "full", "random", "urandom", "tty"}
    assert {f"./{name}" for name in names} <= found <= {f"./{name}" for name in (*names, "pts/ptmx", "console", "ptmx")}
    assert run("--privileged", command=script).ok().stdout.count("\n") > len(found)


def test_device_nodes_do_not_open_even_with_mknod(run):
    script = "mknod /disk b 8 0 && mknod /mem c 1 1 && for f in /disk /mem; do head -c1 $f; done"
    result = run("--cap-add", "MKNOD", command=script)
    assert result.code != 0
    assert result.stderr.count("Operation not permitted") == 2
    assert "mknod" in run(command="mknod /disk b 8 0").stderr  # nor can one be made by default


def test_shared_memory_is_bounded(run):
    script = "df -k /dev/shm | tail -n 1 | awk '{print $2}'"
    assert run(command=script).ok().line == "65536"
    assert run("--shm-size", "1m", command=script).ok().line == "1024"


def test_limits_are_explicit(run):
    assert run(command="ulimit -Sn; ulimit -Sc; ulimit -Hc").ok().stdout.split() == ["1024", "0", "0"]


def test_sysctls_are_set_in_a_network_of_ones_own_only(run):
    script = "cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start"
    before = {
        name: Path(f"/proc/sys/net/ipv4/{name}").read_text()
        for name in ("ping_group_range", "ip_unprivileged_port_start")
    }
    assert run(command=script).ok().stdout.split() == ["0", "2147483647", "0"]
    assert run(command=script, net="host").ok().stdout == "".join(before.values())
    assert {name: Path(f"/proc/sys/net/ipv4/{name}").read_text() for name in before} == before


def test_read_only_binds_are_so_all_the_way_down(run, tmp_path):
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "below"], check=True)
    try:
        for place in ("/data", "/data/below"):
            result = run("-v", f"{source}:/data:ro", command=f"touch {place}/new")
            assert "Read-only file system" in result.stderr, place
        run("-v", f"{source}:/data", command="touch /data/below/new").ok()
        assert (source / "below/new").exists()
    finally:
        subprocess.run(["umount", source / "below"], check=True)


def test_mounts_stay_inside(run, tmp_path):
    """With every right to mount, nothing shows up on the host."""
    before = Path("/proc/self/mountinfo").read_text()
    script = "mkdir /data/m; mount -t tmpfs tmpfs /data/m && touch /data/m/inside"
    run("--privileged", "-v", f"{tmp_path}:/data", command=script).ok()
    assert Path("/proc/self/mountinfo").read_text() == before
    assert list((tmp_path / "m").iterdir()) == []


def test_a_fork_bomb_stays_inside(run):
    bomb = "for i in $(seq 200); do sleep 1000 & done; echo survived"
    result = run("--pids-limit", "64", command=bomb)
    assert result.code != 0
    assert "can't fork" in result.stderr
    assert run("--pids-limit", "300", command=bomb).ok().line == "survived"


def test_exec_counts_against_the_limit_of_the_container(plugrun, busybox, runtime_name):
    arguments = ("run", "-d", "--net", "none", "--runtime", runtime_name, "--name", "full", "--pids-limit", "8")
    plugrun(*arguments, busybox, "sh", "-c", "for i in $(seq 7); do sleep 1000 & done; wait").ok()
    deadline = time.monotonic() + 30
    while "can't fork" not in (last := plugrun("exec", "full", "sh", "-c", "true & (true); wait")).stderr:
        assert time.monotonic() < deadline, last


def test_no_abstract_sockets(plugrun, busybox):
    """Whoever shares the host's network could connect to one (CVE-2020-15257)."""
    before = abstract()
    plugrun("run", "-d", "--net", "host", "--name", "box", busybox, "sleep", "1000").ok()
    inside = plugrun("exec", "box", "cat", "/proc/net/unix").ok().stdout
    assert {line.split()[-1] for line in inside.splitlines() if " @" in line} <= before
    assert abstract() <= before


def abstract():
    return {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if " @" in line}


def test_the_engines_directories_are_closed_to_others(plugrun, busybox, private_root):
    plugrun("run", "-d", "--net", "none", "--name", "box", busybox, "sleep", "1000").ok()
    for top in (private_root.root, private_root.run_root):
        assert top.stat().st_mode & 0o077 == 0, top
