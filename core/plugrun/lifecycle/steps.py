"""The steps between a created container and a running one, each with its release beside it.

``acquire`` may fail half-way. ``release`` undoes it from the record alone: after a complete acquire, a half-done one,
none at all, in another process, after a reboot, and twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from plugrun import mounts, processes
from plugrun.errors import NotFound
from plugrun.lifecycle.network import Network
from plugrun.lifecycle.watch import exit_command
from plugrun.paths import ensure_private

if TYPE_CHECKING:
    from plugrun.container import BindMount, ContainerRecord
    from plugrun.engine import Engine
    from plugrun.oci.monitor import MonitorHandle
    from plugrun.oci.seccomp_cache import Wanted

_REPORT_SECONDS = 5.0


class Starting:
    """One container on its way up, or on its way down.

    :param connect: called when the process exists but has not begun to run, to attach without missing output.
    :param meanwhile: called while the monitor and the runtime work, to do what would only cost time afterwards.
    :ivar netns: network namespace to join, once the network step has decided; ``None`` for the host's.
    :ivar mounted: the container's volumes and images, as they are to be bound into it.
    :ivar filter: the system call filter, if the runtime has to compile it.
    """

    def __init__(
        self,
        engine: Engine,
        record: ContainerRecord,
        connect: Callable[[MonitorHandle], None] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        self.engine = engine
        self.record = record
        self.connect = connect
        self.meanwhile = meanwhile
        self.netns: str | None = None
        self.mounted: tuple[BindMount, ...] = ()
        self.filter: Wanted | None = None


class Step(Protocol):
    """Something a running container holds."""

    name: str

    def acquire(self, at: Starting) -> None:
        """Take it."""

    def release(self, at: Starting) -> None:
        """Give it back."""


class RunDirectory:
    """The OCI bundle directory, where sockets and process ids live too."""

    name = "run directory"

    def acquire(self, at: Starting) -> None:
        """Make it, empty."""
        self.release(at)  # left from another boot, if the run root is not on a tmpfs
        ensure_private(at.engine.paths.run(at.record.id))
        ensure_private(at.engine.paths.rootfs(at.record.id))

    def release(self, at: Starting) -> None:
        """Remove it; refuses while the root file system or a volume is still mounted inside."""
        paths, container = at.engine.paths, at.record.id
        if not paths.run(container).exists():
            return
        for place in (paths.mounts(container), paths.rootfs(container)):
            with contextlib.suppress(FileNotFoundError):
                place.rmdir()
        import shutil

        shutil.rmtree(at.engine.paths.run(at.record.id), ignore_errors=True)


class Rootfs:
    """The storage driver's mounts."""

    name = "root file system"

    def acquire(self, at: Starting) -> None:
        """Mount what the driver says; then limit it anew, as a full one may have got room to be mounted."""
        driver = at.engine.storage(at.record.storage, at.record.storage_options)
        try:
            found = driver.mounts(at.record.snapshot)
        except NotFound as error:
            from plugrun.lifecycle.keys import lost

            raise lost(at.record) from error
        mounts.mount_all(found, str(at.engine.paths.rootfs(at.record.id)))
        if at.record.config.storage_size is not None:
            from plugrun import quota

            quota.apply(driver, at.record.snapshot, at.record.config.storage_size)

    def release(self, at: Starting) -> None:
        """Unmount it."""
        mounts.unmount(str(at.engine.paths.rootfs(at.record.id)))


class Volumes:
    """Volumes and images that go into the container; one that has none does not pay for the machinery."""

    name = "volumes"

    def acquire(self, at: Starting) -> None:
        """Mount each at a place of the engine's own."""
        if at.record.config.volumes or at.record.config.images:
            from plugrun.lifecycle import volume_mounts

            at.mounted = volume_mounts.acquire(at.engine, at.record)

    def release(self, at: Starting) -> None:
        """Unmount them."""
        if at.record.config.images or os.path.isdir(at.engine.paths.mounts(at.record.id)):
            from plugrun.lifecycle import volume_mounts

            volume_mounts.release(at.engine, at.record)


class Bundle:
    """``config.json``, and a root file system ready for the mounts it lists."""

    name = "bundle"

    def acquire(self, at: Starting) -> None:
        """Check and prepare the root file system, then write the specification."""
        from plugrun.lifecycle.bundle import specification
        from plugrun.oci import seccomp_cache

        spec = specification(at)
        if at.engine.runtime(at.record).runtime.name == "crun":
            at.filter = seccomp_cache.use(spec, at.engine.paths.filters)
        path = at.engine.paths.run(at.record.id) / "config.json"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as stream:
            stream.write(json.dumps(spec))  # json.dump() would do without the C encoder, 3 ms for this

    def release(self, at: Starting) -> None:
        """Nothing: the file goes with the run directory, mount points stay in the container's own layer."""


class Process:
    """The container's first process and its monitor."""

    name = "process"

    def acquire(self, at: Starting) -> None:
        """Create the process under the monitor, let the caller connect to it, and let it run."""
        from plugrun.oci import monitor, seccomp_cache

        record, paths = at.record, at.engine.paths
        client = at.engine.runtime(record)
        handle = monitor.create(
            monitor.MonitorRequest(
                container_id=record.id,
                name=record.name,
                bundle=paths.run(record.id),
                runtime=client.runtime,
                runtime_root=str(paths.runtime_state),
                run_dir=paths.run(record.id),
                log_path=paths.container(record.id) / "container.log",
                tty=record.config.tty,
                stdin_open=record.config.stdin_open,
                exit_command=exit_command(at.engine, record.id),
            ),
            meanwhile=at.meanwhile,
        )
        record.pid, record.pid_start = handle.pid, processes.start_time(handle.pid)
        record.monitor_pid, record.monitor_start = handle.monitor_pid, processes.start_time(handle.monitor_pid)
        if at.connect is not None:
            at.connect(handle)
        client.start(record.id)
        if at.filter is not None:
            seccomp_cache.keep(at.filter, paths.runtime_state / record.id / "seccomp.bpf")

    def release(self, at: Starting) -> None:
        """End every process of the container and the runtime's memory of it."""
        at.engine.runtime(at.record).delete(at.record.id, force=True)
        exit_code(at.engine, at.record)  # what the monitor still writes must not meet the run directory of a next start


STEPS: tuple[Step, ...] = (RunDirectory(), Rootfs(), Volumes(), Network(), Bundle(), Process())


def exit_code(engine: Engine, record: ContainerRecord) -> int | None:
    """Return the exit code the monitor wrote, waiting for its report if the process has only just ended.

    Not for the end of the monitor: that waits for its exit command, which may be this very process.

    :return: ``None`` if the monitor was killed, or did not report in time.
    """
    from plugrun.oci import monitor

    deadline = time.monotonic() + _REPORT_SECONDS
    while True:
        live = processes.alive(record.monitor_pid, record.monitor_start)
        code = monitor.exit_code(engine.paths.run(record.id), record.id)
        if code is not None or not live or time.monotonic() > deadline:
            return code
        time.sleep(0.002)
