"""What every container gets unless asked otherwise: the closed side of each choice Docker and Podman differ in."""

from __future__ import annotations

import glob

# The union of what Docker, Podman and containerd hide: host facts that leak, or kernel doors without a namespace.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)
_MASKED_PER_CPU = "/sys/devices/system/cpu/cpu*/thermal_throttle"

READ_ONLY_PATHS = (
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)

# (major, minor) of the character devices a container may open: null zero full random urandom, tty console ptmx, pts/*.
DEVICES: tuple[tuple[int, int | None], ...] = (
    *((1, minor) for minor in (3, 5, 7, 8, 9)),
    *((5, minor) for minor in (0, 1, 2)),
    (136, None),
)

# Never inherited from the caller: resource name → (soft, hard).
RLIMITS = {"nofile": (1024, 524_288), "core": (0, 0)}

# Harmless without the host's network: ping without a setuid program, and low ports without root.
NETWORK_SYSCTLS = {"net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0"}


def masked_paths() -> list[str]:
    """Return the paths to hide, those of this machine's CPUs included."""
    return [*MASKED_PATHS, *sorted(glob.glob(_MASKED_PER_CPU))]
