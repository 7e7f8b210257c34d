"""The container network driver: a namespace is shared, and nothing in it is made, changed or removed."""

from __future__ import annotations

import os

from plugrun.api import (
    Attachment,
    Drift,
    Existing,
    FailedPrecondition,
    InvalidArgument,
    Join,
    NamespacePlan,
    NetResult,
)
from plugrun_net_container import PATH_PREFIX


class SharingDriver:
    """Whoever owns the namespace decides what is in it; this driver only remembers which one it was."""

    def namespace(self, target: str | None) -> NamespacePlan:
        """Ask for another container's namespace, or for the one that a path leads to.

        :raises InvalidArgument: neither is named.
        """
        if not target:
            raise InvalidArgument(
                f"the container network needs the name of a container, got {target!r}",
                hint="write --net container:NAME",
            )
        if target.startswith(PATH_PREFIX):
            return Existing(target.removeprefix(PATH_PREFIX))
        return Join(target)

    def setup(self, at: Attachment) -> NetResult:
        """Remember which namespace it is.

        :raises FailedPrecondition: it is gone already.
        """
        found = _identity(at.netns)
        if found is None:
            raise FailedPrecondition(
                f"there is no network namespace at {at.netns} to share", hint="start its container first"
            )
        return NetResult(data={"namespace": found})

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        """Do nothing: the namespace is somebody else's."""

    def check(self, at: Attachment, prev: NetResult) -> None:
        """See that the namespace is still the one that was joined.

        :raises Drift: its owner has ended, or was started again since and has another one.
        """
        expected, found = prev.data.get("namespace"), _identity(at.netns)
        if found is None or found != expected:
            raise Drift(f"the network namespace {expected} of {at.target}", found or "none: its owner has ended")

    def gc(self, valid: frozenset[str]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _identity(path: str | None) -> str | None:
    """Return what tells a namespace from all others while it lives (namespaces(7)); ``None`` if there is none."""
    try:
        found = os.stat(path) if path else None
    except FileNotFoundError:
        return None
    return f"{found.st_dev}:{found.st_ino}" if found else None
