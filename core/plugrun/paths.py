"""Where everything is: the persistent root, and the run root that a reboot empties."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from plugrun.errors import InvalidArgument, Unavailable
from plugrun.tuples import NamedTuple

DEFAULT_ROOT = "/var/lib/plugrun"
DEFAULT_RUN_ROOT = "/run/plugrun"


class Paths(NamedTuple):
    """Directories of one engine; every path is built from a container id or a driver name, never from user text.

    :param root: survives reboots: images, snapshots, records, logs.
    :param run_root: mounts, sockets, process ids; belongs on a tmpfs.
    """

    root: Path
    run_root: Path

    @property
    def images(self) -> Path:
        """The content store, an OCI image layout."""
        return self.root / "images"

    @property
    def database(self) -> Path:
        """The SQLite file with every record."""
        return self.root / "state.db"

    @property
    def reserve(self) -> Path:
        """The file that occupies room for when the disk is full."""
        return self.root / "reserve"

    @property
    def runtime_state(self) -> Path:
        """The OCI runtime's ``--root``."""
        return self.run_root / "runtime"

    @property
    def filters(self) -> Path:
        """Compiled system call filters."""
        return self.run_root / "filters"

    def container(self, container_id: str) -> Path:
        """Return the container's persistent directory: log, hosts, hostname, resolv.conf."""
        return self.root / "containers" / container_id

    def run(self, container_id: str) -> Path:
        """Return the container's run directory, which is also its OCI bundle."""
        return self.run_root / "containers" / container_id

    def rootfs(self, container_id: str) -> Path:
        """Return where the container's root file system is mounted."""
        return self.run(container_id) / "rootfs"

    def mounts(self, container_id: str) -> Path:
        """Return the directory in which the container's volumes and images are mounted."""
        return self.run(container_id) / "mounts"

    def netns(self, container_id: str) -> Path:
        """Return where the container's network namespace is pinned."""
        return self.run_root / "netns" / container_id

    def lock(self, container_id: str) -> Path:
        """Return the file that whoever changes the container holds locked."""
        return self.run_root / "locks" / container_id

    def removal_lock(self, key: str) -> Path:
        """Return the file that a process that removes a snapshot behind a command holds locked."""
        return self.run_root / "locks" / f"removal.{key}"

    def volume_lock(self, name: str) -> Path:
        """Return the file that whoever makes, fills or removes a volume holds locked."""
        return self.run_root / "locks" / f"volume.{name}"

    @property
    def networks_lock(self) -> Path:
        """The file that whoever makes or removes a network holds locked."""
        return self.root / "locks" / "networks"

    @property
    def network_use_lock(self) -> Path:
        """The file that whoever sets up endpoints holds locked together with others, and who collects them alone."""
        return self.root / "locks" / "network-use"

    def hosts(self, network_id: str) -> Path:
        """Return the directory of marks of the containers whose ``/etc/hosts`` has the others on a network."""
        return self.run_root / "hosts" / network_id

    @property
    def hosts_lock(self) -> Path:
        """The file that whoever changes running containers' ``/etc/hosts`` holds locked."""
        return self.run_root / "locks" / "hosts"

    def watch(self, container_id: str) -> Path:
        """Return the file that whoever waits for the container's end, to clean up after it, holds locked."""
        return self.run_root / "locks" / f"{container_id}.watch"

    def ensure(self) -> None:
        """Make the directories, closed to everybody but root whatever the umask.

        Layers hold other systems' setuid programs, so nobody else may even look (CVE-2021-41091).

        :raises Unavailable: not root, or the place cannot be written.
        """
        if os.geteuid() != 0:
            raise Unavailable("plugrun needs root rights", hint="run it as root, or with sudo")
        run = self.run_root
        try:
            for directory in (self.root, self.root / "containers", self.root / "storage", self.root / "locks"):
                ensure_private(directory)
            for directory in (run, run / "containers", run / "netns", run / "locks", run / "staging"):
                ensure_private(directory)
        except OSError as error:
            raise Unavailable(
                f"cannot use {error.filename} as state directory: {error.strerror}",
                hint="choose another place with --root and --runroot",
            ) from error


def ensure_private(directory: Path) -> None:
    """Make a directory, with parents, that only its owner may enter; an existing one is left as it is."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        if not directory.is_dir():
            raise NotADirectoryError(20, "Not a directory", str(directory)) from None
    except FileNotFoundError:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # another process may have made it meanwhile
            os.mkdir(directory, 0o700)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive power loss: fsync(2)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def resolve(root: str | None, run_root: str | None) -> Paths:
    """Choose the directories: the arguments, else ``PLUGRUN_ROOT``/``PLUGRUN_RUNROOT``, else the defaults.

    :raises InvalidArgument: a path is not absolute, or has characters that mount options cannot carry.
    """
    chosen = Paths(
        root=Path(root or os.environ.get("PLUGRUN_ROOT") or DEFAULT_ROOT),
        run_root=Path(run_root or os.environ.get("PLUGRUN_RUNROOT") or DEFAULT_RUN_ROOT),
    )
    for path in (chosen.root, chosen.run_root):
        if not path.is_absolute() or set(str(path)) & set(":,\\\n"):
            raise InvalidArgument(
                f"{str(path)!r} cannot be a state directory",
                hint="give an absolute path without ':', ',' or '\\'",
            )
    return chosen
