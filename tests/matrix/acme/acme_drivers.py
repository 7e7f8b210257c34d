"""A third party's two drivers: storage as plain copies, and a network of two: the host and the container.

Each test installs them in an environment of its own, as a distribution of which the engine has never heard.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from plugrun.api import (
    AlreadyExists,
    ApiVersion,
    Attachment,
    Drift,
    DriverError,
    DriverSpec,
    FailedPrecondition,
    Mount,
    NamespacePlan,
    NetResult,
    NetworkDriver,
    New,
    NotFound,
    SnapshotInfo,
    SnapshotKind,
    StorageDriver,
    Usage,
    hookimpl,
)


class Copies:
    """Every snapshot is a directory ``KIND@KEY@PARENT`` with a copy of its parent."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def prepare(self, key: str, parent: str | None) -> Sequence[Mount]:
        return self.make(SnapshotKind.ACTIVE, key, parent)

    def view(self, key: str, parent: str | None) -> Sequence[Mount]:
        return self.make(SnapshotKind.VIEW, key, parent)

    def make(self, kind: SnapshotKind, key: str, parent: str | None) -> Sequence[Mount]:
        with contextlib.suppress(NotFound):
            self.stat(key)
            raise AlreadyExists(f"snapshot {key!r} exists")
        place = self.state / f"{kind}@{key}@{parent or ''}"
        place.mkdir(mode=0o755)
        if parent:
            subprocess.run(["cp", "-a", f"{self.place(parent)}/.", str(place)], check=True)
        return self.mounts(key)

    def mounts(self, key: str) -> Sequence[Mount]:
        kind = self.stat(key).kind
        if kind is SnapshotKind.COMMITTED:
            raise NotFound(f"no active snapshot or view {key!r}")
        return [Mount("bind", str(self.place(key)), ("ro",) if kind is SnapshotKind.VIEW else ("rw",))]

    def commit(self, name: str, key: str) -> None:
        place = self.place(key)
        place.rename(self.state / f"{SnapshotKind.COMMITTED}@{name}@{place.name.split('@')[2]}")

    def remove(self, key: str) -> None:
        if any(other.parent == key for other in self.walk()):
            raise FailedPrecondition(f"{key!r} has children")
        shutil.rmtree(self.place(key))

    def place(self, key: str) -> Path:
        for found in self.state.glob(f"*@{key}@*"):
            return found
        raise NotFound(f"no snapshot {key!r}")

    def stat(self, key: str) -> SnapshotInfo:
        kind, name, parent = self.place(key).name.split("@")
        return SnapshotInfo(name, SnapshotKind(kind), parent or None)

    def walk(self) -> Iterator[SnapshotInfo]:
        return (self.stat(place.name.split("@")[1]) for place in self.state.glob("*@*@*"))

    def usage(self, key: str) -> Usage:
        return Usage(sum(one.lstat().st_blocks * 512 for one in self.place(key).rglob("*")), 0)

    def close(self) -> None:
        pass


class Pair:
    """A veth pair for each container, named after it; the host's end is the gateway of a subnet of two."""

    def namespace(self, target: str | None) -> NamespacePlan:
        return New()

    def setup(self, at: Attachment) -> NetResult:
        device, number = self.device(at.container_id), int(at.container_id[:2], 16)
        gateway, address = (f"10.222.{number}.{last}" for last in (1, 2))
        run("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", str(at.netns))
        run("ip", "address", "add", f"{gateway}/30", "dev", device)
        run("ip", "link", "set", device, "up")
        inside = ("nsenter", f"--net={at.netns}", "ip")
        run(*inside, "address", "add", f"{address}/30", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", "default", "via", gateway)
        return NetResult((f"{address}/30",))

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        self.delete(self.device(at.container_id))

    def check(self, at: Attachment, prev: NetResult) -> None:
        if self.device(at.container_id) not in devices():
            raise Drift(self.device(at.container_id), "none")

    def gc(self, valid: frozenset[str]) -> None:
        wanted = {self.device(container) for container in valid}
        for device in devices():
            if device.startswith("acme") and device not in wanted:
                self.delete(device)

    def close(self) -> None:
        pass

    def device(self, container: str) -> str:
        return f"acme{container[:8]}"

    def delete(self, device: str) -> None:
        if device in devices():
            run("ip", "link", "delete", device)


def devices() -> set[str]:
    return {str(one["ifname"]) for one in json.loads(run("ip", "-json", "link"))}


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DriverError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


@hookimpl
def plugrun_storage_drivers() -> Iterable[DriverSpec[StorageDriver]]:
    return [DriverSpec("acme-copies", lambda state, _: Copies(state), works, api=ApiVersion(1, 0), priority=-9)]


@hookimpl
def plugrun_network_drivers() -> Iterable[DriverSpec[NetworkDriver]]:
    return [DriverSpec("acme-pair", lambda _state, _: Pair(), works, api=ApiVersion(1, 0), priority=-9)]


def works(_: Path) -> None:
    return None
