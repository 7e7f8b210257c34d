"""The mounts a container sees besides its root file system (runtime-spec config.md, "Mounts")."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plugrun.container import BindMount, ContainerConfig
    from plugrun.oci.spec import SpecInputs

_CLOSED = ("nosuid", "noexec", "nodev")


def build(config: ContainerConfig, inputs: SpecInputs) -> list[dict[str, Any]]:
    """Return the mounts in the order the runtime performs them: the kernel's, the engine's files, then the user's.

    The user's are ordered by depth, so that ``/data/cache`` lies on top of ``/data`` whatever came first.
    """
    from plugrun.oci.spec import INIT

    mode = "rw" if config.security.privileged else "ro"
    found = [
        _mount("/proc", "proc", "proc", *_CLOSED),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
        ),
        _mount("/dev/shm", "tmpfs", "shm", *_CLOSED, "mode=1777", f"size={config.shm_size}"),  # noqa: S108
        _mount("/dev/mqueue", "mqueue", "mqueue", *_CLOSED),
        _mount("/sys", "sysfs", "sysfs", *_CLOSED, mode),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", *_CLOSED, "relatime", mode),
    ]
    files = [
        _mount(destination, "bind", source, "bind", "rprivate", *(["ro"] if config.read_only else []))
        for destination, source in inputs.etc_files.items()
    ]
    chosen = [_tmpfs(destination, options) for destination, options in inputs.tmpfs.items()]
    chosen += [_bind(bind) for bind in inputs.binds]
    found += files + sorted(chosen, key=lambda mount: mount["destination"].count("/"))
    if inputs.init is not None:
        found.append(_mount(INIT, "bind", inputs.init, "bind", "ro"))
    return found


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _bind(bind: BindMount) -> dict[str, Any]:
    # "ro" would leave what is mounted below the source writable (mount_setattr(2), AT_RECURSIVE). Nothing is below a
    # file, and crun 1.8 takes "rro" for directories only.
    below = bind.recursive in {"enabled", "readonly"} and recursive_read_only() and os.path.isdir(bind.source)
    read_only = ["rro" if below else "ro"] if bind.read_only else []
    how, propagation = "rbind", bind.propagation
    if bind.recursive == "disabled":
        how, propagation = "bind", propagation.removeprefix("r")  # crun 1.8 takes one recursive option for all
    return _mount(bind.destination, "bind", bind.source, how, propagation, *read_only)


def _tmpfs(destination: str, options: str) -> dict[str, Any]:
    chosen = [option for option in options.split(",") if option]
    closed = [flag for flag in _CLOSED if flag.removeprefix("no") not in chosen and flag not in chosen]
    return _mount(destination, "tmpfs", "tmpfs", *closed, *chosen)


def recursive_read_only() -> bool:
    """Whether the kernel has mount_setattr(2): Linux 5.12; crun has used it since 1.4, runc since 1.1."""
    major, minor = (int(part.partition("-")[0]) for part in os.uname().release.split(".")[:2])
    return (major, minor) >= (5, 12)
