"""Capabilities by name and number (capabilities(7), ``linux/capability.h``), and which a container gets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from plugrun.errors import InvalidArgument, Unavailable

# In the order of their numbers, from 0.
_NUMBERED = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
# Podman's eleven: Docker's without MKNOD, NET_RAW (spoofing on a bridge) and AUDIT_WRITE.
_DEFAULT = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"

NAMES = tuple(f"CAP_{name}" for name in _NUMBERED.split())
DEFAULT = tuple(f"CAP_{name}" for name in _DEFAULT.split())


def resolve(add: Sequence[str], drop: Sequence[str], *, privileged: bool = False) -> tuple[str, ...]:
    """Return the capabilities of a container, by number.

    As in Docker: ``ALL`` in ``add`` begins from all of them, and then names in ``drop`` are taken away; ``ALL`` in
    ``drop`` begins from none; a name in both is added. What the engine does not have itself it cannot give: that is
    an error for a name in ``add``, and left out of what nobody named.

    :param add: names, ``CAP_`` optional, in any case, or ``ALL``; ``drop`` alike.
    :param privileged: begin from all of them.
    :raises InvalidArgument: no such capability.
    :raises Unavailable: the engine does not have one that is added.
    """
    added, dropped = {_name(one) for one in add}, {_name(one) for one in drop}
    if lacking := added - held() - {"ALL"}:
        raise Unavailable(
            f"cannot add {', '.join(sorted(lacking))}: plugrun does not have it itself on this machine",
            hint="leave it out; nobody can give a capability away that they do not have",
        )
    if privileged or "ALL" in added:
        chosen = set(NAMES) - dropped
    elif "ALL" in dropped:
        chosen = added
    else:
        chosen = set(DEFAULT) - dropped | added
    return tuple(name for name in NAMES if name in chosen and name in held())


@cache
def held() -> frozenset[str]:
    """Return what this process may have at most: its bounding set (proc_pid_status(5)), as far as we know names."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
        line = next(line for line in stream if line.startswith("CapBnd:"))
    mask = int(line.split()[1], 16)
    return frozenset(name for number, name in enumerate(NAMES) if mask >> number & 1)


def _name(text: str) -> str:
    upper = text.upper()
    if upper == "ALL":
        return upper
    name = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if name not in NAMES:
        raise InvalidArgument(f"there is no capability {text!r}", hint=_near(name))
    return name


def _near(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, NAMES, 1)
    return f"did you mean {near[0]}?" if near else "capabilities(7) lists them"
