"""Small drivers for tests: correct ones, simple on purpose, that a test may break in one place."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from plugrun.api import (
    AlreadyExists,
    Attachment,
    Drift,
    DriverError,
    DriverSpec,
    FailedPrecondition,
    Mount,
    NamespacePlan,
    NetResult,
    New,
    NotFound,
    SnapshotInfo,
    SnapshotKind,
    Usage,
    hookimpl,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def spec(name: str = "fake", **changes: Any) -> DriverSpec[Any]:
    """Return a declaration that works, with changes."""
    fields: dict[str, Any] = {"factory": lambda state_dir, options: DirStorage(state_dir), "probe": lambda _: None}
    return DriverSpec(name, **{**fields, **changes})


def plugin(**hooks: Any) -> SimpleNamespace:
    """Return a plugin whose hooks answer what is given: ``plugin(plugrun_storage_drivers=lambda: [spec()])``."""
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


class DirStorage:
    """Snapshots as full copies, one directory each: ``KIND/KEY/{fs,parent}``."""

    def __init__(self, state_dir: Path) -> None:
        self.state = state_dir
        for place in (*SnapshotKind, "staging"):
            (self.state / place).mkdir(mode=0o700, exist_ok=True)

    def prepare(self, key: str, parent: str | None) -> Sequence[Mount]:
        self.make(SnapshotKind.ACTIVE, key, parent)
        return self.mounts(key)

    def view(self, key: str, parent: str | None) -> Sequence[Mount]:
        self.make(SnapshotKind.VIEW, key, parent)
        return self.mounts(key)

    def mounts(self, key: str) -> Sequence[Mount]:
        kind = self.stat(key).kind
        if kind is SnapshotKind.COMMITTED:
            raise NotFound(f"no active snapshot or view {key!r}")
        return [Mount("bind", str(self.place(kind, key) / "fs"), ("ro",) if kind is SnapshotKind.VIEW else ("rw",))]

    def commit(self, name: str, key: str) -> None:
        with self.locked():
            kind = self.stat(key).kind
            if kind is SnapshotKind.VIEW:
                raise FailedPrecondition(f"{key!r} is a view")
            if kind is SnapshotKind.COMMITTED:
                raise NotFound(f"no active snapshot {key!r}")
            self.check_free(name)
            self.place(kind, key).rename(self.place(SnapshotKind.COMMITTED, name))

    def remove(self, key: str) -> None:
        with self.locked():
            info = self.find(key)
            children = sorted(other.name for other in self.walk() if other.parent == key)
            if children:
                raise FailedPrecondition(f"{key!r} has children: {', '.join(children)}")
            if info is not None:
                self.place(info.kind, key).rename(self.state / "staging" / f"removed@{key}")
            self.clear_staging(required=key)

    def stat(self, key: str) -> SnapshotInfo:
        info = self.find(key)
        if info is None:
            raise NotFound(f"no snapshot {key!r}")
        return info

    def walk(self) -> Iterator[SnapshotInfo]:
        for kind in SnapshotKind:
            for place in sorted((self.state / kind).iterdir()):
                with contextlib.suppress(NotFound):
                    yield self.stat(place.name)

    def usage(self, key: str) -> Usage:
        info = self.stat(key)
        own = measure(self.place(info.kind, key) / "fs")
        base = measure(self.place(SnapshotKind.COMMITTED, info.parent) / "fs") if info.parent else Usage(0, 0)
        return Usage(max(own.size - base.size, 0), max(own.inodes - base.inodes, 0))

    def close(self) -> None:
        pass

    def gc(self, valid: frozenset[str]) -> None:
        with self.locked():
            self.clear_staging()

    # --- Steps, to be broken --------------------------------------------------------------------------------------

    def make(self, kind: SnapshotKind, key: str, parent: str | None) -> None:
        with self.locked():
            self.check_free(key)
            self.check_parent(parent)
            staging = self.state / "staging" / f"making@{key}"
            if staging.exists():
                remove_tree(staging)
            self.build(staging, parent)
            staging.rename(self.place(kind, key))

    def build(self, at: Path, parent: str | None) -> None:
        at.mkdir(mode=0o700)
        if parent is None:
            (at / "fs").mkdir()
            (at / "fs").chmod(0o755)
        else:
            (at / "parent").write_text(parent)
            self.copy(self.place(SnapshotKind.COMMITTED, parent) / "fs", at / "fs")

    def copy(self, source: Path, target: Path) -> None:
        subprocess.run(["cp", "-a", "--", str(source), str(target)], check=True)

    def check_free(self, key: str) -> None:
        if self.find(key) is not None:
            raise AlreadyExists(f"snapshot {key!r} exists")

    def check_parent(self, parent: str | None) -> None:
        if parent is not None and not self.place(SnapshotKind.COMMITTED, parent).is_dir():
            raise NotFound(f"no committed snapshot {parent!r}")

    def find(self, key: str) -> SnapshotInfo | None:
        for kind in SnapshotKind:
            place = self.place(kind, key)
            if place.is_dir():
                try:
                    return SnapshotInfo(key, kind, (place / "parent").read_text())
                except FileNotFoundError:
                    if place.is_dir():
                        return SnapshotInfo(key, kind, None)
                    return self.find(key)  # committed or removed just now
        return None

    def place(self, kind: SnapshotKind, key: str) -> Path:
        return self.state / kind / key

    def clear_staging(self, required: str | None = None) -> None:
        found = [path for path in (self.state / "staging").iterdir() if required in {None, path.name.partition("@")[2]}]
        if required and not found:
            raise NotFound(f"no snapshot {required!r}")
        for path in found:
            remove_tree(path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        descriptor = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Delete a tree however deep it is."""
    subprocess.run(["rm", "-rf", "--", str(path)], check=True)


def measure(path: Path) -> Usage:
    """Count as du(1) does, hard links once."""
    output = subprocess.run(
        ["find", str(path), "-mindepth", "1", "-printf", "%i %b\n"], check=True, capture_output=True, text=True
    ).stdout
    blocks = dict(line.split() for line in output.splitlines())
    return Usage(sum(int(count) * 512 for count in blocks.values()), len(blocks))


class VethNetwork:
    """A veth pair into each container's namespace; the host's end is named after the container."""

    def __init__(self, state_dir: Path) -> None:
        self.state = state_dir

    def namespace(self, target: str | None) -> NamespacePlan:
        return New()

    def setup(self, at: Attachment) -> NetResult:
        number = int(at.container_id[-3:], 16)
        address = f"10.99.{number % 256}.2/24"
        try:
            ip("link", "add", self.device(at), "type", "veth", "peer", "name", "eth0", "netns", str(at.netns))
            enter(at, "ip", "addr", "add", address, "dev", "eth0")
            enter(at, "ip", "link", "set", "eth0", "up")
        except subprocess.CalledProcessError as error:
            raise DriverError(f"cannot make an endpoint for {at.hostname}") from error
        return NetResult((address,), {"device": self.device(at)})

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        self.delete(self.device(at))

    def check(self, at: Attachment, prev: NetResult) -> None:
        try:
            found = enter(at, "ip", "-json", "addr", "show", "dev", "eth0")
        except (subprocess.CalledProcessError, ValueError):
            raise Drift("eth0", "none") from None
        addresses = [f"{one['local']}/{one['prefixlen']}" for one in json.loads(found)[0]["addr_info"]]
        if prev.addresses[0] not in addresses:
            raise Drift(prev.addresses[0], ", ".join(addresses))

    def gc(self, valid: frozenset[str]) -> None:
        wanted = {self.device(Attachment(container_id, "", None)) for container_id in valid}
        for device in devices():
            if device.startswith("fake") and device not in wanted:
                self.delete(device)

    def device(self, at: Attachment) -> str:
        return f"fake{at.container_id[-8:]}"

    def delete(self, device: str) -> None:
        if device in devices():
            done = subprocess.run(["ip", "link", "del", device], capture_output=True, text=True, check=False)
            # the kernel may have been faster: it deletes the pair with the container's namespace, in its own time
            if done.returncode != 0 and device in devices():
                raise DriverError(f"cannot delete {device}: {done.stderr.strip()}")


def devices() -> set[str]:
    """Return the network interfaces of this namespace."""
    return {line.partition(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]}


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def enter(at: Attachment, *command: str) -> str:
    if at.netns is None:
        raise ValueError("no namespace to enter")
    return subprocess.run(["nsenter", f"--net={at.netns}", *command], check=True, capture_output=True, text=True).stdout


@dataclass
class RecordingNetwork:
    """Does nothing and writes down what it was asked, for transcripts of a lifecycle.

    :param fail: methods that raise :class:`DriverError`.
    """

    plan: NamespacePlan = field(default_factory=New)
    fail: frozenset[str] = frozenset()
    log: list[str] = field(default_factory=list)

    def record(self, method: str) -> None:
        self.log.append(method)
        if method in self.fail:
            raise DriverError(f"{method} was told to fail")

    def namespace(self, target: str | None) -> NamespacePlan:
        self.record("namespace")
        return self.plan

    def setup(self, at: Attachment) -> NetResult:
        self.record("setup")
        return NetResult()

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        self.record("teardown")

    def check(self, at: Attachment, prev: NetResult) -> None:
        self.record("check")

    def gc(self, valid: frozenset[str]) -> None:
        self.record("gc")
