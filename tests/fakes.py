"""Small drivers for tests: correct ones, simple on purpose, that a test may break in one place."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from plain_copies import DirStorage
from plugrun.api import Attachment, Drift, DriverError, DriverSpec, NamespacePlan, NetResult, New, hookimpl


def spec(name: str = "fake", **changes: Any) -> DriverSpec[Any]:
    """Return a declaration that works, with changes."""
    fields: dict[str, Any] = {"factory": lambda state_dir, options: DirStorage(state_dir), "probe": lambda _: None}
    return DriverSpec(name, **{**fields, **changes})


def plugin(**hooks: Any) -> SimpleNamespace:
    """Return a plugin whose hooks answer what is given: ``plugin(plugrun_storage_drivers=lambda: [spec()])``."""
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


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

    def close(self) -> None:
        self.record("close")
