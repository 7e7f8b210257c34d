"""The system call filter, seen from inside: each refused call is also made without the filter."""

from __future__ import annotations

import binascii
import json
import platform
from errno import ENOSYS, EPERM
from pathlib import Path

import pytest

from plugrun.oci import seccomp_cache, seccomp_policy

pytestmark = pytest.mark.root

NAMESPACES = ("cgroup", "uts", "ipc", "user", "pid", "net", "mnt")
MAKING_NAMESPACES = {f"{way}_{kind}" for way in ("unshare", "clone", "clone_user") for kind in NAMESPACES}
BY_CAPABILITY = {
    *("bpf", "perf_event_open", "mount", "move_mount", "open_tree", "fsopen", "setns", "quotactl", "sethostname"),
    *("open_by_handle_at", "init_module", "syslog", "settimeofday"),
}
NEVER = {
    *("keyctl", "add_key", "request_key", "io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd"),
    *("pivot_root", "kexec_load", "swapon"),
}
UNSUPPORTED = {
    *(f"socket_{family}" for family in range(47) if family not in seccomp_policy.FAMILIES),
    *("socket_vsock_high", "clone3", "personality_no_randomize", "personality_read_implies_exec", "unknown"),
}
NEEDED = {"socket_1", "socket_2", "socket_10", "socket_16", "clone", "personality_query", "personality_32"}
NEEDED |= {"ptrace_traceme"}
ANYWHERE = {"unknown", "kexec_load", "init_module"}  # may fail the same way without the filter
ON_X86 = {
    "socket32_unix": 0,
    "socket32_vsock": ENOSYS,
    "socketcall32_unix": EPERM,
    "socketcall32_vsock": EPERM,
    "getpid32": 0,
    "unshare32_user": EPERM,
}


def answers(plugrun, program: Path, *options: str) -> dict[str, int]:
    output = plugrun("run", "--rm", "--net", "none", "-v", f"{program}:/probe:ro", *options, "busybox", "/probe").ok()
    return {name: int(number) for name, number in (line.split() for line in output.stdout.splitlines())}


def test_the_default_filter_refuses_what_it_should_and_allows_the_rest(plugrun, busybox, probe, runtime_name):
    inside = answers(plugrun, probe, "--runtime", runtime_name)
    refused = MAKING_NAMESPACES | BY_CAPABILITY | NEVER
    assert {name: inside[name] for name in refused} == dict.fromkeys(refused, EPERM)
    assert {name: inside[name] for name in UNSUPPORTED} == dict.fromkeys(UNSUPPORTED, ENOSYS)
    assert {name: inside[name] for name in NEEDED} == dict.fromkeys(NEEDED, 0)
    assert inside["openat2"] not in {EPERM, ENOSYS}
    assert inside["fchmodat2"] != EPERM  # too new for some libseccomp, and then the C library must fall back
    if platform.machine() == "x86_64":
        assert {name: inside[name] for name in ON_X86} == ON_X86


def test_without_the_filter_the_same_calls_reach_the_kernel(plugrun, busybox, probe, runtime_name):
    inside = answers(plugrun, probe, "--runtime", runtime_name, "--privileged")
    open_now = {name for name, number in inside.items() if number not in {EPERM, ENOSYS}}
    assert (MAKING_NAMESPACES | BY_CAPABILITY | NEVER | UNSUPPORTED) - ANYWHERE - open_now == set()
    if platform.machine() == "x86_64":
        assert set(ON_X86) - open_now == set()


def test_unconfined_leaves_only_the_capabilities(plugrun, busybox, probe):
    inside = answers(plugrun, probe, "--security-opt", "seccomp=unconfined")
    assert inside["keyctl"] == inside["unshare_user"] == inside["personality_no_randomize"] == 0
    assert inside["sethostname"] == EPERM  # without CAP_SYS_ADMIN


def test_a_capability_opens_its_calls_and_no_others(plugrun, busybox, probe, runtime_name):
    inside = answers(plugrun, probe, "--runtime", runtime_name, "--cap-add", "SYS_ADMIN")
    opened = MAKING_NAMESPACES | {"mount", "setns", "fsopen", "clone3"}
    assert {name for name in opened if inside[name] in {EPERM, ENOSYS}} == set()
    assert {name: inside[name] for name in NEVER} == dict.fromkeys(NEVER, EPERM)


def test_the_filter_holds_for_other_users_and_for_exec(plugrun, busybox, probe):
    as_user = answers(plugrun, probe, "-u", "1000:1000")
    plugrun("run", "-d", "--name", "box", "--net", "none", "-v", f"{probe}:/probe:ro", busybox, "sleep", "1000").ok()
    output = plugrun("exec", "box", "/probe").ok().stdout
    in_exec = {name: int(number) for name, number in (line.split() for line in output.splitlines())}
    for inside in (as_user, in_exec):
        assert {name: inside[name] for name in MAKING_NAMESPACES | NEVER} == dict.fromkeys(
            MAKING_NAMESPACES | NEVER, EPERM
        )


def test_a_filter_that_is_kept_is_the_filter_that_was_compiled(plugrun, busybox, probe, private_root):
    compiled = answers(plugrun, probe, "--runtime", "crun")
    assert answers(plugrun, probe, "--runtime", "crun") == compiled
    container = plugrun("run", "-d", "--runtime", "crun", "--net", "none", busybox, "sleep", "1000").ok().line
    spec = json.loads((private_root.run_root / "containers" / container / "config.json").read_text())
    assert seccomp_cache.ANNOTATION in spec["annotations"]  # so the second and the third had the kept one
    own = private_root.run_root / "runtime" / container / "seccomp.bpf"
    kept = next((private_root.run_root / "filters").iterdir()).read_bytes().splitlines()[1]
    assert binascii.a2b_base64(kept) == own.read_bytes()


def test_other_capabilities_have_another_filter(plugrun, busybox, probe, private_root):
    plain = answers(plugrun, probe, "--runtime", "crun")
    for _ in range(2):
        more = answers(plugrun, probe, "--runtime", "crun", "--cap-add", "SYS_ADMIN")
        assert (plain["fsopen"], more["fsopen"] in {EPERM, ENOSYS}) == (EPERM, False)
    assert answers(plugrun, probe, "--runtime", "crun") == plain
    assert len(list((private_root.run_root / "filters").iterdir())) == 2


def test_a_profile_of_the_users_own_replaces_the_default(plugrun, busybox, probe, tmp_path, runtime_name):
    profile = tmp_path / "profile.json"
    rules = [
        {"names": ["keyctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["userfaultfd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7, "includes": {"caps": ["CAP_SYS_ADMIN"]}},
    ]
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    inside = answers(plugrun, probe, "--runtime", runtime_name, "--security-opt", f"seccomp={profile}")
    assert (inside["keyctl"], inside["userfaultfd"], inside["unshare_user"]) == (5, 0, 0)


def test_an_unusable_profile_is_one_clear_line(plugrun, busybox, tmp_path):
    profile = tmp_path / "profile.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_MAYBE"}')
    result = plugrun("run", "--security-opt", f"seccomp={profile}", busybox, "true")
    assert result.code == 125
    assert "SCMP_ACT_MAYBE" in result.stderr
    assert "Traceback" not in result.stderr
    assert plugrun("ps", "-aq").ok().stdout == ""
