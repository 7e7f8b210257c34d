"""Containers by hand: a busybox root file system, a minimal OCI bundle, and the engine's monitor and runtime client."""

from __future__ import annotations

import contextlib
import json
import os
import select
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from plugrun.oci import attach, monitor
from plugrun.oci.runtime import Runtime, RuntimeClient

BUSYBOX = "/bin/busybox"
APPLETS = (
    "sh",
    "cat",
    "echo",
    "false",
    "grep",
    "head",
    "id",
    "kill",
    "ls",
    "printf",
    "pwd",
    "readlink",
    "seq",
    "sleep",
    "stty",
    "true",
    "tty",
    "yes",
    "env",
)
DEADLINE = 30.0
CAPABILITIES = ["CAP_KILL", "CAP_CHOWN"]


def make_rootfs(directory: Path) -> Path:
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (directory / name).mkdir(parents=True)
    (directory / "bin" / "busybox").write_bytes(Path(BUSYBOX).read_bytes())
    (directory / "bin" / "busybox").chmod(0o755)
    for applet in APPLETS:
        (directory / "bin" / applet).symlink_to("busybox")
    (directory / "etc" / "plain").write_text("not executable\n")
    return directory


def config(args: list[str], *, tty: bool = False, **process: Any) -> dict[str, Any]:
    """Return the smallest config.json that both runtimes take."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": tty,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/bin", "COLOR=red"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "noNewPrivileges": True,
            **process,
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=64k"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["newinstance", "ptmxmode=0666"],
            },
        ],
        "linux": {
            "cgroupsPath": f"/plugrun-test-{os.urandom(4).hex()}",
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
        },
    }


@dataclass
class Container:
    """One container in a directory of its own."""

    directory: Path
    runtime: Runtime
    id: str = field(default_factory=lambda: os.urandom(32).hex())
    handle: monitor.MonitorHandle | None = None
    ended: int = -1
    tty: bool = False

    @property
    def run_dir(self) -> Path:
        return self.directory / "run"

    @property
    def log(self) -> Path:
        return self.directory / "log" / "container.log"

    @property
    def client(self) -> RuntimeClient:
        return RuntimeClient(self.runtime, str(self.directory / "runtime"))

    def request(self, **options: Any) -> monitor.MonitorRequest:
        values: dict[str, Any] = {
            "container_id": self.id,
            "name": "test",
            "bundle": self.run_dir,
            "runtime": self.runtime,
            "runtime_root": self.client.state_root,
            "run_dir": self.run_dir,
            "log_path": self.log,
            "tty": self.tty,
            "stdin_open": False,
        }
        return monitor.MonitorRequest(**{**values, **options})

    def create(self, *args: str, tty: bool = False, process: dict[str, Any] | None = None, **options: Any) -> Container:
        self.tty = tty
        (self.run_dir / "config.json").write_text(json.dumps(config(list(args), tty=tty, **(process or {}))))
        self.handle = monitor.create(self.request(**options))
        self.ended = os.pidfd_open(self.handle.monitor_pid)
        return self

    def start(self) -> Container:
        self.client.start(self.id)
        return self

    def wait(self) -> int | None:
        """Wait for the monitor's end and return the exit code."""
        assert readable(self.ended), "the monitor did not end"
        return monitor.exit_code(self.run_dir, self.id)

    def output(self) -> tuple[bytes, bytes, attach.Outcome]:
        """Start it attached and return what it writes."""
        with Sink() as out, Sink() as err, monitor.connect(self.run_dir) as sock:
            self.start()
            outcome = self.attach(sock, stdout=out.write_end, stderr=err.write_end)
            return out.content(), err.content(), outcome

    def attach(self, sock: Any, **options: Any) -> attach.Outcome:
        values: dict[str, Any] = {"stdin": None, "tty": self.tty, "detach_keys": b"\x10\x11", "ended": self.ended}
        return attach.attach(sock, **{**values, **options})

    def remove(self) -> None:
        self.client.delete(self.id, force=True)
        if self.ended >= 0:
            assert readable(self.ended), "the monitor outlives its container"
            os.close(self.ended)
            self.ended = -1


@contextlib.contextmanager
def container(directory: Path, runtime: Runtime) -> Iterator[Container]:
    made = Container(directory, runtime)
    for place in (made.run_dir, made.log.parent, directory / "runtime"):
        place.mkdir(mode=0o700)
    make_rootfs(made.run_dir / "rootfs")
    try:
        yield made
    finally:
        made.remove()


def readable(descriptor: int, seconds: float = DEADLINE) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class Sink:
    """A pipe whose reader keeps everything, or only counts it; it does not read before it is let go, if told so."""

    def __init__(self, *, held: bool = False, keep: bool = True) -> None:
        self._keep = keep
        self.count = 0
        self.read_end, self.write_end = os.pipe()
        self._go = threading.Event()
        if not held:
            self._go.set()
        self._content = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.content()
        os.close(self.read_end)

    def release(self) -> None:
        self._go.set()

    def seen(self) -> bytes:
        """Return what has come so far."""
        return bytes(self._content)

    def content(self) -> bytes:
        """Close our end and return what came."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1
        self._go.set()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        return bytes(self._content)

    def _read(self) -> None:
        self._go.wait()
        while chunk := os.read(self.read_end, 65536):
            self.count += len(chunk)
            if self._keep:
                self._content += chunk
