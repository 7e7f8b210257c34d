"""Run a command as root inside a private host: scripts/private-host COMMAND [ARGUMENT...].

The command sees a machine of its own: own processes, mounts, network (only `lo`), control groups, IPC and host
name. What it writes to /etc, /run and /var/lib stays inside; /var/lib/plugrun and $TMPDIR are on the checkout's
disk, because overlayfs cannot stack on itself. When the command ends, or this program is killed, everything in
the host ends with it and nothing is left on the machine. The exit status is the command's (128 + N after signal
N; 126 and 127 as from a shell; 125 when the host cannot be made).

PRIVATE_HOST_NAME in the environment chooses the name that its control groups and its disk bear.

Standard library only, that of Python 3.11 (no os.unshare): this runs without the project's environment.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from control_groups import Hierarchy, find_hierarchies, make_cgroup, mount_cgroups, remove_cgroup
from kernel import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    PR_SET_PDEATHSIG,
    call,
    mount,
)

CHECKOUT = Path(__file__).resolve().parent.parent
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1


def main() -> int:
    if len(sys.argv) < 2:
        print("usage: scripts/private-host COMMAND [ARGUMENT...]", file=sys.stderr)
        return 125
    if os.geteuid() != 0:
        print("scripts/private-host: needs root to make namespaces; run it with sudo", file=sys.stderr)
        return 125
    token = os.environ.pop("PRIVATE_HOST_NAME", None) or secrets.token_hex(4)
    disk = place_for_disks() / token
    hierarchies = list(find_hierarchies())
    groups = [hierarchy.home / f"plugrun-host-{token}" for hierarchy in hierarchies]
    janitor = start_janitor(disk, groups)
    try:
        make_disk(disk)
        for group in groups:
            make_cgroup(group)
        return run_host(sys.argv[1:], disk, hierarchies, groups)
    except OSError as error:
        print(f"scripts/private-host: {error}", file=sys.stderr)
        return 125
    finally:
        janitor.finish()


def place_for_disks() -> Path:
    """Return the checkout's cache; inside a private host its disk, so that both end together."""
    if os.environ.get("PLUGRUN_PRIVATE_HOST"):
        return Path(os.environ["TMPDIR"]).parent / "hosts"
    return CHECKOUT / ".cache" / "hosts"


# --- What the host needs outside, and its removal -----------------------------------------------------------


def make_disk(disk: Path) -> None:
    for name in ("etc", "etc.work", "lib", "lib.work", "plugrun", "tmp"):
        (disk / name).mkdir(parents=True)
    (disk / "tmp").chmod(0o1777)


@dataclass(frozen=True)
class Janitor:
    """The process that removes what the host made, even when the one that started it was killed."""

    pid: int
    keep_open: int

    def finish(self) -> None:
        os.close(self.keep_open)
        os.waitpid(self.pid, 0)


def start_janitor(disk: Path, groups: list[Path]) -> Janitor:
    """Fork a process that waits for the other end of a pipe to close, which no kind of death prevents."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        clean_up(reader, disk, groups)
    os.close(reader)
    return Janitor(pid, writer)


def clean_up(reader: int, disk: Path, groups: list[Path]) -> NoReturn:
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.chdir("/")
    os.read(reader, 1)
    for group in groups:
        remove_cgroup(group)
    # Not shutil.rmtree, which recurses: tests make directories thousands deep.
    os.execvp("rm", ["rm", "-rf", "--one-file-system", str(disk)])


# --- The host -----------------------------------------------------------------------------------------------


def run_host(command: list[str], disk: Path, hierarchies: list[Hierarchy], groups: list[Path]) -> int:
    """Start the host's first process and wait for it."""
    call("unshare", CLONE_NEWPID)  # for the next child, not for this process
    pid = os.fork()
    if pid == 0:
        code = 125
        try:
            code = first_process(command, disk, hierarchies, groups)
        except OSError as error:
            print(f"scripts/private-host: {error}", file=sys.stderr)
        finally:
            os._exit(code)
    forward_signals(pid)
    return exit_status(os.waitpid(pid, 0)[1])


def first_process(command: list[str], disk: Path, hierarchies: list[Hierarchy], groups: list[Path]) -> int:
    """Be process 1: build the host, start the command, reap whatever dies, end with the command."""
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for group in groups:
        (group / "cgroup.procs").write_text("0")
    call("unshare", CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWUTS)
    build_mounts(disk, hierarchies)
    loopback_up()
    socket.sethostname("private-host")
    os.environ.update(PLUGRUN_PRIVATE_HOST="1", TMPDIR=str(disk / "tmp"))
    pid = os.fork()
    if pid == 0:
        execute(command)
    forward_signals(pid)
    while True:
        ended, status = os.wait()
        if ended == pid:
            return exit_status(status)


def build_mounts(disk: Path, hierarchies: list[Hierarchy]) -> None:
    mount("", "/", "", MS_REC | MS_PRIVATE)
    for point, fstype in (("/proc", "proc"), ("/sys", "sysfs")):
        # Unmounted first: runc looks its control groups up in mountinfo, which shows covered mounts too.
        call("umount2", point.encode(), MNT_DETACH, about=f"unmount {point}")
        mount(fstype, point, fstype, MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount_cgroups(hierarchies)
    here = Path.cwd()
    # Relative directories from here on, because overlay options have no way to carry ',' and ':' of a path.
    os.chdir(disk)
    if not can_hold_overlay():
        mount("tmpfs", str(disk), "tmpfs", 0, "mode=755")
        make_disk(disk)
        os.chdir(disk)
    if os.environ.get("PLUGRUN_PRIVATE_HOST"):
        # In a private host already: take its place, because overlays stack no deeper than two.
        for point in ("/etc", "/var/lib", "/run"):
            call("umount2", point.encode(), MNT_DETACH, about=f"unmount {point}")
    mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir=etc,workdir=etc.work")
    mount("overlay", "/var/lib", "overlay", 0, "lowerdir=/var/lib,upperdir=lib,workdir=lib.work")
    os.makedirs("/var/lib/plugrun", mode=0o700, exist_ok=True)
    mount(str(disk / "plugrun"), "/var/lib/plugrun", "", MS_BIND)
    mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    os.chdir(here)


def can_hold_overlay() -> bool:
    """Whether writable overlay layers may lie here, on the disk; in a container it is often an overlay itself."""
    try:
        os.mkdir("probe")
        mount("overlay", "probe", "overlay", 0, "lowerdir=/etc,upperdir=lib,workdir=lib.work")
    except OSError:
        return False
    call("umount2", b"probe", 0)
    return True


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(control, SIOCGIFFLAGS, request.ljust(40, b"\0")), 16)
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | IFF_UP).ljust(40, b"\0"))


# --- Small parts --------------------------------------------------------------------------------------------


def execute(command: list[str]) -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"scripts/private-host: {command[0]}: {error.strerror}", file=sys.stderr)
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def forward_signals(pid: int) -> None:
    """Pass on requests to end; a terminal sends its own signals to the command by itself."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: os.kill(pid, received))


def exit_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
