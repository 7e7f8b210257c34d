"""The ``linux.seccomp`` part of the OCI specification (runtime-spec config-linux.md, "Seccomp")."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator
from typing import Any

from plugrun.oci import seccomp_policy as policy

ALLOW = "SCMP_ACT_ALLOW"
REFUSE = "SCMP_ACT_ERRNO"


def profile(choice: str, capabilities: Collection[str]) -> dict[str, Any] | None:
    """Return the filter for a container, or ``None`` for none at all.

    :param choice: ``"default"``, ``"unconfined"``, or the text of a Docker- or OCI-format JSON profile.
    :param capabilities: the bounding set, e.g. ``CAP_SYS_ADMIN``: some calls are open to those who have them.
    :raises InvalidArgument: ``choice`` is neither.
    """
    if choice == "unconfined":
        return None
    if choice == "default":
        return render(os.uname().machine, capabilities)
    from plugrun.oci import seccomp_file

    return seccomp_file.resolve(choice, capabilities)


def render(machine: str, capabilities: Collection[str]) -> dict[str, Any]:
    """Return the engine's own policy for one machine (``uname -m``); on an unknown one, for its native calls only."""
    opened = {name for holder in capabilities for name in policy.BY_CAPABILITY.get(holder, ())}
    closable = {name for names in policy.BY_CAPABILITY.values() for name in names}
    allowed = {*policy.ALLOWED, *policy.BY_MACHINE.get(machine, ()), *opened}
    rules = [*_sockets(), *_personalities()]
    if "CAP_SYS_ADMIN" in capabilities:
        allowed |= {"clone", "clone3"}
    else:
        rules += _clone(machine)
    rendered = {
        "defaultAction": REFUSE,
        "defaultErrnoRet": errno.ENOSYS,
        "syscalls": [
            _rule(REFUSE, *sorted({*policy.REFUSED, *closable} - opened)),  # first: see _sockets
            _rule(ALLOW, *sorted(allowed)),
            *rules,
        ],
    }
    if machine in policy.MACHINES:
        rendered["architectures"] = list(policy.MACHINES[machine][1])
    return rendered


def _rule(action: str, *names: str, condition: dict[str, Any] | None = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": list(names), "action": action}
    if action == REFUSE:
        rule["errnoRet"] = errno.EPERM
    if condition is not None:
        rule["args"] = [condition]
    return rule


def _argument(value: int) -> dict[str, Any]:
    return {"index": 0, "value": value, "op": "SCMP_CMP_EQ"}


def _masked(mask: int, value: int, *, index: int) -> dict[str, Any]:
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def _sockets() -> Iterator[dict[str, Any]]:
    """Allow the listed families.

    libseccomp derives rules for socketcall(2) from these, whatever their conditions. They do not open it because the
    rule that refuses it comes before them.
    """
    for family in policy.FAMILIES:
        yield _rule(ALLOW, "socket", condition=_argument(family))


def _personalities() -> Iterator[dict[str, Any]]:
    for value in policy.PERSONALITIES:
        yield _rule(ALLOW, "personality", condition=_argument(value))


def _clone(machine: str) -> Iterator[dict[str, Any]]:
    """Allow processes and threads, and refuse every flag that makes a namespace."""
    index = 1 if machine == "s390x" else 0  # clone(2): s390 swaps the first two arguments
    every = sum(policy.NAMESPACE_FLAGS)
    yield _rule(ALLOW, "clone", condition=_masked(every, 0, index=index))
    for flag in policy.NAMESPACE_FLAGS:
        yield _rule(REFUSE, "clone", condition=_masked(flag, flag, index=index))
