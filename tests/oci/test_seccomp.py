"""The system call policy as data, and users' own profiles; what the kernel makes of it is in tests/security."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from plugrun.errors import InvalidArgument
from plugrun.oci import capabilities, seccomp, seccomp_file
from plugrun.oci import seccomp_policy as policy
from plugrun.oci.seccomp_file import Machine

PODMANS = Path("/usr/share/containers/seccomp.json")
X86 = "x86_64"
HERE = Machine("amd64", "SCMP_ARCH_X86_64", (6, 1), ("CAP_SYS_ADMIN", "CAP_CHOWN"))

# Newer than libseccomp 2.5.4 (Linux 6.2 and later), which therefore cannot vouch for their spelling.
NEWEST = {
    *("listmount", "statmount", "mseal", "riscv_hwprobe", "uprobe", "uretprobe", "open_tree_attr"),
    *("getxattrat", "listxattrat", "removexattrat", "setxattrat"),
    *("lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr"),
}


def names(rendered: dict[str, Any], action: str) -> list[str]:
    """The calls that an action applies to whatever their arguments."""
    return [
        name
        for rule in rendered["syscalls"]
        if rule["action"] == action and not rule.get("args")
        for name in rule["names"]
    ]


def conditional(rendered: dict[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (rule["action"], rule["args"][0]) for rule in rendered["syscalls"] if rule.get("args") and name in rule["names"]
    ]


def default(*held: str, machine: str = X86) -> dict[str, Any]:
    return seccomp.render(machine, held)


# --- The engine's policy -----------------------------------------------------------------------------------------


def test_what_is_not_listed_does_not_exist():
    rendered = default()
    assert (rendered["defaultAction"], rendered["defaultErrnoRet"]) == (seccomp.REFUSE, errno.ENOSYS)
    assert {rule["errnoRet"] for rule in rendered["syscalls"] if rule["action"] == seccomp.REFUSE} == {errno.EPERM}


def test_unconfined_is_no_filter_and_default_is_for_this_machine():
    assert seccomp.profile("unconfined", ()) is None
    assert seccomp.profile("default", ()) is not None


@pytest.mark.parametrize("machine", [*policy.MACHINES, "mips64"])
@pytest.mark.parametrize("held", [(), ("CAP_SYS_ADMIN",), tuple(capabilities.NAMES)])
def test_no_call_is_both_allowed_and_refused(machine, held):
    rendered = default(*held, machine=machine)
    unconditional = Counter(names(rendered, seccomp.ALLOW) + names(rendered, seccomp.REFUSE))
    assert [name for name, count in unconditional.items() if count > 1] == []
    assert {name for rule in rendered["syscalls"] if rule.get("args") for name in rule["names"]} & set(
        unconditional
    ) == set()


def test_conditions_name_capabilities_that_exist():
    assert set(policy.BY_CAPABILITY) <= set(capabilities.NAMES)


def test_socketcall_is_refused_before_any_socket_is_allowed():
    rules = default()["syscalls"]
    assert "socketcall" in rules[0]["names"]
    assert rules[0]["action"] == seccomp.REFUSE


@pytest.mark.parametrize(
    ("family", "allowed"), [(1, True), (2, True), (10, True), (16, True), (38, False), (40, False)]
)
def test_socket_families(family, allowed):
    rules = conditional(default(*capabilities.NAMES), "socket")
    assert all(action == seccomp.ALLOW and condition["op"] == "SCMP_CMP_EQ" for action, condition in rules)
    assert (family in {condition["value"] for _, condition in rules}) is allowed


@pytest.mark.parametrize(("machine", "index"), [(X86, 0), ("aarch64", 0), ("s390x", 1)])
def test_clone_without_namespace_flags_is_allowed_and_with_any_is_refused(machine, index):
    allowed, *refused = conditional(default("CAP_CHOWN", machine=machine), "clone")
    assert allowed == (
        seccomp.ALLOW,
        {"index": index, "value": 0x7E02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"},
    )
    assert {condition["value"] for _, condition in refused} == set(policy.NAMESPACE_FLAGS)
    assert all(action == seccomp.REFUSE and flag["valueTwo"] == flag["value"] for action, flag in refused)


@pytest.mark.parametrize("holder", sorted(policy.BY_CAPABILITY))
def test_each_capability_opens_its_calls_and_nothing_else(holder):
    before, after = set(names(default(), seccomp.ALLOW)), set(names(default(holder), seccomp.ALLOW))
    extra = {"clone", "clone3"} if holder == "CAP_SYS_ADMIN" else set()
    assert after - before == {*policy.BY_CAPABILITY[holder], *extra}
    assert not after & set(names(default(holder), seccomp.REFUSE))


@pytest.mark.parametrize("name", ["keyctl", "io_uring_setup", "userfaultfd", "pivot_root", "kexec_load", "swapon"])
def test_no_capability_opens_these(name):
    assert name in names(default(*capabilities.NAMES), seccomp.REFUSE)


def test_architectures():
    assert default()["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert default(machine="aarch64")["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    assert "architectures" not in default(machine="mips64")  # the runtime then filters the native calls
    assert "arch_prctl" not in names(default(machine="aarch64"), seccomp.ALLOW)


def test_libseccomp_knows_every_name():
    library = ctypes.util.find_library("seccomp")
    if library is None:
        pytest.skip("libseccomp is not installed")
    resolve = ctypes.CDLL(library).seccomp_syscall_resolve_name
    assert resolve(b"no_such_call") == resolve(b"mseal-") == -1  # __NR_SCMP_ERROR
    listed = {*policy.ALLOWED, *policy.REFUSED}
    listed |= {
        name for table in (policy.BY_CAPABILITY, policy.BY_MACHINE) for group in table.values() for name in group
    }
    assert {name for name in listed if resolve(name.encode()) == -1} <= NEWEST


def test_difference_from_podmans_profile():
    """Every difference is meant; Docker's profile allows the same as this one but for what the policy says."""
    if not PODMANS.exists():
        pytest.skip(f"{PODMANS} is not installed: golang-github-containers-common")
    theirs = set(names(seccomp.profile(PODMANS.read_text(), capabilities.DEFAULT) or {}, seccomp.ALLOW))
    ours = set(names(seccomp.profile("default", capabilities.DEFAULT) or {}, seccomp.ALLOW))
    newer = {"cachestat", "fchmodat2", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake", "map_shadow_stack"}
    assert ours - theirs <= {*newer, *NEWEST, "vmsplice", "io_pgetevents", "io_pgetevents_time64"}
    mounting = {"fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_tree"}
    mounting |= {"pivot_root", "umount", "umount2"}
    memory_policy = {"get_mempolicy", "mbind", "set_mempolicy"}  # need CAP_SYS_NICE here
    obsolete = {"readdir", "sigaction", "sigpending", "sigsuspend", "signal", "syscall", "timerfd"}
    holes = {"clone3", "keyctl", "pidfd_getfd", "setns", "socketcall", "unshare"}
    assert theirs - ours <= {*mounting, *memory_policy, *obsolete, *holes, "clone", "reboot", "syslog"}
    assert theirs & holes


# --- A user's own profile ----------------------------------------------------------------------------------------


def resolve(document: dict[str, Any] | str, here: Machine = HERE) -> dict[str, Any]:
    text = document if isinstance(document, str) else json.dumps(document)
    return seccomp_file.resolve(text, here.capabilities, here)


def rule(**parts: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", **parts}]}


def test_an_oci_profile_stays_as_it_is():
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
            {
                "names": ["socket"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 97,
                "args": [{"index": 0, "value": 2**64 - 1, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}],
            },
        ],
    }
    assert resolve(document) == document


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, False),
        ({"excludes": {"caps": ["CAP_BPF"]}}, True),
        ({"includes": {"arches": ["arm64", "amd64"]}}, True),
        ({"includes": {"arches": ["s390x"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"excludes": {"arches": ["s390x"]}}, True),
        ({"includes": {"minKernel": "6.1"}}, True),
        ({"includes": {"minKernel": "6.10"}}, False),
        ({"includes": {"minKernel": "5.19"}}, True),
        ({"excludes": {"minKernel": "4.8"}}, False),
        ({"includes": {"caps": ["CAP_BPF"], "arches": ["amd64"]}}, False),
        ({"includes": {"arches": ["amd64"]}, "excludes": {"caps": ["CAP_CHOWN"]}}, False),
        ({"includes": {}, "excludes": None}, True),
    ],
)
def test_conditions(condition, kept):
    assert bool(resolve(rule(**condition))["syscalls"]) is kept


def test_a_kept_rule_loses_its_conditions():
    given = rule(includes={"arches": ["amd64"]}, comment="why", args=None)
    assert resolve(given)["syscalls"] == [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]


def test_the_old_single_name():
    document = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "chmod", "action": "SCMP_ACT_ERRNO"}]}
    assert resolve(document)["syscalls"] == [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO"}]


def test_an_errno_may_be_given_by_name():
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrno": "ENOSYS",
        "syscalls": rule(errno="EINVAL")["syscalls"],
    }
    resolved = resolve(document)
    assert (resolved["defaultErrnoRet"], resolved["syscalls"][0]["errnoRet"]) == (errno.ENOSYS, errno.EINVAL)


def test_arch_map_gives_this_machines_architectures():
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": None},
        ],
    }
    assert resolve(document)["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert resolve(document, Machine("riscv64", "SCMP_ARCH_RISCV64", (6, 1), ()))["architectures"] == [
        "SCMP_ARCH_RISCV64"
    ]
    assert "architectures" not in resolve(document, Machine("arm", "SCMP_ARCH_ARM", (6, 1), ()))


def with_argument(**parts: Any) -> dict[str, Any]:
    return rule(args=[{"index": 0, "value": 1, "op": "SCMP_CMP_EQ", **parts}])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", "not JSON"),
        ("root:x:0:0", "not JSON"),
        ("[" * 200_000, "not JSON"),
        ("[]", "the profile is no object"),
        ("{}", "defaultAction None"),
        ({"defaultAction": "ALLOW"}, "defaultAction 'ALLOW'"),
        ({"defaultAction": ["SCMP_ACT_ALLOW"]}, "defaultAction"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "SCMP_ACT_NOTIFY"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}, "defaultErrnoRet 4096"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "path"}, "defaultErrno 'path'"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "flags": ["NEW_LISTENER"]}, "flags has 'NEW_LISTENER'"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": {}}, "syscalls is no list"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": ["read"]}, "syscalls[0] is no object"),
        (
            {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["a"], "archMap": [{}]},
            "both architectures and archMap",
        ),
        (rule(names=[]), "syscalls[0] names no system call"),
        (rule(names=[1]), "syscalls[0].names has 1"),
        (rule(name="write"), "both name and names"),
        (rule(action="SCMP_ACT_PERHAPS"), "syscalls[0].action 'SCMP_ACT_PERHAPS'"),
        (rule(errnoRet=-1), "syscalls[0].errnoRet -1"),
        (rule(includes=["amd64"]), "syscalls[0].includes is no object"),
        (rule(includes={"kernel": "4.8"}), "syscalls[0].includes.kernel"),
        (rule(excludes={"minKernel": "new"}), "syscalls[0].excludes.minKernel 'new'"),
        (with_argument(index=6), "syscalls[0].args[0].index 6"),
        (with_argument(index=True), "syscalls[0].args[0].index True"),
        (with_argument(value=2**64), f"value {2**64}"),
        (with_argument(value="1"), "value '1'"),
        (with_argument(op="=="), "op '=='"),
        (with_argument(op=["SCMP_CMP_EQ"]), "op"),
    ],
)
def test_what_is_no_profile_is_refused_and_the_message_says_where(document, message):
    with pytest.raises(InvalidArgument) as caught:
        resolve(document)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_podmans_profile_resolves_as_a_whole():
    if not PODMANS.exists():
        pytest.skip(f"{PODMANS} is not installed: golang-github-containers-common")
    without, having = (
        resolve(PODMANS.read_text(), Machine("amd64", "SCMP_ARCH_X86_64", (6, 1), held))
        for held in ((), ("CAP_SYS_CHROOT",))
    )
    assert "chroot" in names(without, "SCMP_ACT_ERRNO")
    assert "chroot" in names(having, "SCMP_ACT_ALLOW")
