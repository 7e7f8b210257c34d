"""Limits and devices: runtime-spec config-linux.md, "Control groups", and config.md, "POSIX process"."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from plugrun.oci import capabilities, defaults

if TYPE_CHECKING:
    from plugrun.container import Resources

_CPU_PERIOD = 100_000  # microseconds, the kernel's default
_UNLIMITED = 2**64 - 1  # what setrlimit(2) calls RLIM_INFINITY
_NOT_DEVICES = {"pts", "shm", "mqueue", "fd", ".lxc", ".lxd-mounts"}
_OWN_DEVICES = {"/dev/console", "/dev/ptmx"}  # every container has its own


def build(limits: Resources, *, privileged: bool, cgroup_v2: bool) -> dict[str, Any]:
    """Return ``linux.resources``."""
    found: dict[str, Any] = {"devices": _device_rules(privileged=privileged)}
    if limits.memory is not None:
        found["memory"] = {"limit": limits.memory}
        if _limits_swap(cgroup_v2=cgroup_v2):  # without swap accounting the runtime would refuse the container
            swap = 2 * limits.memory if limits.memory_swap is None else limits.memory_swap  # Docker's default
            found["memory"]["swap"] = swap
    if limits.cpus is not None:
        found["cpu"] = {"quota": int(limits.cpus * _CPU_PERIOD), "period": _CPU_PERIOD}
    if limits.pids > 0:
        found["pids"] = {"limit": limits.pids}
    return found


def rlimits(chosen: Mapping[str, tuple[int, int]], hard_limits: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return ``process.rlimits``: the defaults and the user's, clamped to what the engine may give.

    Without CAP_SYS_RESOURCE nobody can raise a hard limit, and the runtime would fail (podman#19428).
    """
    found = []
    for name, values in {**defaults.RLIMITS, **chosen}.items():
        ceiling = hard_limits.get(name, -1)
        soft, hard = (_clamp(value, ceiling) for value in values)
        found.append({"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard})
    return found


def own_hard_limits() -> dict[str, int]:
    """Return this process's hard limits by resource name; empty if it may raise them (capabilities(7))."""
    import resource

    if "CAP_SYS_RESOURCE" in capabilities.held():
        return {}
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {name.removeprefix("RLIMIT_").lower(): resource.getrlimit(getattr(resource, name))[1] for name in names}


def host_devices() -> list[dict[str, Any]]:
    """Return every device node below the host's ``/dev``, for ``--privileged``."""
    return [
        {
            "path": path,
            "type": "b" if stat.S_ISBLK(status.st_mode) else "c",
            "major": os.major(status.st_rdev),
            "minor": os.minor(status.st_rdev),
            "fileMode": stat.S_IMODE(status.st_mode),
            "uid": status.st_uid,
            "gid": status.st_gid,
        }
        for path, status in _device_nodes("/dev")
        if path not in _OWN_DEVICES
    ]


def _device_nodes(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _NOT_DEVICES:
                yield from _device_nodes(entry.path)
            continue
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            yield entry.path, status


def _device_rules(*, privileged: bool) -> list[dict[str, Any]]:
    if privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for major, minor in defaults.DEVICES:
        rule: dict[str, Any] = {"allow": True, "type": "c", "major": major, "access": "rwm"}
        rules.append(rule if minor is None else {**rule, "minor": minor})
    return rules


def _limits_swap(*, cgroup_v2: bool) -> bool:
    if cgroup_v2:
        return True
    return os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")


def _clamp(value: int, ceiling: int) -> int:
    if ceiling < 0:
        return _UNLIMITED if value < 0 else value
    return ceiling if value < 0 else min(value, ceiling)
