"""The OCI specification: the secure defaults, and what each option changes of them."""

from __future__ import annotations

import json

import pytest

from plugrun.container import BindMount, ContainerConfig, Resources, Security
from plugrun.oci import capabilities
from plugrun.oci.spec import SpecInputs, build_spec
from plugrun.oci.user import Identity

ID = "a" * 64
HOSTILE_LABELS = {
    "run.oci.handler": "krun",
    "run.oci.hooks.stdout": "/tmp/x",
    "org.systemd.property.ExecStartPre": "x",
    "io.plugrun.driver": "evil",
    "krun.ram_mib": "1",
}


@pytest.fixture(autouse=True)
def everything(monkeypatch):
    """An engine with all capabilities and no limits of its own, whoever runs the test."""
    monkeypatch.setattr(capabilities, "held", lambda: frozenset(capabilities.NAMES))


def build(*, uid=0, inputs=None, **changes):
    values = {"image": "test", "image_id": "sha256:0", "args": ("/bin/app", "-x"), "hostname": "box"}
    config = ContainerConfig(**{**values, **changes})
    given = {
        "container_id": ID,
        "rootfs": "/root/fs",
        "identity": Identity(uid, uid, (uid, 44), "/home/me", "me"),
        "netns": "/run/netns/x",
        "own_netns": True,
        "etc_files": {"/etc/hosts": "/state/hosts"},
        "binds": config.binds,
        "tmpfs": config.tmpfs,
        "init": None,
        "cgroup_v2": False,
        "hard_limits": {},
    }
    spec = build_spec(config, SpecInputs(**{**given, **(inputs or {})}))
    json.dumps(spec).encode()  # whatever it is, a runtime can read it
    return spec


def mask(names):
    return sum(1 << capabilities.NAMES.index(name) for name in names)


def mount(spec, destination):
    [found] = [one for one in spec["mounts"] if one["destination"] == destination]
    return found


def test_the_process_of_root():
    process = build()["process"]
    assert process["args"] == ["/bin/app", "-x"]
    assert process["cwd"] == "/"
    assert process["user"] == {"uid": 0, "gid": 0, "umask": 0o022, "additionalGids": [0, 44]}
    assert process["noNewPrivileges"] is False
    assert process["terminal"] is False
    sets = {name: mask(names) for name, names in process["capabilities"].items()}
    assert sets == {
        "bounding": 0x800405FB,
        "effective": 0x800405FB,
        "permitted": 0x800405FB,
        "inheritable": 0,
        "ambient": 0,
    }


def test_anybody_else_has_no_capabilities_but_those_asked_for():
    sets = build(uid=1000)["process"]["capabilities"]
    assert mask(sets.pop("bounding")) == 0x800405FB
    assert sets == {"effective": [], "permitted": [], "inheritable": [], "ambient": []}
    sets = build(uid=1000, security=Security(cap_add=("net_raw",)))["process"]["capabilities"]
    assert mask(sets.pop("bounding")) == 0x800405FB | 1 << 13
    assert all(sets[name] == ["CAP_NET_RAW"] for name in ("effective", "permitted", "inheritable", "ambient"))


def test_dropping_all_leaves_none():
    sets = build(security=Security(cap_drop=("ALL",)))["process"]["capabilities"]
    assert not any(sets.values())


def test_the_environment_is_the_configurations_over_what_a_login_sets():
    process = build(env=("PATH=/p", "A=1", "A=2=3"))["process"]
    assert sorted(process["env"]) == ["A=2=3", "HOME=/home/me", "HOSTNAME=box", "PATH=/p"]
    process = build(tty=True, env=("TERM=dumb", "HOME=/h", "HOSTNAME=n"))["process"]
    assert sorted(process["env"]) == ["HOME=/h", "HOSTNAME=n", "TERM=dumb"]
    assert "TERM=xterm" in build(tty=True)["process"]["env"]


def test_nothing_of_the_callers_environment(monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    assert "hunter2" not in json.dumps(build())


def test_limits_are_explicit_and_within_the_callers():
    def limits(**changes):
        return {one["type"]: (one["soft"], one["hard"]) for one in build(**changes)["process"]["rlimits"]}

    assert limits() == {"RLIMIT_NOFILE": (1024, 524288), "RLIMIT_CORE": (0, 0)}
    clamped = limits(inputs={"hard_limits": {"nofile": 512, "core": -1}})
    assert clamped == {"RLIMIT_NOFILE": (512, 512), "RLIMIT_CORE": (0, 0)}
    chosen = limits(ulimits={"nofile": (10, 20), "memlock": (-1, -1)}, inputs={"hard_limits": {"memlock": 4096}})
    assert chosen["RLIMIT_NOFILE"] == (10, 20)
    assert chosen["RLIMIT_MEMLOCK"] == (4096, 4096)
    assert limits(ulimits={"stack": (-1, -1)})["RLIMIT_STACK"] == (2**64 - 1, 2**64 - 1)


def test_namespaces():
    def kinds(**inputs):
        return [(one["type"], one.get("path")) for one in build(inputs=inputs)["linux"]["namespaces"]]

    base = [("pid", None), ("ipc", None), ("uts", None), ("mount", None)]
    assert kinds() == [*base, ("network", "/run/netns/x")]
    assert kinds(cgroup_v2=True) == [*base, ("cgroup", None), ("network", "/run/netns/x")]
    assert kinds(netns=None, own_netns=False) == base


def test_sysctls_only_in_a_network_namespace_of_its_own():
    assert build()["linux"]["sysctl"] == {
        "net.ipv4.ping_group_range": "0 2147483647",
        "net.ipv4.ip_unprivileged_port_start": "0",
    }
    assert "sysctl" not in build(inputs={"own_netns": False})["linux"]
    assert "sysctl" not in build(inputs={"netns": None, "own_netns": False})["linux"]


def test_masked_and_read_only_paths():
    linux = build()["linux"]
    assert set(linux["readonlyPaths"]) == {
        f"/proc/{name}" for name in ("asound", "bus", "fs", "irq", "sys", "sysrq-trigger")
    }
    names = "acpi interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats"
    expected = {f"/proc/{name}" for name in names.split()}
    expected |= {"/sys/firmware", "/sys/devices/virtual/powercap", "/sys/fs/selinux"}
    found = set(linux["maskedPaths"])
    assert expected <= found
    assert all(path.endswith("/thermal_throttle") for path in found - expected)


def test_the_cgroup_mount_is_not_made_read_only_twice():
    """With cgroup v1, crun 1.8 binds such a path before it has made what is mounted below it read-only."""
    assert "/sys/fs/cgroup" not in build()["linux"]["readonlyPaths"]
    assert "ro" in mount(build(), "/sys/fs/cgroup")["options"]


def test_devices_are_denied_but_for_a_list():
    rules = build()["linux"]["resources"]["devices"]
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert all(one["allow"] and one["type"] == "c" for one in rules[1:])
    found = {(one["major"], one.get("minor")) for one in rules[1:]}
    assert found == {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None)}


def test_resources():
    def resources(**limits):
        return build(resources=Resources(**limits), inputs={"cgroup_v2": True})["linux"]["resources"]

    assert resources()["pids"] == {"limit": 2048}
    assert "memory" not in resources()
    assert "cpu" not in resources()
    assert "pids" not in resources(pids=-1)
    assert resources(memory=1 << 20)["memory"] == {"limit": 1 << 20, "swap": 2 << 20}
    assert resources(memory=1 << 20, memory_swap=-1)["memory"] == {"limit": 1 << 20, "swap": -1}
    assert resources(cpus=1.5)["cpu"] == {"quota": 150_000, "period": 100_000}


def test_mounts_of_the_kernel():
    spec = build(shm_size=4096)
    assert mount(spec, "/dev/shm")["options"][-1] == "size=4096"
    for destination in ("/proc", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"):
        assert {"nosuid", "noexec", "nodev"} <= set(mount(spec, destination)["options"])
    assert "ro" in mount(spec, "/sys")["options"]
    assert "ro" in mount(spec, "/sys/fs/cgroup")["options"]


def test_binds():
    binds = (
        BindMount(source="/h/deep", destination="/data/deep"),
        BindMount(source="/h", destination="/data", read_only=True),
    )
    spec = build(binds=binds, tmpfs={"/data/tmp": "size=1m,exec"})
    order = [one["destination"] for one in spec["mounts"] if one["destination"].startswith("/data")]
    assert order[0] == "/data"
    options = mount(spec, "/data")["options"]
    assert {"rbind", "rprivate"} <= set(options)
    assert {"ro", "rro"} & set(options)
    assert not {"ro", "rro"} & set(mount(spec, "/data/deep")["options"])
    assert mount(spec, "/data/tmp")["options"] == ["nosuid", "nodev", "size=1m", "exec"]


def test_the_root_file_system():
    assert build()["root"] == {"path": "/root/fs", "readonly": False}
    spec = build(read_only=True)
    assert spec["root"]["readonly"] is True
    assert "ro" in mount(spec, "/etc/hosts")["options"]
    assert spec["hostname"] == "box"


def test_init_comes_first():
    spec = build(inputs={"init": "/usr/bin/tini"})
    path, separator, *command = spec["process"]["args"]
    assert separator == "--"
    assert command == ["/bin/app", "-x"]
    found = mount(spec, path)
    assert (found["source"], "ro" in found["options"]) == ("/usr/bin/tini", True)


def test_privileged_opens_everything_and_nothing_else_does():
    spec = build(security=Security(privileged=True))
    linux = spec["linux"]
    assert mask(spec["process"]["capabilities"]["effective"]) == (1 << 41) - 1
    assert spec["process"]["capabilities"]["inheritable"] == []
    assert {"seccomp", "maskedPaths", "readonlyPaths"}.isdisjoint(linux)
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "/dev/null" in {one["path"] for one in linux["devices"]}
    assert "rw" in mount(spec, "/sys/fs/cgroup")["options"]
    for added in (("ALL",), ("SYS_ADMIN",)):
        linux = build(security=Security(cap_add=added))["linux"]
        assert {"seccomp", "maskedPaths", "readonlyPaths"} <= set(linux)
        assert "devices" not in linux


def test_privileged_gives_no_capabilities_to_anybody_but_root():
    sets = build(uid=1000, security=Security(privileged=True))["process"]["capabilities"]
    assert not any(sets[name] for name in ("effective", "permitted", "inheritable", "ambient"))


def test_seccomp_is_on_unless_told_otherwise():
    assert build()["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert "seccomp" not in build(security=Security(seccomp="unconfined"))["linux"]
    own = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["uname"], "action": "SCMP_ACT_KILL"}]}'
    assert build(security=Security(seccomp=own))["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ALLOW"


def test_no_new_privileges():
    assert build(security=Security(no_new_privileges=True))["process"]["noNewPrivileges"] is True


def test_labels_are_inert():
    plain, labelled = build(), build(labels=HOSTILE_LABELS)
    assert labelled == plain
    assert "annotations" not in labelled
    assert "hooks" not in labelled


def test_only_the_process_carries_what_an_image_says():
    """Change everything an image can set, and see where it goes."""
    plain = build()
    changed = build(
        uid=7,
        args=("evil",),
        env=("LD_PRELOAD=/evil.so",),
        workdir="/evil",
        labels=HOSTILE_LABELS,
        stop_signal="SIGKILL",
        entrypoint=("evil",),
    )
    assert {key: value for key, value in changed.items() if key != "process"} == {
        key: value for key, value in plain.items() if key != "process"
    }
    different = {key for key, value in changed["process"].items() if value != plain["process"][key]}
    assert different == {"args", "env", "cwd", "user", "capabilities"}


def test_the_cgroup_is_named_after_the_container():
    assert build()["linux"]["cgroupsPath"] == f"/plugrun-{ID}"


def test_configurations_are_never_shared_between_containers():
    first = build()
    first["linux"]["maskedPaths"].clear()
    first["linux"]["sysctl"].clear()
    first["linux"]["seccomp"]["syscalls"].clear()
    second = build()
    assert second["linux"]["maskedPaths"]
    assert second["linux"]["sysctl"]
    assert second["linux"]["seccomp"]["syscalls"]
