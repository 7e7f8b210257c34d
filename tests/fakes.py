"""Small drivers for tests: correct ones, simple on purpose, that a test may break in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from plain_copies import DirStorage
from plugrun.api import Attachment, DriverError, DriverSpec, NamespacePlan, NetResult, New, hookimpl


def spec(name: str = "fake", **changes: Any) -> DriverSpec[Any]:
    """Return a declaration that works, with changes."""
    fields: dict[str, Any] = {"factory": lambda state_dir, options: DirStorage(state_dir), "probe": lambda _: None}
    return DriverSpec(name, **{**fields, **changes})


def plugin(**hooks: Any) -> SimpleNamespace:
    """Return a plugin whose hooks answer what is given: ``plugin(plugrun_storage_drivers=lambda: [spec()])``."""
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


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
