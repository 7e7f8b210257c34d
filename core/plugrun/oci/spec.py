"""From a container's configuration to the OCI runtime specification (runtime-spec 1.0.2, config.md, config-linux.md).

Only ``process.env``, ``args``, ``cwd`` and ``user`` may carry what an image says. Labels are data of the engine's
records and never become annotations, because runtimes act on those (CVE-2026-53488, CVE-2022-0811).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plugrun.oci import capabilities, defaults, mounts, resources, seccomp
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.container import BindMount, ContainerConfig, Security
    from plugrun.oci.user import Identity

INIT = "/dev/init"  # in the runtime's own /dev, so no image can have anything there


class SpecInputs(NamedTuple):
    """What the engine has made for this container.

    :param rootfs: where the root file system is mounted.
    :param netns: network namespace to join; ``None`` for the host's.
    :param own_netns: whether that namespace is this container's alone.
    :param etc_files: destination → host path; destinations here and in ``binds`` and ``tmpfs`` are resolved already.
    :param init: host path of the init program to run the command under.
    :param hard_limits: the engine's own hard limit of each resource, -1 for none: nobody can give more than they have.
    """

    container_id: str
    rootfs: str
    identity: Identity
    netns: str | None
    own_netns: bool
    etc_files: Mapping[str, str]
    binds: Sequence[BindMount]
    tmpfs: Mapping[str, str]
    init: str | None
    cgroup_v2: bool
    hard_limits: Mapping[str, int]


def check(security: Security) -> None:
    """Refuse what :func:`build_spec` would refuse when the container is started.

    :raises InvalidArgument: as it does.
    """
    granted = capabilities.resolve(security.cap_add, security.cap_drop, privileged=security.privileged)
    _seccomp(security, granted)


def build_spec(config: ContainerConfig, inputs: SpecInputs) -> dict[str, Any]:
    """Return the content of ``config.json``.

    :raises InvalidArgument: an unknown capability, or an unusable seccomp profile.
    """
    security = config.security
    granted = capabilities.resolve(security.cap_add, security.cap_drop, privileged=security.privileged)
    return {
        "ociVersion": "1.0.2",
        "process": _process(config, inputs, granted),
        "root": {"path": inputs.rootfs, "readonly": config.read_only},
        "hostname": config.hostname,
        "mounts": mounts.build(config, inputs),
        "linux": _linux(config, inputs, granted),
    }


def process_capabilities(
    granted: Sequence[str], asked: Sequence[str], uid: int, *, privileged: bool
) -> dict[str, list[str]]:
    """Return the capability sets of a process (capabilities(7)).

    Root gets what is granted. Anybody else gets none but those asked for by name, which then are ambient so that they
    survive execve(2). Inheritable and ambient stay empty otherwise (CVE-2022-24769).
    """
    if uid == 0:
        held: list[str] = list(granted)
        kept: list[str] = []
    else:
        held = kept = [] if privileged else [name for name in granted if name in asked]
    return {
        "bounding": list(granted),
        "effective": held,
        "permitted": held,
        "inheritable": kept,
        "ambient": kept,
    }


def environment(config: ContainerConfig, identity: Identity) -> list[str]:
    """Return the environment: the configured one over what a login would set."""
    base = {"HOSTNAME": config.hostname, "HOME": identity.home}
    if config.tty:
        base["TERM"] = "xterm"
    named = dict(variable.partition("=")[::2] for variable in config.env)
    return [f"{name}={value}" for name, value in {**base, **named}.items()]


def _process(config: ContainerConfig, inputs: SpecInputs, granted: Sequence[str]) -> dict[str, Any]:
    identity, security = inputs.identity, config.security
    asked = capabilities.resolve(security.cap_add, ["ALL"], privileged=False)
    return {
        "terminal": config.tty,
        "user": {
            "uid": identity.uid,
            "gid": identity.gid,
            "umask": 0o022,
            "additionalGids": list(identity.additional_gids),
        },
        "args": [*([INIT, "--"] if inputs.init else []), *config.args],
        "env": environment(config, identity),
        "cwd": config.workdir,
        "capabilities": process_capabilities(granted, asked, identity.uid, privileged=security.privileged),
        "noNewPrivileges": security.no_new_privileges,
        "rlimits": resources.rlimits(config.ulimits, inputs.hard_limits),
        "oomScoreAdj": 0,
    }


def _linux(config: ContainerConfig, inputs: SpecInputs, granted: Sequence[str]) -> dict[str, Any]:
    privileged = config.security.privileged
    linux: dict[str, Any] = {
        "cgroupsPath": f"/plugrun-{inputs.container_id}",  # no parent of ours, which nobody would remove
        "namespaces": _namespaces(inputs),
        "resources": resources.build(config.resources, privileged=privileged, cgroup_v2=inputs.cgroup_v2),
        "rootfsPropagation": "rprivate",
    }
    if inputs.own_netns:
        linux["sysctl"] = dict(defaults.NETWORK_SYSCTLS)
    if privileged:
        linux["devices"] = resources.host_devices()
    else:
        linux["maskedPaths"] = defaults.masked_paths()
        linux["readonlyPaths"] = list(defaults.READ_ONLY_PATHS)
    if (profile := _seccomp(config.security, granted)) is not None:
        linux["seccomp"] = profile
    return linux


def _seccomp(security: Security, granted: Sequence[str]) -> dict[str, Any] | None:
    """Return the filter; a privileged container has only one that was asked for."""
    choice = "unconfined" if security.privileged and security.seccomp == "default" else security.seccomp
    return seccomp.profile(choice, granted)


def _namespaces(inputs: SpecInputs) -> list[dict[str, str]]:
    kinds = ["pid", "ipc", "uts", "mount", *(["cgroup"] if inputs.cgroup_v2 else [])]
    found = [{"type": kind} for kind in kinds]
    if inputs.netns is not None:
        found.append({"type": "network", "path": inputs.netns})
    return found
